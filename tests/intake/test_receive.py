"""A document is accepted exactly once, for the holder and in the nature of its day, or refused without a trace."""

import asyncio
import datetime as dt
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.domain.states import Channel, DeliveryState, DocumentState, Kind, Nature
from gateway.errors import Refused, TooLarge, Unavailable
from gateway.intake.accept import Candidate, Outcome
from gateway.intake.receive import Intake
from gateway.parties import registry, subscriptions
from gateway.parties.settings import ByEmail, ByFolder
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests import journey
from tests.intake import makers
from tests.journey import CARD_I, CARD_S, ISSUED, NOT_SUBSCRIBED, OPERATOR, TODAY, Journey, Look, Parties, candidate


class Door(Look):
    """Acceptance alone, on a database."""

    def __init__(self, db: Database, intake: Intake) -> None:
        super().__init__(db)
        self.intake = intake
        self.parties: Parties = journey.declare(db)

    def offer(self, *candidates: Candidate) -> list[Outcome | Refused]:
        return asyncio.run(self.intake.accept(candidates))

    def take(self, one: Candidate) -> Outcome:
        """Accept one that is not refused."""
        answer = self.offer(one)[0]
        assert isinstance(answer, Outcome), answer
        return answer

    def refuses(self, one: Candidate) -> str:
        """The code of the refusal."""
        answer = self.offer(one)[0]
        assert isinstance(answer, Refused), answer
        return answer.code


@pytest.fixture
def door(database: Database, blobs: LocalBlobs) -> Iterator[Door]:
    with journey.intake_on(database, blobs) as intake:
        yield Door(database, intake)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """The whole intake, with its worker processes; shared, so each test has numbers of its own."""
    with journey.opened(tmp_path_factory.mktemp("gateway"), intake={"workers": 1}, seal={"workers": 1}) as made:
        yield made


def test_a_new_document_becomes_a_row_with_its_holder_nature_and_evidence(door: Door) -> None:
    """All in one transaction; due for sealing from now on."""
    answer = door.take(candidate("F1"))
    row = door.document(answer.document_id)
    foundry = door.parties.foundry
    assert (answer.outcome, answer.state, answer.nature) == ("new", DocumentState.RECEIVED, Nature.ORIGINAL)
    assert (row.client_id, row.company_id, row.contract_id) == (
        foundry.client,
        foundry.company,
        foundry.contracts[CARD_S],
    )
    assert (row.key, row.accepted_key) == (f"invoice:{journey.SELLER}:2025:F1",) * 2
    assert row.due_at is not None and row.subscription_id is not None
    assert door.events(document=row.id) == ["document.received"]


def test_the_same_number_with_the_same_bytes_gets_the_same_answer(door: Door) -> None:
    """Idempotent: no second row, no second delivery; the record says that it was asked again."""
    first = door.take(candidate("F1"))
    again = door.take(candidate("F1"))
    assert (again.document_id, again.outcome, again.state) == (first.document_id, "again", first.state)
    assert len(door.documents()) == 1
    assert door.events(document=first.document_id) == ["document.received", "document.submitted_again"]


def test_the_same_number_with_other_bytes_is_quarantined_and_the_first_stays(door: Door) -> None:
    """Nothing that was accepted is ever replaced by what comes later."""
    first = door.take(candidate("F1"))
    other = door.take(candidate("F1", b"other bytes"))
    assert (other.outcome, other.state) == ("quarantined", DocumentState.QUARANTINED)
    assert first.document_id in other.reason
    kept, second = door.document(first.document_id), door.document(other.document_id)
    assert (kept.state, kept.accepted_key) == (DocumentState.RECEIVED, kept.key)
    assert (second.accepted_key, second.nature, second.due_at) == (None, None, None)
    assert door.events(document=second.id) == ["document.received", "document.quarantined"]


def test_a_quarantined_one_gets_the_same_answer_again(door: Door) -> None:
    """A producer that repeats itself does not fill the quarantine."""
    door.take(candidate("F1"))
    other = door.take(candidate("F1", b"other"))
    again = door.take(candidate("F1", b"other"))
    assert (again.document_id, again.outcome) == (other.document_id, "quarantined")
    assert len(door.documents()) == 2


def test_the_same_number_twice_in_one_batch_is_seen(door: Door) -> None:
    """The rows of the batch are not in the database yet."""
    first, again, other = door.offer(candidate("F1"), candidate("F1"), candidate("F1", b"other"))
    assert isinstance(first, Outcome) and isinstance(again, Outcome) and isinstance(other, Outcome)
    assert (first.outcome, again.outcome, other.outcome) == ("new", "again", "quarantined")
    assert first.document_id == again.document_id


def test_a_number_is_used_again_in_another_year(door: Door) -> None:
    """Many issuers start their numbers anew each January."""
    first = door.take(candidate("F1"))
    second = door.take(candidate("F1", b"of the next year", issue_date=dt.date(2026, 3, 3)))
    assert second.outcome == "new" and second.document_id != first.document_id


def test_two_gateways_that_accept_one_number_at_once_accept_it_once(door: Door) -> None:
    """The unique key decides; the one that lost looks again and finds the other's row."""
    start = threading.Barrier(4)
    answers: list[Outcome | Refused] = []

    def gateway(name: int) -> None:
        start.wait()
        answers.extend(door.offer(candidate("F1", f"bytes {name % 2}".encode())))

    threads = [threading.Thread(target=gateway, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = sorted(answer.outcome for answer in answers if isinstance(answer, Outcome))
    assert len(outcomes) == 4 and outcomes.count("new") == 1
    assert [row.accepted_key is not None for row in door.documents()].count(True) == 1


def test_two_gateways_that_quarantine_the_same_bytes_at_once_keep_them_once(door: Door) -> None:
    """What waits in quarantine holds no number: here an index over its bytes decides."""
    start = threading.Barrier(4)
    answers: list[Outcome | Refused] = []

    def gateway() -> None:
        start.wait()
        answers.extend(door.offer(candidate("F1", quarantine="it has JavaScript in it")))

    threads = [threading.Thread(target=gateway) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [answer.document_id for answer in answers if isinstance(answer, Outcome)]
    assert len(ids) == 4
    assert [row.id for row in door.documents()] == list(set(ids))


def test_a_seller_that_is_not_served_is_refused(door: Door) -> None:
    """An invoice of another company must not leave under this issuer's seal."""
    assert door.refuses(candidate("F1", seller="123456782")) == "unknown_seller"


def test_an_unknown_contract_is_refused(door: Door) -> None:
    assert door.refuses(candidate("F1", contract="CARD-S-999999")) == "unknown_contract"


def test_a_contract_of_another_company_than_the_buyer_is_refused(door: Door) -> None:
    """Another client would read it."""
    assert door.refuses(candidate("F1", buyer=door.parties.solar.siren)) == "other_company"
    assert door.take(candidate("F2", buyer=door.parties.foundry.siren)).outcome == "new"


def test_a_contract_that_nobody_held_on_the_issue_date_is_refused(door: Door) -> None:
    """The holder of today has no right to what was issued before."""
    begins = dt.date(2025, 2, 1)
    siren = door.parties.foundry.siren
    door.db.write(lambda tx: registry.create_contract(tx, OPERATOR, "LATER", "CARD_S", siren, begins, today=TODAY))
    day_before = dt.date(2025, 1, 31)
    assert door.refuses(candidate("F1", contract="LATER", issue_date=day_before)) == "contract_without_holder"
    assert door.take(candidate("F1", contract="LATER", issue_date=begins)).outcome == "new"


def test_a_document_belongs_to_the_holder_on_its_issue_date(door: Door) -> None:
    """The company moved to another client the day after."""
    foundry, solar = door.parties.foundry, door.parties.solar
    moved = dt.date(2025, 3, 4)
    door.db.write(lambda tx: registry.move_company(tx, OPERATOR, foundry.company, solar.client, moved, today=moved))
    before = door.document(door.take(candidate("F1", issue_date=ISSUED)).document_id)
    after = door.document(door.take(candidate("F2", issue_date=moved)).document_id)
    assert (before.client_id, after.client_id) == (foundry.client, solar.client)


def test_a_batch_answers_each_for_itself(door: Door) -> None:
    """One refusal among many stops no other; the answers keep the order."""
    offered = [
        candidate("F1"),
        candidate("F2", seller="123456782"),
        candidate("F3", contract="NO-SUCH"),
        candidate("F4", contract=CARD_I),
        candidate("F5", contract=CARD_I, buyer=door.parties.foundry.siren),
        candidate("F1", b"other"),
    ]
    answers = door.offer(*offered)
    said = [answer.outcome if isinstance(answer, Outcome) else answer.code for answer in answers]
    assert said == ["new", "unknown_seller", "unknown_contract", "new", "other_company", "quarantined"]
    assert len(door.documents()) == 3
    refused = door.facts("document.refused")
    assert [fact["code"] for fact in refused] == ["unknown_seller", "unknown_contract", "other_company"]
    assert [fact["sha256"] for fact in refused] == [offered[n].blob.sha256 for n in (1, 2, 4)]


def test_the_order_of_acceptance_is_the_order_of_the_ids(door: Door) -> None:
    """Sealing and publishing go by it; which of a batch was read first says nothing."""
    offered = [candidate(f"F{n}") for n in range(5)]
    answers = door.offer(*reversed(offered))
    assert [row.number for row in door.documents()] == ["F4", "F3", "F2", "F1", "F0"]
    assert all(isinstance(answer, Outcome) and answer.outcome == "new" for answer in answers)


def test_an_empty_batch_is_nothing(door: Door) -> None:
    assert door.offer() == []


def test_without_a_subscription_on_the_issue_date_it_is_a_duplicate(door: Door) -> None:
    """The issuer's own document is the original: nothing to seal, nothing to deliver."""
    outside = door.document(door.take(candidate("F1", contract=NOT_SUBSCRIBED)).document_id)
    early = door.document(door.take(candidate("F2", issue_date=dt.date(2024, 12, 31))).document_id)
    for row in (outside, early):
        assert (row.nature, row.state, row.due_at) == (Nature.DUPLICATE, DocumentState.RECEIVED, None)
        assert "no subscription" in row.nature_reason
    assert door.deliveries() == []


def test_the_first_and_the_last_day_of_a_subscription_give_originals(door: Door) -> None:
    """Both days belong to it; the day after does not."""
    first = door.document(door.take(candidate("F1", issue_date=journey.SUBSCRIBED_FROM)).document_id)
    last = dt.date(2025, 6, 30)
    assert first.subscription_id is not None
    subscription = first.subscription_id
    door.db.write(lambda tx: subscriptions.end(tx, OPERATOR, [subscription], last, today=TODAY))
    natures = [door.take(candidate(f"L{day}", issue_date=last + dt.timedelta(days=day))).nature for day in (0, 1)]
    assert [first.nature, *natures] == [Nature.ORIGINAL, Nature.ORIGINAL, Nature.DUPLICATE]


def test_a_platform_copy_is_sealed_and_delivered_but_no_original(door: Door) -> None:
    """The original is what the platform delivered, from the day on that is entered."""
    contract, day = door.parties.foundry.contracts[CARD_S], dt.date(2025, 9, 1)
    door.db.write(lambda tx: subscriptions.set_original_channel(tx, OPERATOR, contract, "platform", day))
    before = door.take(candidate("F1", issue_date=day - dt.timedelta(days=1)))
    after = door.take(candidate("F2", issue_date=day))
    assert (before.nature, after.nature) == (Nature.ORIGINAL, Nature.PLATFORM_COPY)
    assert door.document(after.document_id).due_at is not None


def test_the_channel_of_originals_defaults_to_the_settings(database: Database, blobs: LocalBlobs) -> None:
    """For contracts that say nothing."""
    with journey.intake_on(database, blobs, original_channel="platform") as intake:
        assert Door(database, intake).take(candidate("F1")).nature is Nature.PLATFORM_COPY


def test_subscribing_later_changes_no_document_already_accepted(door: Door) -> None:
    """What was decided stays; the same bytes again get the same answer."""
    first = door.take(candidate("F1", contract=NOT_SUBSCRIBED))
    client = door.parties.foundry.client
    door.db.write(
        lambda tx: subscriptions.subscribe(
            tx, OPERATOR, client, [NOT_SUBSCRIBED], ISSUED, terms_version="1", today=TODAY, reason="late"
        )
    )
    assert door.take(candidate("F1", contract=NOT_SUBSCRIBED)).nature is Nature.DUPLICATE
    assert door.document(first.document_id).nature is Nature.DUPLICATE
    assert door.take(candidate("F2", contract=NOT_SUBSCRIBED)).nature is Nature.ORIGINAL


def test_a_credit_note_is_linked_to_what_it_corrects(door: Door) -> None:
    """By seller and number, to the newest that was accepted; never to one in quarantine."""
    first = door.take(candidate("F1"))
    newer = door.take(candidate("F1", b"next year", issue_date=dt.date(2026, 1, 5)))
    door.take(candidate("F1", b"quarantined", issue_date=dt.date(2026, 1, 5)))
    note = candidate("A1", kind=Kind.CREDIT_NOTE, type_code="381", corrects="F1", issue_date=dt.date(2026, 2, 1))
    row = door.document(door.take(note).document_id)
    assert (row.corrects, row.corrects_id) == ("F1", newer.document_id)
    assert first.document_id != newer.document_id


def test_a_credit_note_in_the_batch_of_its_invoice_is_linked_too(door: Door) -> None:
    """A billing run drops both at once."""
    note = candidate("A1", kind=Kind.CREDIT_NOTE, type_code="381", corrects="F1")
    invoice, credit = door.offer(candidate("F1"), note)
    assert isinstance(invoice, Outcome) and isinstance(credit, Outcome)
    assert door.document(credit.document_id).corrects_id == invoice.document_id


def test_a_credit_note_is_linked_to_the_last_one_before_it_and_to_no_other_company_s(door: Door) -> None:
    """Numbers begin anew each January, for whichever client comes first."""
    march, may = dt.date(2025, 3, 3), dt.date(2026, 5, 4)
    own, later = door.take(candidate("F1")), door.take(candidate("F1", b"later", issue_date=dt.date(2026, 3, 3)))
    door.take(candidate("F2", b"of the plant", CARD_I))
    correcting: dict[str, Any] = {"kind": Kind.CREDIT_NOTE, "type_code": "381"}
    notes = {
        of: door.take(candidate(of, corrects=corrects, issue_date=day, **correcting)).document_id
        for of, corrects, day in (("A1", "F1", march), ("A2", "F1", may), ("A3", "F2", may), ("A4", "A4", may))
    }
    linked = {of: door.document(note).corrects_id for of, note in notes.items()}
    assert linked == {"A1": own.document_id, "A2": later.document_id, "A3": None, "A4": None}


def test_a_credit_note_of_an_unknown_invoice_is_accepted_and_says_what_it_corrects(door: Door) -> None:
    """The invoice may be older than the gateway."""
    note = candidate("A1", kind=Kind.CREDIT_NOTE, type_code="381", corrects="OLD-1")
    row = door.document(door.take(note).document_id)
    assert (row.corrects, row.corrects_id, row.nature) == ("OLD-1", None, Nature.ORIGINAL)


def test_the_same_bytes_for_two_clients_are_an_alert(door: Door) -> None:
    """A file that was paired with another's sidecar: both are accepted, and somebody must look."""
    first = door.take(candidate("F1", b"one file"))
    second = door.take(candidate("F2", b"one file", contract=CARD_I))
    assert second.outcome == "new"
    alert = door.records("document.same_bytes_for_two_clients")
    assert [row.subject for row in alert] == [second.document_id]
    assert json.loads(alert[0].body)["facts"] == {"other": first.document_id}


def test_the_same_bytes_twice_for_one_client_are_none(door: Door) -> None:
    door.offer(candidate("F1", b"one file"), candidate("F2", b"one file"))
    assert door.records("document.same_bytes_for_two_clients") == []


@pytest.mark.parametrize("kind", [Kind.CONTRACT, Kind.AMENDMENT, Kind.CONTINUITY_REPORT, Kind.MANAGEMENT_SHEET])
def test_the_other_kinds_are_kept_as_received(door: Door, kind: Kind) -> None:
    """No nature, no seal; into the folder only when the settings say so."""
    one = candidate("D-1", kind=kind, type_code="", seller="", currency="", total=None)
    row = door.document(door.take(one).document_id)
    assert (row.nature, row.due_at, row.state) == (None, None, DocumentState.RECEIVED)
    assert door.deliveries() == []
    client = door.parties.foundry.client
    both = (ByEmail(True, ("compta@foundry.example",)), ByFolder(True))
    door.db.write(lambda tx: journey.choose(tx, client, *both, other_kinds_in_folder=True))
    second = door.take(candidate("D-2", kind=kind, type_code="", seller="", currency="", total=None))
    planned = door.deliveries(document_id=second.document_id)
    assert [(one.channel, one.state) for one in planned] == [(Channel.FOLDER, DeliveryState.PLANNED)]


def test_the_longest_identifiers_fit_their_columns(door: Door) -> None:
    """PostgreSQL refuses what is over a column's length; nothing that passes the reading may end so."""
    siren, contract = door.parties.foundry.siren, "K" * 40
    door.db.write(lambda tx: registry.create_contract(tx, OPERATOR, contract, "CARD_S", siren, today=TODAY))
    one = candidate("N" * 40, contract=contract, kind=Kind.CONTINUITY_REPORT, type_code="", seller="FR0123456789012")
    assert door.take(one).outcome == "new"


def test_one_number_of_two_kinds_is_two_documents(door: Door) -> None:
    """A contract and its amendment may bear one number, invoices have theirs among all invoices."""
    plain: dict[str, Any] = {"type_code": "", "seller": "", "currency": "", "total": None}
    offered = [
        candidate("N1"),
        candidate("N1", b"contract", kind=Kind.CONTRACT, **plain),
        candidate("N1", b"amendment", kind=Kind.AMENDMENT, **plain),
        candidate("N1", b"other contract's", contract=CARD_I, kind=Kind.CONTRACT, **plain),
        candidate("N1", b"credit", kind=Kind.CREDIT_NOTE, type_code="381", corrects="F0"),
    ]
    outcomes = [answer.outcome for answer in door.offer(*offered) if isinstance(answer, Outcome)]
    assert outcomes == ["new", "new", "new", "new", "quarantined"]


def test_what_policy_stops_is_quarantined_without_taking_the_number(door: Door) -> None:
    """JavaScript inside: an operator decides; a clean one with the same number may come meanwhile."""
    stopped = door.take(candidate("F1", b"with script", quarantine="JavaScript inside"))
    assert (stopped.outcome, stopped.reason) == ("quarantined", "JavaScript inside")
    assert door.take(candidate("F1", b"clean")).outcome == "new"


# With reading, from the file on.


def test_a_factur_x_goes_in_by_its_own_facts_and_leaves_no_scratch_file(gate: Journey) -> None:
    number = journey.number()
    content = journey.invoice(number)
    answer = gate.submit(content)
    row = gate.document(answer.document_id)
    assert (answer.outcome, row.number, row.received_sha256) == ("new", number, makers.sha256(content))
    assert row.xml_sha256 is not None and gate.core.blobs.path(row.xml_sha256).exists()
    assert gate.leftovers() == []
    again = gate.submit(content)
    assert (again.document_id, again.outcome) == (answer.document_id, "again")


def test_what_is_refused_leaves_a_record_and_nothing_else(gate: Journey) -> None:
    """No row, no scratch file; the record says why, when and by whom."""
    whole = journey.invoice(journey.number())
    spoiled = [b"", b"%", b"hello " * 99, whole[: len(whole) // 2], journey.unknown_contract("NO-SUCH-1")]
    rows = len(gate.documents())
    for content in spoiled:
        before = len(gate.records("document.refused"))
        with pytest.raises(Refused) as caught:
            gate.submit(content)
        (said,) = gate.facts("document.refused")[before:]
        assert (said["code"], said["reason"]) == (caught.value.code, caught.value.message)
        assert (said["source"], said["actor"]) == ("api", "tok_test")
    assert len(gate.documents()) == rows
    assert gate.leftovers() == []


def test_a_document_over_the_limit_is_refused_before_it_is_read(gate: Journey) -> None:
    path = gate.scratch(b"%PDF-1.7\n")
    with path.open("r+b") as file:
        file.truncate(20_000_001)
    with pytest.raises(TooLarge):
        gate.run(gate.core.intake.submit(path, None, "api", "tok_test"))
    assert gate.leftovers() == []


def test_a_document_that_ends_its_worker_is_refused_and_the_next_is_read(
    gate: Journey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too slow to read: the process goes, the door stays."""
    gate.submit(journey.invoice(journey.number()))  # the worker is warm
    path = gate.core.blobs.scratch()
    path.write_bytes(b"%PDF-1.7\n" + makers.factur_x())
    for channel in gate.core.readers._channels:
        os.kill(channel._process.pid or 0, signal.SIGSTOP)
    monkeypatch.setattr(gate.core.readers, "_deadline", 0.1)
    with pytest.raises(Refused) as caught:
        gate.run(gate.core.intake.submit(path, None, "api", "tok_test"))
    assert caught.value.code == "unreadable"
    monkeypatch.undo()
    assert gate.submit(journey.invoice(journey.number())).outcome == "new"
    assert gate.leftovers() == []


def test_below_the_disk_s_floor_nothing_is_taken(database: Database, blobs: LocalBlobs) -> None:
    """Reads and receipts need what is left; the caller may try again, and no refusal is recorded."""
    with journey.intake_on(database, blobs, floor_percent=100.0) as intake:
        door = Door(database, intake)
        path = blobs.scratch()
        path.write_bytes(makers.factur_x())
        with pytest.raises(Unavailable) as caught:
            asyncio.run(intake.submit(path, None, "api", "tok_test"))
        assert caught.value.code == "disk_full"
        assert not path.exists()
        assert door.records("document.refused") == []


def test_any_pdf_with_a_sidecar_is_accepted(gate: Journey) -> None:
    """An invoice without XML inside: all its facts stand in the sidecar."""
    number = journey.number()
    facts = {
        "kind": "invoice", "number": number, "issue_date": ISSUED.isoformat(), "contract": CARD_S,
        "seller_siren": journey.SELLER, "currency": "EUR", "total": "12.00",
    }  # fmt: skip
    answer = gate.submit(makers.pdf(), facts)
    assert (answer.outcome, answer.nature) == ("new", Nature.ORIGINAL)
    assert gate.document(answer.document_id).xml_sha256 is None
    with pytest.raises(Refused) as caught:
        gate.submit(makers.pdf(pages=2))
    assert caught.value.code == "missing_fact"


def test_a_sidecar_that_contradicts_the_document_is_refused(gate: Journey) -> None:
    """A file that was paired with another file's sidecar must not reach another client."""
    with pytest.raises(Refused) as caught:
        gate.submit(journey.invoice(journey.number()), {"number": "ANOTHER"})
    assert caught.value.code == "sidecar_contradicts"


def test_javascript_inside_goes_to_quarantine(gate: Journey) -> None:
    """Kept and shown to a person; never sealed by itself."""
    import pikepdf

    with makers.opened(journey.invoice(journey.number())) as pdf:
        pdf.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS=pikepdf.String("app.alert(1)"))
        content = makers.saved(pdf)
    answer = gate.submit(content)
    assert (answer.outcome, answer.state) == ("quarantined", DocumentState.QUARANTINED)
    assert gate.document(answer.document_id).due_at is None
