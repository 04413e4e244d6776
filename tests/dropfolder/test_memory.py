"""What indexes hold in memory: honestly counted, bounded, and read again when it is wanted."""

import gc
import tracemalloc
import weakref

import pytest

from gateway.dropfolder import archive
from gateway.dropfolder.memory import FORGET_SECONDS, IN_USE_SECONDS, Memory
from gateway.dropfolder.nodes import Listing, Node
from gateway.dropfolder.snapshots import Snapshot, Stream
from gateway.dropfolder.visit import Visit
from gateway.errors import NotFound, Unavailable
from gateway.servers import sftp_packets as wire
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.dropfolder.conftest import Time
from tests.dropfolder.world import World, get, names

LATER = IN_USE_SECONDS + 1


class Holder:
    """Says when it was told to forget."""

    def __init__(self, *, is_read_at_once: bool = False) -> None:
        self.is_forgotten = False
        self.is_read_at_once = is_read_at_once

    def forget(self) -> None:
        self.is_forgotten = True


def test_months_go_while_they_are_in_use_and_indexes_stay(at: Time) -> None:
    """A client that lists its whole archive holds one month after the other, not all of them."""
    memory = Memory(1000)
    index, months = Holder(), [Holder(is_read_at_once=True) for _ in range(5)]
    memory.hold(index, 900)
    for month in months:
        memory.hold(month, 400)
    assert not index.is_forgotten
    assert [month.is_forgotten for month in months] == [True] * 5
    assert memory.held == 900


def test_over_the_bound_the_longest_unused_goes_first(at: Time) -> None:
    """And only as many as are needed."""
    memory, holders = Memory(100), [Holder() for _ in range(4)]
    for holder in holders[:3]:
        memory.hold(holder, 30)
        at.pass_(LATER)
    memory.hold(holders[0], 30)
    memory.hold(holders[3], 30)
    assert [holder.is_forgotten for holder in holders] == [False, True, False, False]
    assert memory.held == 90


def test_what_is_in_use_stays_whatever_its_size(at: Time) -> None:
    """Two large folders that are pulled from at once must not be read anew for each file."""
    memory, one, other = Memory(100), Holder(), Holder()
    memory.hold(one, 80)
    memory.hold(other, 800)
    memory.hold(one, 80)
    assert [holder.is_forgotten for holder in (one, other)] == [False, False]
    at.pass_(LATER)
    memory.hold(one, 90)
    assert [holder.is_forgotten for holder in (one, other)] == [False, True]
    assert memory.held == 90


def test_after_an_hour_it_goes_in_any_case(at: Time) -> None:
    """Memory is for whoever comes back."""
    memory, one, other = Memory(10**9), Holder(), Holder()
    memory.hold(one, 1)
    at.pass_(FORGET_SECONDS + 1)
    memory.hold(other, 1)
    assert (one.is_forgotten, memory.held) == (True, 1)


def published(world: World, at: Time, count: int, **values: object) -> list[str]:
    """A folder with so many entries, all listed."""
    world.publish(b"first")
    first = world.entry().name
    more = world.fill(count - 1, **values)
    at.pass_(2)
    return [first, *more]


def pages(listing: Listing) -> bytes:
    """A whole listing as SFTP sends it."""
    encoder, whole = wire.names_on(Time().now()), b""
    while (page := listing.pages(encoder, 1))[0]:
        assert len(page[1]) + 13 <= wire.MAX_NAMES
        whole += page[1]
    return whole


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_estimate_is_what_it_costs(world: World, at: Time) -> None:
    """Within a third, the pages of a listing included: an operator plans by it."""
    published(world, at, 4000)
    visit = world.visit()
    world.entries()  # whatever is made once is made
    tracemalloc.start()
    try:
        listing = visit.ask(visit.listing, "/inbox")
        pages(listing)
        real = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.75 < visit._index.bytes / real < 1.35
    assert world.folders._memory.held == visit._index.bytes


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_estimate_of_a_month_is_what_it_costs(world: World, at: Time) -> None:
    """The same."""
    published(world, at, 4000, listed=False)
    visit, month = world.visit(), f"/archive/{world.entries()[0].month.replace('-', '/')}"
    names(visit)
    before = world.folders._memory.held
    tracemalloc.start()
    try:
        pages(visit.ask(visit.listing, month))
        real = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.75 < (world.folders._memory.held - before) / real < 1.35


def test_a_folder_larger_than_the_bound_works(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """It is forgotten when another one is used, and read again when it is wanted, with all that was done meanwhile."""
    world = World(database, blobs, index_megabytes=0)
    all_of_them = published(world, at, 30)
    visit = world.visit()
    assert names(visit) == all_of_them
    assert get(visit, f"/inbox/{all_of_them[0]}") == b"first"
    at.pass_(LATER)
    _use_another_folder(world, at)
    assert not visit._index._items
    visit.remove(f"/inbox/{all_of_them[0]}")
    assert names(visit) == all_of_them[1:]


def _use_another_folder(world: World, at: Time) -> None:
    other = World(world.db, world.blobs, user="umbra")
    other.folders = world.folders
    names(other.visit())


def test_what_a_session_has_opened_outlasts_forgetting(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """It may check the hash long after the receipt, whatever memory there was meanwhile."""
    world = World(database, blobs, index_megabytes=0, linger_minutes=0)
    (name,) = published(world, at, 1)
    visit = world.visit()
    visit.rename(f"/inbox/{name}", "/inbox/x.done")
    assert get(visit, "/inbox/x.done") == b"first"
    at.pass_(LATER)
    _use_another_folder(world, at)
    assert get(visit, "/inbox/x.done") == b"first"
    other = world.visit()
    with pytest.raises(NotFound):
        other.ask(other.open, "/inbox/x.done")


def test_nothing_is_answered_out_of_what_was_forgotten(world: World, at: Time) -> None:
    """A name that is there must not be said to be missing in the moment between a look and the question."""
    (name,) = published(world, at, 1)
    visit = world.visit()
    names(visit)
    visit._index.forget()
    assert not visit.is_at_hand("/inbox")
    for question, path in ((visit.stat, f"/inbox/{name}"), (visit.listing, "/inbox"), (visit.stat, "/archive/2026")):
        with pytest.raises(Unavailable):
            question(path)
    assert names(visit) == [name]


def entries_of(visit: Visit, path: str) -> object:
    return visit.ask(visit.listing, path)._entries


def test_a_listing_is_made_once_until_something_changes(world: World, at: Time) -> None:
    """The second one of 50,000 names sends bytes that are there."""
    first, second = published(world, at, 2)
    one, other = world.visit(), world.visit()
    listed = entries_of(one, "/inbox")
    assert isinstance(listed, Snapshot)
    page = listed.page(None, wire.names_on(at.now()))
    assert page is not None
    at.pass_(5)
    assert entries_of(other, "/inbox") is listed
    assert listed.page(None, wire.names_on(at.now())) is page
    one.remove(f"/inbox/{first}")
    assert entries_of(other, "/inbox") is not listed
    assert names(other) == [second]


def test_a_line_says_the_year_once_half_a_year_is_over(world: World, at: Time) -> None:
    """Pages are made anew each day, and say what `ls` would."""
    published(world, at, 1)
    visit = world.visit()
    snapshot = entries_of(visit, "/inbox")
    assert isinstance(snapshot, Snapshot)
    now = snapshot.page(None, wire.names_on(at.now()))
    at.pass_(184 * 86_400)
    later = snapshot.page(None, wire.names_on(at.now()))
    assert now is not None
    assert later is not None
    assert now.content != later.content
    assert len(now.content) == len(later.content)
    assert snapshot.bytes == len(later.content)


def test_a_month_is_read_once_until_something_comes_to_it(world: World, at: Time) -> None:
    """What is published elsewhere, removed or renamed leaves it as it is."""
    (name,) = published(world, at, 1)
    visit = world.visit()
    month = f"/archive/{world.entry().month.replace('-', '/')}"
    listed = entries_of(visit, month)
    visit.remove(f"/inbox/{name}")
    at.pass_(2)
    assert entries_of(visit, month) is listed
    world.publish(b"second")
    at.pass_(2)
    assert entries_of(visit, month) is not listed
    assert len(names(visit, month)) == 2


def test_a_month_that_is_not_whole_yet_is_read_again(world: World, at: Time) -> None:
    """The entries of this very second come a moment later."""
    (first,) = published(world, at, 1)
    world.publish(b"second")
    visit = world.visit()
    month = f"/archive/{world.entries()[0].month.replace('-', '/')}"
    assert names(visit, month) == [first]
    at.pass_(2)
    assert len(names(visit, month)) == 2


def test_a_large_month_is_streamed(world: World, at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, in order, once, whatever size its pages have; and nothing of it is kept."""
    all_of_them = published(world, at, 700, listed=False)
    visit = world.visit()
    month = f"/archive/{world.entries()[0].month.replace('-', '/')}"
    kept = pages(visit.ask(visit.listing, month))
    held = world.folders._memory.held
    visit._index._archive.touched([month[9:].replace("/", "-")])
    monkeypatch.setattr(archive, "SPACIOUS", 100)
    listing = visit.ask(visit.listing, month)
    assert isinstance(listing._entries, Stream)
    assert not listing.is_at_hand
    assert pages(listing) == kept
    assert names(visit, month) == all_of_them
    listing = visit.ask(visit.listing, month)
    some: list[Node] = []
    while part := listing.take(33):
        some += part
    assert [node.name for node in some] == all_of_them
    assert world.folders._memory.held < held


def test_a_month_that_is_forgotten_is_freed_at_once(world: World, at: Time) -> None:
    """No circle keeps its rows and pages until a collection that may not come for hours."""
    published(world, at, 2)
    visit = world.visit()
    archive, month = visit._index._archive, f"{at.now():%Y-%m}"
    assert names(visit, f"/archive/{month.replace('-', '/')}")
    kept = weakref.ref(archive._months[month])
    gc.disable()
    try:
        archive.touched([month])
        assert kept() is None
    finally:
        gc.enable()
