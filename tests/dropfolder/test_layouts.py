"""Rules that a folder has for itself: where entries are published, how they are named, how long they stay."""

import datetime as dt

import pytest

from gateway.access import Actor
from gateway.domain.folders import Folder, ReceiptMode
from gateway.domain.parties import Contract
from gateway.domain.states import DeliveryState
from gateway.errors import Conflict, NotFound
from gateway.parties import folders, layouts
from gateway.parties.folders import Rules
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.dropfolder.conftest import Time
from tests.dropfolder.world import World, get, names
from tests.journey import OPERATOR

DAY = dt.timedelta(days=1)


def choose(world: World, rules: Rules, actor: Actor = OPERATOR) -> None:
    world.db.write(lambda tx: folders.set_rules(tx, actor, world.client.id, world.folder.id, rules))


@pytest.fixture
def by_contract(world: World) -> World:
    """A folder whose inbox has a folder for each contract."""
    choose(world, {"layout": "by_contract"})
    return world


def test_a_layout_has_a_folder_for_each_contract(by_contract: World, at: Time) -> None:
    """Listed, read, removed and received there; the archive stays flat, and the folder stays when nothing is in it."""
    (delivery,) = by_contract.publish(b"one")
    at.pass_(2)
    visit = by_contract.visit()
    assert names(visit) == ["C-acme"]
    (name,) = names(visit, "/inbox/C-acme")
    with pytest.raises(NotFound):
        visit.ask(visit.stat, f"/inbox/{name}")
    assert get(visit, f"/inbox/C-acme/{name}") == b"one"
    visit.remove(f"/inbox/C-acme/{name}")
    assert by_contract.delivery(delivery).state is DeliveryState.RECEIVED
    assert names(visit, "/inbox/C-acme") == [] and names(visit) == ["C-acme"]
    month = by_contract.entry().month.replace("-", "/")
    assert names(visit, f"/archive/{month}") == [name]


def test_contracts_that_differ_in_case_share_a_folder_which_stays(by_contract: World, at: Time) -> None:
    """For an ERP's disk they are one; and a second folder would be gone with its last entry."""
    by_contract.publish(b"one")
    by_contract.set(Contract, by_contract.contract.id, number="c/ACME")
    by_contract.publish(b"two")
    at.pass_(2)
    visit = by_contract.visit()
    assert names(visit) == ["C-acme"]
    for name in names(visit, "/inbox/C-acme"):
        get(visit, f"/inbox/C-acme/{name}")
        visit.remove(f"/inbox/C-acme/{name}")
    assert [entry.received_at is not None for entry in by_contract.entries()] == [True, True]
    assert names(visit) == ["C-acme"] and names(visit, "/inbox/C-acme") == []


def test_what_was_published_keeps_its_place_when_the_layout_changes(by_contract: World, at: Time) -> None:
    """And a rename back to its own name finds that place."""
    by_contract.publish(b"one")
    choose(by_contract, {"layout": "flat"})
    by_contract.publish(b"two")
    at.pass_(2)
    visit = by_contract.visit()
    first, second = (entry.name for entry in by_contract.entries())
    assert names(visit) == ["C-acme", second] and names(visit, "/inbox/C-acme") == [first]
    visit.rename(f"/inbox/C-acme/{first}", "/inbox/work.pdf")
    visit.rename("/inbox/work.pdf", f"/inbox/C-acme/{first}")
    assert by_contract.entry(first).path is None


def test_the_contracts_folders_are_there_before_the_first_document(world: World, at: Time) -> None:
    """An ERP that looks into one is not told that it does not exist."""
    world.db.write(lambda tx: layouts.make_directories(tx, world.folder.id, ["B/2", "", "B_2"]))
    assert names(world.visit()) == ["B-2"]
    at.pass_(2)
    assert names(world.visit(), "/inbox/B-2") == []


def test_layout_folders_do_not_count_as_the_client_s(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """Its limit is its own."""
    world = World(database, blobs, directories=1)
    choose(world, {"layout": "by_contract"})
    world.publish(b"one")
    visit = world.visit()
    visit.make_directory("/inbox/done")
    assert set(names(visit)) == {"C-acme", "done"}


def test_a_place_that_the_client_took_is_never_given_twice(by_contract: World, at: Time) -> None:
    """Its file stays what it is; the next document gets another name."""
    by_contract.publish(b"one")
    at.pass_(2)
    visit = by_contract.visit()
    first = by_contract.entry().name
    next_name = first.replace("F00001", "F00002")
    visit.rename(f"/inbox/C-acme/{first}", f"/inbox/C-acme/{next_name}")
    by_contract.publish(b"two")
    at.pass_(2)
    visit = by_contract.visit()
    second = next_name.replace("_ORIG", "_ORIG-2")
    assert sorted(names(visit, "/inbox/C-acme")) == sorted([next_name, second])
    assert get(visit, f"/inbox/C-acme/{next_name}") == b"one"
    assert get(visit, f"/inbox/C-acme/{second}") == b"two"


def test_where_the_client_put_a_file_there_is_no_folder(world: World, at: Time) -> None:
    """Those entries are published flat: nothing hides behind a file."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    visit.rename(f"/inbox/{world.entry().name}", "/inbox/c-ACME")
    choose(world, {"layout": "by_contract"})
    world.publish(b"two")
    at.pass_(2)
    visit = world.visit()
    assert sorted(names(visit)) == sorted([world.entries()[1].name, "c-ACME"])
    with pytest.raises(Conflict):
        visit.rename(f"/inbox/{world.entries()[1].name}", "/inbox/c-ACME")


def test_a_template_names_what_is_published_from_then_on(world: World, at: Time) -> None:
    """Two that would be equal are told apart; a name once used is used for ever."""
    world.publish(b"one")
    choose(world, {"name_template": "INV-{number}-{nature}"})
    world.publish(b"two")
    choose(world, {"name_template": None})
    world.publish(b"three")
    made = [entry.name for entry in world.entries()]
    usual = "20260131_C-acme_{}_ORIG.pdf"
    assert made == [usual.format("F00001"), "INV-F00002-ORIG.pdf", usual.format("F00003")]


def test_a_templates_name_that_the_client_gave_to_another_file_is_left_to_it(world: World, at: Time) -> None:
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    visit.rename(f"/inbox/{world.entry().name}", "/inbox/INV-F00002-ORIG.pdf")
    visit.make_directory("/inbox/INV-F00003-ORIG.pdf")
    choose(world, {"name_template": "INV-{number}-{nature}"})
    world.publish(b"two", b"three")
    assert [entry.name for entry in world.entries()[1:]] == ["INV-F00002-ORIG-2.pdf", "INV-F00003-ORIG-2.pdf"]


def test_a_folder_s_own_linger_time_holds(world: World, at: Time) -> None:
    """Ten minutes where the gateway's setting is an hour; also for an index that is in memory already."""
    choose(world, {"receipt": "full_read"})
    world.publish(b"one")
    at.pass_(2)
    name = world.entry().name
    get(world.visit(), f"/inbox/{name}")
    choose(world, {"linger_minutes": 10})
    visit = world.visit()
    at.pass_(599)
    assert visit.ask(visit.stat, f"/inbox/{name}").size == 3
    at.pass_(2)
    with pytest.raises(NotFound):
        visit.ask(visit.stat, f"/inbox/{name}")


@pytest.mark.parametrize(("own", "days"), [(None, 2), (1, 1), (30, 30)])
def test_a_folder_s_own_days_in_the_inbox_hold(
    database: Database, blobs: LocalBlobs, at: Time, own: int | None, days: int
) -> None:
    """Shorter or longer than the gateway's; another folder keeps the usual."""
    world = World(database, blobs, inbox_days=2)
    choose(world, {"inbox_days": own})
    (delivery,) = world.publish(b"one")
    assert world.folders.expire(at.now() + days * DAY - dt.timedelta(seconds=10)) == 0
    assert world.folders.expire(at.now() + days * DAY + dt.timedelta(seconds=10)) == 1
    assert world.delivery(delivery).state is DeliveryState.EXPIRED_UNREAD


def test_a_change_of_rules_is_recorded_once(world: World) -> None:
    """Who, what; the same again is nothing."""
    for _ in range(2):
        choose(world, {"layout": "by_contract", "name_template": "{date}_{contract}_{number}_{nature}"})
    (change,) = world.bodies("folder.changed")
    facts = change["facts"]
    assert (facts["layout"], facts["name_template"], facts["actor"]) == ("by_contract", None, OPERATOR.id)
    row = world.db.read(lambda tx: tx.get_one(Folder, world.folder.id))
    assert (row.layout, row.receipt_mode) == ("by_contract", ReceiptMode.DELETE)
