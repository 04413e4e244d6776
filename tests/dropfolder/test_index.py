"""What may be listed, and when."""

import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from gateway import clock
from gateway.domain.folders import Entry, EventKind, Folder, FolderEvent, ReceiptMode
from gateway.errors import NotFound, Unavailable
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, Transaction
from tests.dropfolder.conftest import Time
from tests.dropfolder.world import World, get, names


def test_an_entry_is_listed_only_once_its_second_is_over(world: World, at: Time) -> None:
    """A client that listed half-way through a second and asks for "newer than" would never see the rest of it."""
    world.publish(b"one")
    visit = world.visit()
    assert names(visit) == []
    at.pass_(0.7)
    assert names(visit) == []
    at.pass_(1.0)
    assert len(names(visit)) == 1


def test_what_is_not_listed_yet_is_not_there(world: World, at: Time) -> None:
    """A guessed name gets the answer of a name that does not exist, in both places."""
    world.publish(b"one")
    visit = world.visit()
    name = world.entry().name
    for path in (f"/inbox/{name}", "/archive", f"/archive/{world.entry().month.replace('-', '/')}/{name}"):
        if path == "/archive":
            assert names(visit, path) == []
        else:
            with pytest.raises(NotFound):
                visit.ask(visit.stat, path)


def test_whoever_saw_an_mtime_has_seen_everything_up_to_it(world: World, at: Time) -> None:
    """The rule of the cursor, with a clock that is set back after a look: the next entry is newer than all seen."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    (first,) = visit.ask(visit.listing, "/inbox").take(10)
    at.step(-3600)
    world.publish(b"two")
    at.pass_(3600 + 5)
    shown = visit.ask(visit.listing, "/inbox").take(10)
    assert [node.mtime > first.mtime for node in shown if node.name != first.name] == [True]


def test_what_was_listed_stays_listed_when_the_clock_is_set_back(world: World, at: Time) -> None:
    """An inbox that empties for an hour looks like a loss."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    assert len(names(visit)) == 1
    at.step(-3600)
    at.pass_(2)
    assert len(names(visit)) == 1


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_a_publication_under_way_holds_back_its_second(database: Database, blobs: LocalBlobs) -> None:
    """Its commit may come after the second in which it decided its mtime: the look waits for it.

    On SQLite the one writer has them queue in any case.
    """
    world = World(database, blobs)
    world.publish(b"one")
    decided, go_on = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> int:
        later = tx.execute(
            sa.update(Folder)
            .where(Folder.id == world.folder.id)  # type: ignore[arg-type]
            .values(version=Folder.version + 1)
            .returning(Folder.last_mtime)  # type: ignore[call-overload]
        ).scalar_one()
        decided.set()
        go_on.wait(20)
        return int(later)

    publisher = threading.Thread(target=world.db.write, args=(slow,))
    publisher.start()
    assert decided.wait(20)
    visit = world.visit()
    shown: list[list[str]] = []
    looker = threading.Thread(target=lambda: shown.append(names(visit)))
    clock_at = dt.datetime.fromtimestamp(world.entry().mtime + 1.2, dt.UTC)
    while clock.now() < clock_at:
        threading.Event().wait(0.05)
    looker.start()
    looker.join(0.5)
    assert shown == []
    go_on.set()
    publisher.join()
    looker.join(20)
    assert len(shown[0]) == 1


def test_only_what_is_newer_is_loaded(world: World, at: Time) -> None:
    """A second look at a large folder must not read it again."""
    world.publish(b"one", b"two")
    at.pass_(2)
    visit = world.visit()
    names(visit)
    statements: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    sa.event.listen(world.db.engine, "before_cursor_execute", note)
    at.pass_(2)
    assert len(names(visit)) == 2
    assert not [s for s in statements if "folder_entry" in s]
    world.publish(b"three")
    at.pass_(2)
    assert len(names(visit)) == 3


def test_within_a_second_the_database_is_not_asked(world: World, at: Time) -> None:
    """Thousands of stats after a listing are answered from memory."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    assert not visit.is_at_hand("/inbox")
    names(visit)
    assert visit.is_at_hand("/inbox")
    assert not visit.is_at_hand("/archive/2026/01")
    at.pass_(1.5)
    assert not visit.is_at_hand("/inbox")


def test_listings_go_on_for_a_minute_without_the_database(
    world: World, at: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then they stop: old answers must not pass for new ones."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    assert len(names(visit)) == 1

    def away(_step: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(world.db, "read", away)
    at.pass_(50)
    assert len(names(visit)) == 1
    at.pass_(20)
    with pytest.raises(Unavailable):
        names(visit)


def withdraw(world: World, name: str) -> None:
    entry = world.entry(name)

    def step(tx: Transaction) -> None:
        folder = tx.get(Folder, world.folder.id)
        assert folder is not None
        folder.last_sequence, folder.version = folder.last_sequence + 1, folder.version + 1
        tx.add(folder)
        tx.add(
            FolderEvent(
                folder_id=folder.id, sequence=folder.last_sequence, event=EventKind.WITHDRAWN, entry_id=entry.id,
                at=clock.now(),
            )
        )  # fmt: skip
        tx.execute(
            sa.update(Entry).where(Entry.id == entry.id).values(withdrawn_at=clock.now(), listed=False)  # type: ignore[arg-type]
        )

    world.db.write(step)


def test_what_is_withdrawn_is_nowhere(world: World, at: Time) -> None:
    """The wrong recipient must not open it under any name; its month goes with its last entry."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    (name,) = names(visit)
    month = "/archive/" + world.entry().month.replace("-", "/")
    assert names(visit, month) == [name]
    get(visit, f"/inbox/{name}", (0, 1))
    withdraw(world, name)
    at.pass_(2)
    assert names(visit) == names(visit, "/archive") == []
    for path in (f"/inbox/{name}", f"{month}/{name}", month):
        with pytest.raises(NotFound):
            visit.ask(visit.stat, path)


def test_the_archive_holds_everything_by_month_of_publication(world: World, at: Time) -> None:
    """Whatever happened to it in the inbox; the same bytes under the same name."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    (name,) = names(visit)
    year, month = world.entry().month.split("-")
    assert names(visit, "/") == ["inbox", "archive", "manifest", "sandbox"]
    assert names(visit, "/archive") == [year]
    assert names(visit, f"/archive/{year}") == [month]
    get(visit, f"/inbox/{name}")
    visit.remove(f"/inbox/{name}")
    assert names(visit) == []
    assert names(visit, f"/archive/{year}/{month}") == [name]
    assert get(visit, f"/archive/{year}/{month}/{name}") == b"one"


def test_many_listings_of_an_archive_cost_the_memory_of_one(world: World, at: Time) -> None:
    """A month may hold 50,000 entries, and a client 256 handles on each of 16 connections. Each sees what is there."""
    world.publish(b"one", b"two")
    at.pass_(2)
    month = f"/archive/{world.entries()[0].month.replace('-', '/')}"
    visits = [world.visit() for _ in range(3)]
    lists = [visit.ask(visit.listing, month)._entries for visit in visits for _ in range(2)]
    visits[0].make_directory("/inbox/done")
    at.pass_(2)
    lists.append(visits[0].ask(visits[0].listing, month)._entries)
    assert len({id(one) for one in lists}) == 1
    world.publish(b"three")
    at.pass_(2)
    assert len(names(visits[1], month)) == 3
    assert lists[0] is not None
    assert [node.name for node in lists[0].nodes(0, 9)[0]] == [entry.name for entry in world.entries()[:2]]


def test_what_is_read_in_the_archive_is_not_kept_in_memory(world: World, at: Time) -> None:
    """A client may fetch six years anew, and its index lives for as long as it comes back within the hour."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    (name,) = names(visit)
    get(visit, f"/inbox/{name}")
    visit.remove(f"/inbox/{name}")
    visit.end()
    at.pass_(2)
    again = world.visit()
    assert names(again) == []
    get(again, f"/archive/{world.entry().month.replace('-', '/')}/{name}")
    again.end()
    at.pass_(2)
    assert names(world.visit()) == []
    assert not again._index._items


@pytest.mark.parametrize(
    "path",
    ["/archive/1999", "/archive/2026-01", "/archive/x", "/etc", "/inbox/none", "/inbox/none/x", "/archive/1/2/3/4"],
)
def test_what_is_not_there_is_not_found(world: World, at: Time, path: str) -> None:
    """One answer, whether it never was, is another client's, or is elsewhere on the host."""
    world.publish(b"one")
    at.pass_(2)
    visit = world.visit()
    for question in (visit.stat, visit.listing, visit.open):
        with pytest.raises(NotFound):
            visit.ask(question, path)


def test_a_folder_shows_nothing_of_another(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """Two clients, the same number: each sees its own."""
    one, other = World(database, blobs), World(database, blobs, user="umbra")
    one.publish(b"one")
    other.publish(b"other")
    at.pass_(2)
    visit = other.visit()
    (name,) = names(visit)
    assert get(visit, f"/inbox/{name}") == b"other"
    with pytest.raises(NotFound):
        visit.ask(visit.stat, f"/inbox/{name.replace('umbra', 'acme')}")


def test_another_gateway_sees_what_a_client_did(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """Two gateways on one database: what was removed at one is gone at the other a second later."""
    world = World(database, blobs, mode=ReceiptMode.FULL_READ)
    world.publish(b"one", b"two")
    at.pass_(2)
    here = world.visit()
    world.folders = type(world.folders)(database, blobs, world.folders._settings)
    there = world.visit()
    first, second = names(here)
    assert names(there) == [first, second]
    here.remove(f"/inbox/{first}")
    here.rename(f"/inbox/{second}", "/inbox/done/x.pdf")
    at.pass_(2)
    assert names(there) == ["done"]
    assert names(there, "/inbox/done") == ["x.pdf"]


def test_an_entry_is_listed_as_soon_as_its_second_is_over(world: World, at: Time) -> None:
    """Whoever looked in the middle of it need not wait for the next look in turn: two seconds would be too late."""
    at.pass_(0.1)
    world.publish(b"one")
    at.pass_(0.6)
    visit = world.visit()
    assert names(visit) == []
    assert visit.is_at_hand("/inbox")
    at.pass_(0.03)
    assert visit.is_at_hand("/inbox")
    at.pass_(0.03)
    assert not visit.is_at_hand("/inbox")
    assert len(names(visit)) == 1
    assert visit.is_at_hand("/inbox")


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_a_publishing_gateway_has_the_others_look_at_once(database_url: str, blobs: LocalBlobs) -> None:
    """Its notification comes with the commit."""
    db = Database.open(database_url)
    try:
        world = World(db, blobs)
        heard = threading.Event()

        def hear(folder_id: str) -> None:
            world.folders.hinted(folder_id)
            heard.set()

        db.listen(hear)
        assert db._hints is not None
        assert db._hints.is_listening.wait(10)
        visit = world.visit()
        names(visit)
        looked = visit._index._checked
        world.publish(b"one")
        assert heard.wait(10)
        assert visit._index._checked < looked, "it goes by its last look"
    finally:
        db.close()
