"""A document gets one delivery for each folder and mailbox of the settings in force; what cannot leave is seen."""

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from gateway import clock
from gateway.access import Actor, Role
from gateway.delivery import orders, plan
from gateway.domain.folders import Folder
from gateway.domain.parties import DeliverySettings, Mailbox
from gateway.domain.states import Channel, DeliveryState, Kind
from gateway.parties import folders, settings
from gateway.parties.settings import ByEmail, ByFolder
from gateway.web import overview
from tests import journey
from tests.delivery.conftest import Office
from tests.journey import CARD_S, NOT_SUBSCRIBED, OPERATOR


def planned(office: Office, document: str) -> list[tuple[Channel, DeliveryState]]:
    return sorted((one.channel, one.state) for one in office.deliveries(document_id=document))


BOTH = [(Channel.EMAIL, DeliveryState.PLANNED), (Channel.FOLDER, DeliveryState.PLANNED)]


def test_each_channel_that_is_on_gets_a_delivery(office: Office) -> None:
    """Due at once, with the settings that decided it, and a record each."""
    (document,) = office.sealed()
    assert planned(office, document) == BOTH
    for one in office.deliveries():
        assert one.due_at is not None and one.settings_id is not None and one.again == 0
        assert office.events(subject=one.id) == ["delivery.planned"]


def test_the_settings_of_a_contract_win_over_its_company_s_and_these_over_its_client_s(office: Office) -> None:
    """Contract over company over client: the whole row, nothing is mixed."""
    foundry = office.parties.foundry
    mail_only, folder_only = (ByEmail(True, ("other@foundry.example",)), ByFolder(False)), (ByEmail(), ByFolder(True))
    office.do(lambda tx: journey.choose(tx, foundry.client, *mail_only, company_id=foundry.company))
    (by_company,) = office.sealed()
    assert planned(office, by_company) == BOTH[:1]
    contract = foundry.contracts[CARD_S]
    office.do(lambda tx: journey.choose(tx, foundry.client, *folder_only, contract_id=contract))
    (by_contract,), (other,) = office.sealed(), office.sealed(contract=NOT_SUBSCRIBED)
    assert planned(office, by_contract) == BOTH[1:]
    assert planned(office, other) == BOTH[:1]


def test_each_address_gets_a_mail_of_its_own_in_the_order_chosen(office: Office) -> None:
    """One bad address must not hold up the others."""
    client = office.parties.foundry.client
    wanted = ("z@foundry.example", "a@foundry.example", "m@foundry.example")
    office.do(lambda tx: journey.choose(tx, client, ByEmail(True, wanted), ByFolder(False)))
    (document,) = office.sealed()
    rows = office.deliveries(document_id=document)
    boxes = [office.db.read(lambda tx, r=row: tx.get_one(Mailbox, r.destination)).address for row in rows]  # type: ignore[misc]
    assert boxes == list(wanted)


def test_each_folder_that_takes_the_contract_gets_one(office: Office) -> None:
    """A document in two folders is two deliveries; a folder that is disabled gets nothing."""
    foundry = office.parties.foundry
    only = [foundry.contracts[NOT_SUBSCRIBED]]
    second = office.do(lambda tx: folders.create_folder(tx, OPERATOR, foundry.client, "second"))
    office.do(lambda tx: folders.create_folder(tx, OPERATOR, foundry.client, "third", contract_ids=only))
    (document,) = office.sealed()
    found = office.deliveries(document_id=document, channel=Channel.FOLDER)
    assert {one.destination for one in found} == {foundry.folder, second.id}
    office.set(second, disabled_at=clock.now())
    (later,) = office.sealed()
    assert office.entry_of(later).destination == foundry.folder


NOTHING_CHOSEN = sa.delete(DeliverySettings)
EVERY_FOLDER_DISABLED = sa.update(Folder).values(disabled_at=clock.now())


@pytest.mark.parametrize(
    ("loss", "reason"),
    [(NOTHING_CHOSEN, plan.NO_SETTINGS), (EVERY_FOLDER_DISABLED, plan.NO_CHANNEL)],
    ids=["no settings", "no folder"],
)
def test_an_invoice_without_a_channel_says_so_and_goes_once_it_has_one(
    office: Office, loss: sa.Executable, reason: str
) -> None:
    """Seen in its row, its evidence and the figures of the status, not dropped; one look more says nothing new."""
    client = office.parties.foundry.client
    office.do(lambda tx: journey.choose(tx, client, ByEmail(), ByFolder(True)))
    office.do(lambda tx: tx.execute(loss))
    documents = office.sealed(3)
    assert office.deliveries() == []
    assert [office.document(one).state_reason for one in documents] == [reason] * 3
    assert [one["reason"] for one in office.facts("document.undelivered")] == [reason] * 3
    assert plan.plan_late(office.db) == 0
    counted = {row.state: row.count for row in office.db.read(overview.documents_waiting)}
    assert counted == {"undelivered": 3}

    office.do(lambda tx: journey.choose(tx, client, ByEmail(True, ("new@foundry.example",)), ByFolder(True)))
    assert plan.plan_late(office.db, batch=2) == len(office.deliveries())
    assert plan.plan_late(office.db) == 0
    for one in documents:
        assert (Channel.EMAIL, DeliveryState.PLANNED) in planned(office, one)
        assert office.document(one).state_reason == ""
    assert [one.document_id for one in office.deliveries(channel=Channel.EMAIL)] == documents
    assert len(office.facts("document.undelivered")) == 3
    assert office.db.read(overview.documents_waiting) == []


def test_what_was_withdrawn_meanwhile_is_planned_no_more(office: Office) -> None:
    office.do(lambda tx: tx.execute(NOTHING_CHOSEN))
    (document,) = office.sealed()
    office.do(lambda tx: orders.withdraw(tx, document, "tok_operator", "wrong recipient"))
    client = office.parties.foundry.client
    office.do(lambda tx: journey.choose(tx, client, ByEmail(), ByFolder(True)))
    assert plan.plan_late(office.db) == 0
    assert office.deliveries() == []


def test_an_address_that_cannot_be_written_to_holds_its_delivery_alone(office: Office) -> None:
    """Suspended, erased, not confirmed: the folder gets its file all the same."""
    box = office.db.read(lambda tx: tx.get_one(Mailbox, office.parties.foundry.mailbox))
    spoiled: dict[str, dict[str, Any]] = {
        "suspended": {"suspended_at": clock.now(), "suspended_reason": "three bounces"},
        "erased": {"suspended_at": None, "suspended_reason": None, "address": None},
        "confirmed": {"address": "x@foundry.example", "confirmed_at": None},
    }
    for word, values in spoiled.items():
        office.set(box, **values)
        (document,) = office.sealed()
        mail = office.mail(document)
        assert (mail.state, mail.due_at) == (DeliveryState.HELD, None)
        assert word in mail.state_reason
        assert office.entry_of(document).state is DeliveryState.PLANNED


def test_an_address_that_waits_for_its_confirmation_leaves_the_one_before_in_service(office: Office) -> None:
    """A client that mistypes its new address goes on getting its invoices."""
    foundry = office.parties.foundry
    own = Actor("tok_client", "client", foundry.client, Role.CLIENT)
    new = ByEmail(True, ("new@foundry.example",))
    at = clock.now() - dt.timedelta(seconds=10)
    office.do(lambda tx: settings.set_delivery_settings(tx, own, foundry.client, new, ByFolder(True), at=at))
    mail = office.mail()
    assert (mail.destination, mail.state) == (foundry.mailbox, DeliveryState.PLANNED)
    fresh = next(
        box
        for box in office.db.read(lambda tx: settings.list_mailboxes(tx, OPERATOR, foundry.client))
        if box.confirmed_at is None
    )
    office.do(lambda tx: settings.confirm_mailbox(tx, OPERATOR, fresh.id, at=clock.now()))
    assert office.mail().destination == fresh.id


def test_the_settings_of_the_moment_of_sealing_decide(office: Office) -> None:
    """A change afterwards moves no delivery that was planned."""
    (document,) = office.sealed()
    client = office.parties.foundry.client
    office.do(lambda tx: journey.choose(tx, client, ByEmail(), ByFolder(True)))
    assert planned(office, document) == BOTH


def test_the_other_kinds_are_never_mailed(office: Office) -> None:
    """To the folder when the settings say so; else the portal has them."""
    kind: dict[str, Any] = {"kind": Kind.CONTRACT, "nature": None}
    (quiet,) = office.sealed(**kind)
    assert planned(office, quiet) == []
    client = office.parties.foundry.client
    both = (ByEmail(True, ("compta@foundry.example",)), ByFolder(False))
    office.do(lambda tx: journey.choose(tx, client, *both, other_kinds_in_folder=True))
    (shown,) = office.sealed(**kind)
    assert planned(office, shown) == BOTH[1:]


def test_a_batch_is_planned_in_its_order(office: Office) -> None:
    """Publishing goes by due time and id: the order of acceptance reaches the folder's sequence."""
    documents = office.sealed(20)
    found = office.deliveries(channel=Channel.FOLDER)
    assert [one.document_id for one in found] == documents


def test_another_delivery_of_the_same_is_counted(office: Office) -> None:
    """Marked `again`, so that the one row for each destination stays unique."""
    (document,) = office.sealed()
    row, folder = office.document(document), office.parties.foundry.folder
    for count in (1, 2):
        (again,) = office.do(lambda tx: plan.again(tx, [row], Channel.FOLDER, folder, clock.now()))
        assert (office.delivery(again).again, office.delivery(again).state) == (count, DeliveryState.PLANNED)


def test_planning_nothing_writes_nothing(office: Office) -> None:
    assert office.do(lambda tx: plan.plan(tx, [], clock.now())) == []
    assert office.deliveries() == []
