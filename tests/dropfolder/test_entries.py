"""Names that clients give and take: never over another, never for good without a read."""

import datetime as dt

import pytest
from structlog.testing import capture_logs

from gateway.domain.folders import ReceiptMode
from gateway.errors import Conflict, Denied, NotFound, Refused
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.dropfolder.conftest import Time
from tests.dropfolder.world import World, get, names


@pytest.fixture
def two(world: World, at: Time) -> list[str]:
    """Two names in the inbox."""
    world.publish(b"one", b"two")
    at.pass_(2)
    return [entry.name for entry in world.entries()]


@pytest.mark.parametrize(
    "target", ["/inbox/x.done", "/inbox/done/x.pdf", "/inbox/a/b/c/x.pdf", "/processed/x.pdf", "/x.pdf"]
)
def test_a_rename_moves_the_name_and_keeps_bytes_and_mtime(world: World, two: list[str], target: str) -> None:
    """To wherever the ERP's habit says; folders on the way come by being named."""
    visit = world.visit()
    before = visit.ask(visit.stat, f"/inbox/{two[0]}")
    visit.rename(f"/inbox/{two[0]}", target)
    after = visit.ask(visit.stat, target)
    assert (after.size, after.mtime) == (before.size, before.mtime)
    assert get(visit, target, (0, 1)) == b"o"
    with pytest.raises(NotFound):
        visit.ask(visit.stat, f"/inbox/{two[0]}")
    parent, _, name = target.rpartition("/")
    assert name in names(visit, parent or "/")


def test_nothing_is_ever_overwritten(world: World, two: list[str]) -> None:
    """Not a published name, not a renamed one in any case, not a folder; the first one keeps its bytes."""
    visit = world.visit()
    visit.make_directory("/inbox/done")
    visit.rename(f"/inbox/{two[0]}", "/inbox/done/x.pdf")
    for target in (f"/inbox/{two[0]}", "/inbox/done/x.pdf", "/inbox/done/X.PDF", "/inbox/done", "/inbox", "/"):
        with pytest.raises((Conflict, Denied)):
            visit.rename(f"/inbox/{two[1]}", target)
    assert get(visit, "/inbox/done/x.pdf") == b"one"
    assert get(visit, f"/inbox/{two[1]}") == b"two"


def test_a_rename_onto_itself_changes_nothing(world: World, two: list[str]) -> None:
    """As rename(2) does."""
    visit = world.visit()
    visit.rename(f"/inbox/{two[0]}", f"/inbox/{two[0]}")
    assert world.events("entry.") == []


def test_a_file_is_no_folder(world: World, two: list[str]) -> None:
    """A path below a file does not exist."""
    visit = world.visit()
    visit.rename(f"/inbox/{two[0]}", "/inbox/x")
    for target in ("/inbox/x/y", f"/inbox/{two[1]}/y", "/inbox/X/y"):
        with pytest.raises(NotFound):
            visit.rename(f"/inbox/{two[1]}", target)
        with pytest.raises(NotFound):
            visit.make_directory(target)


def test_renamed_and_not_read_returns_under_its_own_name(world: World, at: Time, two: list[str]) -> None:
    """A client that renames first and dies has received nothing; after a day it gets another chance."""
    visit = world.visit()
    visit.rename(f"/inbox/{two[0]}", "/inbox/working.pdf")
    assert world.folders.return_renamed(at.now()) == 0
    at.pass_(24 * 3600 + 1)
    with capture_logs() as logs:
        assert world.folders.return_renamed(at.now()) == 1
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["entry.returned"]
    assert sorted(names(visit)) == sorted(two)
    assert get(visit, f"/inbox/{two[0]}") == b"one"
    assert world.folders.return_renamed(at.now()) == 0


@pytest.mark.parametrize("mode", [ReceiptMode.API, ReceiptMode.NONE])
def test_renamed_and_read_stays_where_it_is(database: Database, blobs: LocalBlobs, at: Time, mode: ReceiptMode) -> None:
    """In modes where a read is no receipt it is still no reason to move a client's file."""
    world = World(database, blobs, mode=mode)
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    (name,) = names(visit)
    visit.rename(f"/inbox/{name}", "/inbox/kept.pdf")
    get(visit, "/inbox/kept.pdf")
    at.pass_(48 * 3600)
    assert world.folders.return_renamed(at.now()) == 0
    assert names(visit) == ["kept.pdf"]


def test_a_fixed_working_name_can_be_used_again_and_again(world: World, two: list[str]) -> None:
    """Rename to `work.pdf`, read, next: the received one lingers there unlisted and gives way."""
    visit = world.visit()
    for name, content in zip(two, (b"one", b"two"), strict=True):
        visit.rename(f"/inbox/{name}", "/inbox/work.pdf")
        assert get(visit, "/inbox/work.pdf") == content
    assert names(visit) == []
    visit.remove("/inbox/work.pdf")
    with pytest.raises(NotFound):
        visit.remove("/inbox/work.pdf")


def test_a_folder_that_a_client_makes_is_seen_by_that_client_only(
    database: Database, blobs: LocalBlobs, at: Time
) -> None:
    """It is part of its view, not of any disk."""
    one, other = World(database, blobs), World(database, blobs, user="umbra")
    visit = one.visit()
    visit.make_directory("/inbox/done")
    visit.make_directory("/inbox/done/2026")
    assert names(visit) == ["done"]
    assert names(visit, "/inbox/done") == ["2026"]
    assert names(other.visit()) == []


def test_a_folder_is_made_once_and_below_an_existing_one(world: World, at: Time) -> None:
    """As mkdir(2); a twin by case would be one folder on Windows."""
    visit = world.visit()
    visit.make_directory("/inbox/done")
    for path in ("/inbox/done", "/inbox/DONE", "/inbox", "/archive", "/"):
        with pytest.raises(Conflict):
            visit.make_directory(path)
    with pytest.raises(NotFound):
        visit.make_directory("/inbox/none/x")
    with pytest.raises(Denied):
        visit.make_directory("/other")


def test_folders_have_a_limit(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """A client in a loop must not fill the table."""
    visit = World(database, blobs, directories=2).visit()
    visit.make_directory("/inbox/1")
    visit.make_directory("/inbox/2")
    with pytest.raises(Refused):
        visit.make_directory("/inbox/3")
    visit.remove_directory("/inbox/1")
    visit.make_directory("/inbox/3")


def test_a_folder_goes_when_nothing_is_in_it(world: World, two: list[str]) -> None:
    """Files and folders in it keep it; what lingers unlisted does not."""
    visit = world.visit()
    visit.make_directory("/inbox/done")
    visit.make_directory("/inbox/done/x_y")
    visit.rename(f"/inbox/{two[0]}", "/inbox/done/x.pdf")
    with pytest.raises(Conflict):
        visit.remove_directory("/inbox/done")
    get(visit, "/inbox/done/x.pdf")
    with pytest.raises(Conflict):
        visit.remove_directory("/inbox/done")
    visit.remove_directory("/inbox/done/x_y")
    visit.remove_directory("/inbox/done")
    with pytest.raises(NotFound):
        visit.remove_directory("/inbox/none")
    for path in ("/inbox", "/archive", "/"):
        with pytest.raises(Denied):
            visit.remove_directory(path)


def test_folders_stay_where_they_are(world: World, two: list[str]) -> None:
    """A folder is not a file: neither removed as one nor renamed nor opened."""
    visit = world.visit()
    visit.make_directory("/inbox/done")
    with pytest.raises(Refused):
        visit.remove("/inbox/done")
    with pytest.raises(Refused):
        visit.rename("/inbox/done", "/inbox/other")
    with pytest.raises(Conflict):
        visit.ask(visit.open, "/inbox/done")
    with pytest.raises(NotFound):
        visit.ask(visit.listing, f"/inbox/{two[0]}")
    with pytest.raises(Conflict):
        visit.remove_directory(f"/inbox/{two[0]}")


def test_a_listing_is_of_the_moment_it_was_opened(world: World, two: list[str]) -> None:
    """What is removed while a client reads on neither hides nor repeats a name."""
    visit = world.visit()
    listing = visit.ask(visit.listing, "/inbox")
    shown = [node.name for node in listing.take(1)]
    visit.remove(f"/inbox/{two[1]}")
    shown += [node.name for node in listing.take(10)]
    assert shown == two
    assert listing.take(10) == []


def test_a_session_keeps_the_highest_number_it_was_shown(world: World, two: list[str], at: Time) -> None:
    """The proof of what a client could have known."""
    visit = world.visit()
    listing = visit.ask(visit.listing, "/inbox")
    listing.take(1)
    assert visit.highest_sequence == 1
    listing.take(10)
    visit.record_shown()
    assert world.sessions()[0].highest_sequence == 2
    visit.end()
    (session,) = world.sessions()
    assert session.ended_at == at.now()
    assert session.key_id == world.key.id
    assert world.bodies("session.ended")[0]["facts"]["highest_sequence"] == 2


def test_sessions_of_a_process_that_was_killed_end_with_the_next(world: World, two: list[str], at: Time) -> None:
    """What they were shown stays proven: the ledger has a record of each stay, once."""
    ended, killed = world.visit(), world.visit()
    assert names(killed) == two
    killed.record_shown()
    ended.end()
    world.folders.record_now()
    at.pass_(60)
    world.folders.take_over()
    world.folders.take_over()
    assert {session.id: session.ended_at for session in world.sessions()}[killed.session.id] == at.now()
    assert world.events("session") == ["session.ended", "session.cut_off"]
    facts = world.bodies("session.cut_off")[0]["facts"]
    assert (facts["session"], facts["key"], facts["highest_sequence"]) == (killed.session.id, world.key.fingerprint, 2)


@pytest.mark.parametrize("damage", [b"on", b"onE"], ids=["cut", "changed"])
@pytest.mark.parametrize("was_read", [False, True], ids=["never read", "read before"])
def test_damaged_or_missing_bytes_are_never_served(
    world: World, two: list[str], blobs: LocalBlobs, damage: bytes, was_read: bool
) -> None:
    """Try again, says the answer, and an alert tells the operator; no other bytes than the original's go out."""
    visit = world.visit()
    first, second = world.entries()
    path = blobs.path(first.sha256)
    if was_read:
        assert get(visit, f"/inbox/{two[0]}") == b"one"
    path.chmod(0o600)
    path.write_bytes(damage)
    blobs.remove(second.sha256)
    for name, event in zip(two, ("entry.blob_damaged", "entry.blob_missing"), strict=True):
        with capture_logs() as logs, pytest.raises(Exception, match="try again"):
            visit.ask(visit.open, f"/inbox/{name}")
        assert event in [entry["event"] for entry in logs]
    path.write_bytes(b"one")
    assert get(visit, f"/inbox/{two[0]}") == b"one"


def test_returns_wait_for_the_setting(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """`rename_return_hours`."""
    world = World(database, blobs, rename_return_hours=1)
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    visit.rename(f"/inbox/{world.entry().name}", "/inbox/x")
    assert world.folders.return_renamed(at.now() + dt.timedelta(minutes=59)) == 0
    assert world.folders.return_renamed(at.now() + dt.timedelta(minutes=61)) == 1
