"""A document's life in words, from what the parts really write."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from gateway import access, clock, evidence
from gateway.access import Actor, Role
from gateway.config import DeliverySettings
from gateway.delivery import dry_run, orders, outbox
from gateway.delivery.outbox import Result
from gateway.domain.deliveries import Attempt, Delivery
from gateway.domain.documents import Document, Seal
from gateway.domain.folders import Entry, Folder
from gateway.domain.ledger import PersonalValue
from gateway.domain.parties import Client, Contract, ContractType, Mailbox
from gateway.domain.states import DELIVERY_MOVES, Channel, DeliveryState, DocumentState, Kind, Nature
from gateway.dossier import explain
from gateway.dossier.explain import Life
from gateway.errors import NotFound
from gateway.store.database import Database, Transaction

PARIS = ZoneInfo("Europe/Paris")
AT = dt.datetime(2026, 9, 1, 22, 30, tzinfo=dt.UTC)  # already the 2nd in Paris
ADMIN = Actor("cli:test", "operator", None, Role.ADMIN)


class Case:
    """One sealed invoice with a delivery by mail and one in a folder."""

    def __init__(self, tx: Transaction) -> None:
        client = Client(name="Apuron", name_key="apuron", created_at=AT)
        contract = Contract(number="C-1", type=ContractType.CARD_S, type_name="", created_at=AT)
        tx.add_all([client, contract])
        tx.flush()
        self.folder = Folder(client_id=client.id, user_name="apuron", formats=["pdf"], created_at=AT)
        self.box = Mailbox(client_id=client.id, address="a@apuron.example", created_at=AT)
        self.document = Document(
            kind=Kind.INVOICE, number="F-1", issue_date=dt.date(2026, 9, 1), type_code="380", seller="123456782",
            key="k", contract_id=contract.id, client_id=client.id, nature=Nature.ORIGINAL,
            nature_reason="subscribed on 2026-09-01", state=DocumentState.SEALED, received_sha256="0" * 64,
            received_size=9, received_at=AT, source="api", facts={}, updated_at=AT,
        )  # fmt: skip
        tx.add_all([self.folder, self.box, self.document])
        tx.flush()
        self.mail = self._delivery(Channel.EMAIL, self.box.id)
        self.published = self._delivery(Channel.FOLDER, self.folder.id)
        tx.add_all([self.mail, self.published])
        tx.flush()

    def _delivery(self, channel: Channel, destination: str) -> Delivery:
        return Delivery(
            document_id=self.document.id, client_id=self.document.client_id or "", channel=channel,
            destination=destination, state=DeliveryState.PLANNED, retry_since=AT, created_at=AT, updated_at=AT,
        )  # fmt: skip


def _told(db: Database, case: Case) -> Life:
    return db.read(lambda tx: explain.explain(tx, case.document.id, PARIS))


def test_an_unknown_document_has_no_life(database: Database) -> None:
    """404, not an empty page."""
    with pytest.raises(NotFound):
        database.read(lambda tx: explain.explain(tx, "doc_" + "0" * 26, PARIS))


def test_the_past_is_told_in_order_with_the_issuers_day(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instant is UTC, a day is the issuer's: late in the evening they differ."""
    monkeypatch.setattr(clock, "now", lambda: AT)
    monkeypatch.setattr("gateway.store.database.now", lambda tx: AT)

    def step(tx: Transaction) -> Case:
        case = Case(tx)
        evidence.record(tx, "document.waiting", case.document.id, document=case.document.id, reason="no key")
        evidence.record(tx, "delivery.planned", case.mail.id, document=case.document.id, again=0)
        return case

    told = _told(database, database.write(step))
    assert [(moment.at, moment.day, moment.text) for moment in told.moments] == [
        (AT, dt.date(2026, 9, 2), "Waits to be sealed: no key."),
        (AT, dt.date(2026, 9, 2), "Planned for mailbox a@apuron.example."),
    ]
    assert told.about[:3] == (
        "Invoice F-1 of 2026-09-01, seller 123456782",
        "Contract C-1, client Apuron",
        "Nature: original (subscribed on 2026-09-01)",
    )


def test_tokens_are_named_and_erased_people_stay_erased(database: Database) -> None:
    """An id says nothing to a reader; an erased value must not come back through the ledger."""

    def step(tx: Transaction) -> Case:
        case = Case(tx)
        token, _ = access.create_token(tx, ADMIN, "billing", "operator:operator")
        tx.execute(sa.update(Delivery).where(Delivery.id == case.mail.id).values(state="failed"))  # type: ignore[arg-type]
        tx.expire_all()
        orders.retry(tx, case.mail.id, token.id)
        address = evidence.personal(tx, "address", "192.0.2.7")
        facts: dict[str, Any] = {"key": "SHA256:k", "address": address, "target": "/done/x.pdf"}
        evidence.record(tx, "entry.renamed", case.published.id, document=case.document.id, **facts)
        return case

    case = database.write(step)
    texts = [moment.text for moment in _told(database, case).moments]
    assert texts == [
        "Token billing asked for another try for mailbox a@apuron.example.",
        "Renamed in folder apuron by key SHA256:k from 192.0.2.7 to /done/x.pdf.",
    ]
    database.write(lambda tx: tx.execute(sa.update(PersonalValue).values(value=None, lookup=None)))
    database.write(lambda tx: tx.execute(sa.update(Mailbox).values(address=None)))
    text = str(_told(database, case))
    assert "192.0.2.7" not in text
    assert "a@apuron.example" not in text
    assert "from (erased)" in text


def test_mail_under_way_while_its_document_is_withdrawn_is_told_to_the_end(database: Database) -> None:
    """A wrong recipient may have it: cancelled without a word of that would say the opposite."""
    settings = DeliverySettings()
    result = Result("uncertain", "dot", "no answer before the deadline")

    def step(tx: Transaction) -> Case:
        case = Case(tx)
        case.mail.due_at, case.mail.retry_since = AT, clock.now()
        tx.flush()
        (claim,) = outbox.claim(tx, 1, settings.lease_seconds)
        orders.withdraw(tx, case.document.id, ADMIN.id, "wrong recipient")
        outbox.settle(tx, claim, result, settings)
        return case

    texts = [moment.text for moment in _told(database, database.write(step)).moments]
    assert "Mail that had left is not recalled: mailbox a@apuron.example." in texts[-2]
    assert texts[-1] == (
        "Cancelled for mailbox a@apuron.example: the document was withdrawn; the attempt under way ended uncertain: "
        "no answer before the deadline."
    )


def test_a_delivery_that_is_given_up_says_so_in_its_life(database: Database) -> None:
    """The relay's last answer alone does not say why nothing more is tried."""
    settings = DeliverySettings()
    result = Result("deferred", "connect", "no connection")

    def step(tx: Transaction) -> Case:
        case = Case(tx)
        case.mail.due_at = AT
        case.mail.retry_since = AT - dt.timedelta(days=400)
        tx.flush()
        (claim,) = outbox.claim(tx, 1, settings.lease_seconds)
        outbox.settle(tx, claim, result, settings)
        return case

    last = _told(database, database.write(step)).moments[-1]
    assert last.text == "Failed for mailbox a@apuron.example: given up after 72 h: no connection."


def test_where_each_delivery_stands_comes_from_attempts_and_entries(database: Database) -> None:
    """The reply of the last server; who opened what when."""

    def step(tx: Transaction) -> Case:
        case = Case(tx)
        case.mail.state, case.mail.attempts, case.mail.due_at = DeliveryState.DEFERRED, 2, AT
        case.published.state = DeliveryState.PUBLISHED
        for number, reply in ((1, "421 busy"), (2, "450 greylisted")):
            tx.add(Attempt(delivery_id=case.mail.id, number=number, started_at=AT, ended_at=AT, outcome="deferred",
                           relay="mx.example", reply=reply))  # fmt: skip
        tx.add(Entry(folder_id=case.folder.id, delivery_id=case.published.id, document_id=case.document.id,
                     name="x.pdf", name_folded="x.pdf", format="pdf", sha256="0" * 64, size=9, mtime=1, month="2026-09",
                     sequence=4, opened_at=AT))  # fmt: skip
        tx.add(Seal(document_id=case.document.id, sha256="0" * 64, level="B-B", made_by="gateway", signer="CN=Seal",
                    signer_issuer="CN=CA", signer_serial="1", certificate_sha256="0" * 64, sealed_at=AT,
                    verification={}))  # fmt: skip
        return case

    told = _told(database, database.write(step))
    assert [stand.text for stand in told.deliveries] == [
        "attempt 2 ended deferred via mx.example; answer: 450 greylisted",
        "x.pdf (number 4): opened at 2026-09-01 22:30:00 UTC",
    ]
    assert told.next == (
        "To mailbox a@apuron.example: attempt 3 at 2026-09-01 22:30:00 UTC.",
        "In folder apuron: received once the client deletes it after a full read.",
    )
    assert told.about[-1] == "Seal: PAdES B-B by CN=Seal, made by us at 2026-09-01 22:30:00 UTC"


@pytest.mark.parametrize("state", DocumentState)
@pytest.mark.parametrize("nature", [*Nature, None])
def test_every_state_of_a_document_says_what_comes_next(
    database: Database, state: DocumentState, nature: Nature | None
) -> None:
    """Nobody is left with "received" and no idea what to do."""

    def step(tx: Transaction) -> Case:
        case = Case(tx)
        case.document.state, case.document.nature = state, nature
        tx.delete(case.mail)
        tx.delete(case.published)
        return case

    told = _told(database, database.write(step))
    assert len(told.next) == 1
    assert told.next[0].endswith(".")
    if state is DocumentState.QUARANTINED:
        assert "accepts it, rejects it or replaces it" in told.next[0]


def test_an_invoice_without_a_channel_says_what_it_waits_for(database: Database) -> None:
    """Not that its way is complete."""

    def step(tx: Transaction) -> Case:
        case = Case(tx)
        case.document.state, case.document.state_reason = DocumentState.SEALED, "no channel is open"
        tx.delete(case.mail)
        tx.delete(case.published)
        return case

    told = _told(database, database.write(step))
    assert told.next == ("It is delivered once the settings give it a channel (no channel is open).",)


FINAL = {DeliveryState.DELIVERED, DeliveryState.CANCELLED, DeliveryState.RECEIVED, DeliveryState.WITHDRAWN}


@pytest.mark.parametrize(
    ("channel", "state"),
    sorted({(channel, state) for channel, moves in DELIVERY_MOVES.items() for state in moves.values()}),
)
def test_every_state_of_a_delivery_can_be_told(database: Database, channel: Channel, state: DeliveryState) -> None:
    """Open states say what comes next; final ones need not."""

    def step(tx: Transaction) -> Case:
        case = Case(tx)
        moved, other = (case.mail, case.published) if channel is Channel.EMAIL else (case.published, case.mail)
        moved.state = state
        tx.delete(other)
        return case

    told = _told(database, database.write(step))
    (stand,) = told.deliveries
    assert (stand.where in " ".join(told.next)) == (state not in FINAL)


def test_a_dry_run_says_that_nothing_leaves_and_what_its_end_brings(database: Database) -> None:
    """A trial is for reading this."""

    def step(tx: Transaction) -> tuple[str, str]:
        document = Case(tx).document
        return document.id, document.client_id or ""

    document_id, client_id = database.write(step)
    database.write(lambda tx: dry_run.begin(tx, ADMIN, client_id, "trial"))
    life = database.read(lambda tx: explain.explain(tx, document_id, PARIS))
    assert [stand.state for stand in life.deliveries] == ["held", "held"]
    assert all("dry run" in stand.text for stand in life.deliveries)
    assert len(life.next) == 2
    assert all("once the client's dry run ends" in line for line in life.next)
