"""Quarantine has three exits, each with an operator, a reason and its evidence; what is closed says why."""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway import clock
from gateway.delivery import orders, outbox, plan
from gateway.delivery.publish import publish
from gateway.domain.documents import Document
from gateway.domain.states import Channel, DeliveryState, DocumentState, Kind, Nature
from gateway.errors import Conflict, NotFound
from gateway.intake import quarantine
from gateway.intake.accept import Candidate, Outcome
from gateway.intake.receive import Intake
from gateway.parties.settings import ByEmail, ByFolder
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, Transaction
from tests import journey
from tests.journey import CARD_S, NOT_SUBSCRIBED, Look, candidate

WHO, WHY = "tok_operator", "looked at it"


class Desk(Look):
    """An operator in front of the quarantine."""

    def __init__(self, db: Database, blobs: LocalBlobs, intake: Intake) -> None:
        super().__init__(db)
        self.blobs = blobs
        self.intake = intake
        self.parties = journey.declare(db)

    def take(self, one: Candidate) -> str:
        (answer,) = asyncio.run(self.intake.accept([one]))
        assert isinstance(answer, Outcome)
        return answer.document_id

    def stopped(self, number: str = "F1", **facts: Any) -> str:
        """A document in quarantine by policy; its number is free."""
        return self.take(candidate(number, quarantine="JavaScript inside", **facts))

    def two(self) -> tuple[str, str]:
        """One that was accepted, and another with its number in quarantine."""
        return self.take(candidate("F1")), self.take(candidate("F1", b"other"))

    def accept(self, document: str) -> Document:
        return self.db.write(lambda tx: quarantine.accept(tx, document, WHO, WHY, "gateway"))

    def reject(self, document: str) -> Document:
        return self.db.write(lambda tx: quarantine.reject(tx, document, WHO, WHY))

    def replace(self, document: str) -> Document:
        return self.db.write(lambda tx: quarantine.replace(tx, document, WHO, WHY, "gateway"))

    def plan(self, document: str) -> list[str]:
        """Seal a document, in its row, and plan its deliveries."""

        def step(tx: Transaction) -> list[str]:
            row = tx.get_one(Document, document)
            blob = self.blobs.put(b"sealed")
            row.state, row.due_at = DocumentState.SEALED, None
            row.sealed_sha256, row.sealed_size = blob.sha256, blob.size
            tx.flush()
            return plan.plan(tx, [row], clock.now() - dt.timedelta(seconds=1))

        return self.db.write(step)


@pytest.fixture
def desk(database: Database, blobs: LocalBlobs) -> Iterator[Desk]:
    with journey.intake_on(database, blobs) as intake:
        yield Desk(database, blobs, intake)


def test_accepted_it_goes_its_way_as_if_it_had_just_come_in(desk: Desk) -> None:
    """Nature decided now, due for sealing, number taken; who and why stand in the record."""
    document = desk.stopped()
    row = desk.accept(document)
    assert (row.state, row.state_reason, row.nature) == (DocumentState.RECEIVED, "", Nature.ORIGINAL)
    kept = desk.document(document)
    assert (kept.accepted_key, kept.state) == (kept.key, DocumentState.RECEIVED)
    assert kept.due_at is not None and kept.row_version == 2
    assert desk.events(document=document) == ["document.received", "document.quarantined", "document.accepted"]
    (said,) = desk.facts("document.accepted")
    assert (said["actor"], said["reason"], said["nature"]) == (WHO, WHY, "original")


def test_accepted_without_a_subscription_it_is_a_duplicate(desk: Desk) -> None:
    """Nothing to seal."""
    row = desk.accept(desk.stopped(contract=NOT_SUBSCRIBED))
    assert (row.nature, row.due_at) == (Nature.DUPLICATE, None)


def test_accepted_a_kind_without_nature_is_planned_at_once(desk: Desk) -> None:
    """Its folder gets it when the settings say so."""
    client = desk.parties.foundry.client
    both = (ByEmail(True, ("a@foundry.example",)), ByFolder(True))
    desk.db.write(lambda tx: journey.choose(tx, client, *both, other_kinds_in_folder=True))
    document = desk.stopped("D1", kind=Kind.CONTRACT, type_code="", seller="")
    desk.accept(document)
    assert [(one.channel, one.state) for one in desk.deliveries(document_id=document)] == [
        (Channel.FOLDER, DeliveryState.PLANNED)
    ]


def test_while_another_holds_its_number_it_cannot_be_accepted(desk: Desk) -> None:
    """Two documents with one number would reach the client."""
    first, second = desk.two()
    with pytest.raises(Conflict) as caught:
        desk.accept(second)
    assert caught.value.code == "number_taken" and first in caught.value.message
    assert desk.document(second).state is DocumentState.QUARANTINED
    assert desk.records("document.accepted") == []


def test_rejected_it_ends_and_its_bytes_stay(desk: Desk) -> None:
    """The same bytes again are no answer then: they are looked at anew."""
    first, second = desk.two()
    row = desk.reject(second)
    assert (row.state, row.accepted_key, row.state_reason) == (DocumentState.WITHDRAWN, None, f"rejected: {WHY}")
    assert desk.events(document=second)[-1] == "document.rejected"
    assert desk.document(first).state is DocumentState.RECEIVED
    again = desk.take(candidate("F1", b"other"))
    assert again != second and desk.document(again).state is DocumentState.QUARANTINED


def test_what_was_quarantined_by_its_sealing_gives_its_number_free_when_rejected(desk: Desk) -> None:
    """The corrected file of the same number is then accepted."""
    document = desk.take(candidate("F1"))
    desk.set(desk.document(document), state=DocumentState.QUARANTINED, due_at=None)
    desk.reject(document)
    assert desk.document(desk.take(candidate("F1", b"corrected"))).state is DocumentState.RECEIVED


def test_what_was_quarantined_by_its_sealing_is_sealed_again_when_accepted(desk: Desk) -> None:
    """In the nature that it had; nobody else holds its number but itself."""
    document = desk.take(candidate("F1"))
    desk.set(desk.document(document), state=DocumentState.QUARANTINED, due_at=None)
    row = desk.accept(document)
    assert (row.state, row.nature) == (DocumentState.RECEIVED, Nature.ORIGINAL)
    assert desk.document(document).due_at is not None


@pytest.mark.parametrize("is_planned", [False, True], ids=["not sealed yet", "planned"])
def test_replacing_makes_version_two_and_keeps_version_one(desk: Desk, is_planned: bool) -> None:
    """While nothing has left: its planned deliveries are cancelled, its number passes over."""
    first, second = desk.two()
    planned = desk.plan(first) if is_planned else []
    row = desk.replace(second)
    assert (row.version, row.replaces_id, row.state) == (2, first, DocumentState.RECEIVED)
    one, two = desk.document(first), desk.document(second)
    assert (one.state, one.accepted_key, one.due_at) == (DocumentState.WITHDRAWN, None, None)
    assert two.accepted_key == two.key and two.due_at is not None
    assert second in one.state_reason
    assert {desk.delivery(delivery).state for delivery in planned} <= {DeliveryState.CANCELLED}
    assert len(planned) == (2 if is_planned else 0)
    assert desk.events(document=first)[-1] == "document.replaced"
    (said,) = desk.facts("document.replaced")
    assert (said["actor"], said["reason"], said["by"]) == (WHO, WHY, second)
    assert desk.take(candidate("F1", b"other")) == second


def leave_by_folder(desk: Desk, planned: list[str]) -> None:
    desk.db.write(lambda tx: publish(tx, planned, frozenset(), ZoneInfo("Europe/Paris")))


def leave_by_mail(desk: Desk, planned: list[str]) -> None:
    assert len(desk.db.write(lambda tx: outbox.claim(tx, 10, 900))) == 1


@pytest.mark.parametrize("leave", [leave_by_folder, leave_by_mail])
def test_what_has_left_is_never_replaced(desk: Desk, leave: Callable[[Desk, list[str]], None]) -> None:
    """A credit note or a corrected invoice corrects it; nothing changes by the attempt to replace."""
    first, second = desk.two()
    leave(desk, desk.plan(first))
    states = [row.state for row in desk.deliveries()]
    with pytest.raises(Conflict) as caught:
        desk.replace(second)
    assert caught.value.code == "already_left"
    assert [row.state for row in desk.deliveries()] == states
    assert (desk.document(first).state, desk.document(second).state) == (
        DocumentState.SEALED,
        DocumentState.QUARANTINED,
    )
    assert desk.records("document.replaced") == []


def test_without_a_holder_of_the_number_there_is_nothing_to_replace(desk: Desk) -> None:
    with pytest.raises(Conflict):
        desk.replace(desk.stopped())


def test_a_withdrawn_one_s_number_stays_its_own(desk: Desk) -> None:
    """It was accepted once: other bytes are another document, and need another number."""
    first = desk.take(candidate("F1"))
    desk.db.write(lambda tx: orders.withdraw(tx, first, WHO, "wrong recipient"))
    second = desk.take(candidate("F1", b"other"))
    assert desk.document(second).state is DocumentState.QUARANTINED
    for way in (desk.accept, desk.replace):
        with pytest.raises(Conflict):
            way(second)


def test_three_versions_follow_each_other(desk: Desk) -> None:
    _, second = desk.two()
    desk.replace(second)
    third = desk.take(candidate("F1", b"third"))
    assert desk.replace(third).version == 3
    assert desk.document(third).replaces_id == second


@pytest.mark.parametrize("way", ["accept", "reject", "replace"])
def test_the_exits_are_for_what_is_in_quarantine(desk: Desk, way: str) -> None:
    """Once out, a second order is refused; what does not exist is not found."""
    document = desk.take(candidate("F1", contract=CARD_S))
    with pytest.raises(Conflict):
        getattr(desk, way)(document)
    with pytest.raises(NotFound):
        getattr(desk, way)("doc_none")
    assert desk.document(document).state is DocumentState.RECEIVED
