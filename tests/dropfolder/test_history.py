"""History: what a client had on the server before is found in its archive, and is nothing that was delivered."""

import dataclasses
import datetime as dt
import hashlib
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock
from gateway.access import Actor, Role
from gateway.domain.folders import Folder
from gateway.domain.names import fold
from gateway.domain.tables import metadata
from gateway.dropfolder import archive, history, moving_in
from gateway.dropfolder.events import after
from gateway.dropfolder.moving_in import Line, Report, Rules
from gateway.dropfolder.nodes import Reading
from gateway.errors import Denied, NotFound, Refused, Unavailable
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database

from .conftest import Time
from .test_mapped import _map
from .world import PARIS, World, get, names

OPERATOR = Actor("cli:test", "operator", None, Role.ADMIN)
RULES = Rules(PARIS, 1000)
MARCH = int(dt.datetime(2024, 3, 31, 23, 30, tzinfo=dt.UTC).timestamp())  # in Paris it is April


def _line(world: World, content: bytes, name: str = "old.pdf", **values: Any) -> Line:
    """A file of acme's whose bytes are in the store."""
    blob = world.blobs.put(content)
    return dataclasses.replace(Line("acme", name, MARCH, blob.sha256, blob.size), **values)


def _take(world: World, *lines: Line) -> list[Report]:
    return moving_in.take(world.db, world.blobs, OPERATOR, lines, RULES)


def _outcomes(reports: list[Report]) -> list[str]:
    return [report.outcome for report in reports]


def _rows(world: World) -> list[Any]:
    return world.db.read(lambda tx: list(tx.execute(sa.select(history.HISTORY).order_by(history.HISTORY.c.name))))


def _number(world: World) -> tuple[int, int]:
    row = world.db.read(lambda tx: tx.execute(sa.select(Folder).where(Folder.id == world.folder.id)).scalar_one())  # type: ignore[arg-type]
    return row.last_sequence, row.last_mtime


def test_a_file_lies_in_the_month_of_its_date_with_that_date(world: World, at: Time) -> None:
    """The issuer's month, as for what is published; a session that looked before sees it within a second."""
    visit = world.visit()
    assert names(visit, "/archive") == []
    assert _take(world, _line(world, b"one")) == [Report("created", "archive/2024/04/old.pdf")]
    at.pass_(1.1)
    assert (names(visit, "/archive"), names(visit, "/archive/2024")) == (["2024"], ["04"])
    assert names(visit, "/archive/2024/04") == ["old.pdf"]
    node = visit.ask(visit.stat, "/archive/2024/04/old.pdf")
    assert (node.size, node.mtime) == (3, MARCH)
    assert visit.ask(visit.digest, "/archive/2024/04/old.pdf") == hashlib.sha256(b"one").hexdigest()
    assert get(visit, "/archive/2024/04/old.pdf") == b"one"
    assert names(visit, "/inbox") == []


def test_again_it_changes_nothing(world: World, at: Time) -> None:
    """An import that was killed is started again."""
    lines = [_line(world, b"one"), _line(world, b"two", "b.pdf"), _line(world, b"two", "b.pdf")]
    assert _outcomes(_take(world, *lines)) == ["created", "created", "same"]
    before, events = _rows(world), world.events()
    assert _outcomes(_take(world, *lines)) == ["same"] * 3
    assert (_rows(world), world.events()) == (before, events)


def test_a_rehearsal_keeps_nothing_and_needs_no_bytes(world: World) -> None:
    """What it says of lines that depend on each other is what the import says."""
    lines = [
        _line(world, b"one"),
        _line(world, b"two"),
        _line(world, b"one", "OLD.pdf"),
        _line(world, b"one", user_name="nobody"),
        _line(world, b"x" * 1001, "large"),
        _line(world, b"one", "a/b"),
        _line(world, b"one", mtime=-1),
        _line(world, b"one", mtime=int(clock.now().timestamp()) + 60),
    ]
    rehearsed = moving_in.rehearse(world.db, [*lines, Line("acme", "new", MARCH, "0" * 64, 1)], RULES)
    assert _rows(world) == []
    assert _take(world, *lines) == rehearsed[:-1]
    assert _outcomes(rehearsed) == ["created", "differs", "differs", *["refused"] * 5, "created"]
    assert [one.column for one in rehearsed] == ["", "name", "name", "user_name", "file", "name", "date", "date", ""]


def test_a_row_never_names_bytes_that_are_not_in_the_store(world: World) -> None:
    """Bytes first; what a disk damaged counts as missing."""
    lost, damaged = _line(world, b"lost", "a"), _line(world, b"damaged", "b")
    world.blobs.remove(lost.sha256)
    path = world.blobs.path(damaged.sha256)
    path.chmod(0o600)
    path.write_bytes(b"other")
    assert [(one.outcome, one.column) for one in _take(world, lost, damaged)] == [("refused", "sha256")] * 2
    assert _rows(world) == []


@pytest.mark.parametrize("size", [2, 4])
def test_the_size_of_a_line_is_that_of_its_bytes(world: World, size: int) -> None:
    """With another one the file would be served cut, or never to its end."""
    (report,) = _take(world, _line(world, b"one", size=size))
    assert (report.outcome, report.column) == ("refused", "size")
    assert _rows(world) == []


def test_it_is_no_entry_no_number_no_delivery(world: World, at: Time) -> None:
    """The gateway delivered nothing of it, and its lists of what it delivered do not hold it."""
    world.publish(b"one")
    before = _number(world)
    counted = ("folder_entry", "folder_event", "delivery", "document")
    counts = {name: sa.select(sa.func.count()).select_from(metadata.tables[name]) for name in counted}
    rows = world.db.read(lambda tx: {name: tx.execute(query).scalar_one() for name, query in counts.items()})
    _take(world, _line(world, b"two"))
    at.pass_(2)
    assert _number(world) == before
    assert world.db.read(lambda tx: {name: tx.execute(query).scalar_one() for name, query in counts.items()}) == rows
    assert len(world.db.read(lambda tx: after(tx, world.folder.id, 0, 10))) == 1


def test_to_read_it_is_no_receipt(world: World, at: Time) -> None:
    """Nothing is recorded as read, in whatever way it ends; what was shown of it has no number."""
    _take(world, _line(world, b"one"))
    visit = world.visit()
    place = "/archive/2024/04/old.pdf"
    assert get(visit, place) == b"one"
    file = visit.ask(visit.open, place)
    assert not isinstance(file, Reading)
    visit.abandon([file])
    names(visit, "/archive/2024/04")
    assert not visit.has_seen_news
    visit.end()
    assert world.events("entry.") == []
    assert world.events("delivery.received") == []


def test_a_client_cannot_change_it(world: World) -> None:
    """As with entries: nothing that a client does reaches the archive."""
    _take(world, _line(world, b"one"))
    visit = world.visit()
    place = "/archive/2024/04/old.pdf"
    for attempt in (
        lambda: visit.remove(place),
        lambda: visit.rename(place, "/inbox/mine.pdf"),
        lambda: visit.rename(place, "/archive/2024/04/other.pdf"),
        lambda: visit.create(place),
        lambda: visit.remove_directory("/archive/2024/04"),
    ):
        with pytest.raises(Denied):
            attempt()
    assert not visit.is_writable(place)
    assert names(visit, "/archive/2024/04") == ["old.pdf"]


def test_it_is_the_clients_own(database: Database, blobs: LocalBlobs, at: Time) -> None:
    """Another's name is answered as one that does not exist."""
    world, other = World(database, blobs), World(database, blobs, user="other")
    _take(world, _line(world, b"one"))
    with pytest.raises(NotFound):
        other.visit().ask(other.visit().stat, "/archive/2024/04/old.pdf")
    assert names(other.visit(), "/archive") == []


def test_an_entry_wins_and_the_file_is_told_to_take_another_name(world: World, at: Time) -> None:
    """What the gateway published under a name is what that name is; the same bytes are there already."""
    world.publish(b"one")
    at.pass_(2)
    entry = world.entry()
    same = _line(world, b"one", entry.name, mtime=entry.mtime)
    (report, other, elsewhere) = _take(
        world,
        same,
        _line(world, b"two", entry.name.upper(), mtime=entry.mtime),
        _line(world, b"two", entry.name),
    )
    assert (report.outcome, other.outcome, elsewhere.outcome) == ("same", "differs", "created")
    assert "the gateway published" in other.reason
    visit = world.visit()
    assert get(visit, f"/archive/{entry.month.replace('-', '/')}/{entry.name}") == b"one"
    assert get(visit, f"/archive/2024/04/{entry.name}") == b"two"


def test_a_name_of_the_server_before_is_not_used_for_another_document(world: World, at: Time) -> None:
    """An ERP passes over a name that it knows: the next document under it would never be pulled."""
    world.publish(b"one")
    name = world.entry().name
    later = name.replace("F00001", "F00002")
    _take(world, _line(world, b"before", later.upper()))
    world.publish(b"two")
    assert sorted(entry.name for entry in world.entries()) == sorted([name, later.replace("_ORIG", "_ORIG-2")])


def test_entries_and_history_of_one_month_are_listed_together(world: World, at: Time) -> None:
    """A client that moves in the middle of a month sees one month; history first."""
    world.publish(b"one")
    at.pass_(2)
    entry = world.entry()
    _take(world, _line(world, b"two", "old.pdf", mtime=entry.mtime - 1))
    visit = world.visit()
    place = f"/archive/{entry.month.replace('-', '/')}"
    assert names(visit, place) == ["old.pdf", entry.name]
    held = visit.ask(visit.listing, place)
    _take(world, _line(world, b"three", "older.pdf", mtime=entry.mtime - 2))
    at.pass_(2)
    assert [node.name for node in held.take(10)] == ["old.pdf", entry.name]
    assert names(visit, place) == ["older.pdf", "old.pdf", entry.name]
    assert get(visit, f"{place}/older.pdf") == b"three"


def test_a_month_too_large_for_memory_is_listed_page_by_page(
    world: World, at: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file once, whatever its name sorts like, with what was published after the history."""
    monkeypatch.setattr(archive, "SPACIOUS", 2)
    world.publish(b"one", b"two", b"three")
    at.pass_(2)
    entries = [entry.name for entry in world.entries()]
    month = world.entries()[0].mtime
    old = ["Zed.pdf", "alpha.pdf", "Été.pdf", "été-2.pdf", "_.pdf", "10.pdf", "9.pdf"]
    _take(world, *(_line(world, name.encode(), name, mtime=month) for name in old))
    visit = world.visit()
    listing = visit.ask(visit.listing, f"/archive/{world.entries()[0].month.replace('-', '/')}")
    shown: list[str] = []
    while nodes := listing.take(2):
        shown += [node.name for node in nodes]
    assert (sorted(shown[:7]), shown[7:]) == (sorted(old), entries)


def test_bytes_that_the_disk_damaged_are_not_given_out(world: World) -> None:
    """History is checked as entries are."""
    line = _line(world, b"one")
    _take(world, line)
    path = world.blobs.path(line.sha256)
    path.chmod(0o600)
    path.write_bytes(b"two")
    visit = world.visit()
    with pytest.raises(Unavailable):
        visit.ask(visit.open, "/archive/2024/04/old.pdf")


def test_it_is_found_under_the_paths_of_the_server_before(world: World, at: Time) -> None:
    """The path map leads to the archive, with what lies there."""
    _take(world, _line(world, b"one"))
    _map(world, at, _out_old="/archive")
    visit = world.visit()
    assert names(visit, "/out/old/2024/04") == ["old.pdf"]
    assert get(visit, "/out/old/2024/04/old.pdf") == b"one"
    with pytest.raises(Denied):
        visit.remove("/out/old/2024/04/old.pdf")


def test_the_record_says_who_how_many_and_the_digest_of_the_list(world: World, at: Time) -> None:
    """The list is `sha256sum`'s of the archive, so that a mirror of it can be held against the record."""
    lines = [_line(world, b"two", "b.pdf"), _line(world, b"one", "a.pdf"), _line(world, b"one", user_name="nobody")]
    _take(world, *lines)
    (body,) = world.bodies("history.imported")
    facts = body["facts"]
    text = "".join(
        f"{hashlib.sha256(content).hexdigest()}  archive/2024/04/{name}\n"
        for content, name in ((b"one", "a.pdf"), (b"two", "b.pdf"))
    )
    assert (body["subject"], facts["actor"], facts["files"], facts["bytes"]) == (world.folder.id, "cli:test", 2, 6)
    assert facts["list_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert {row.import_id for row in _rows(world)} == {facts["import"]}


def test_an_account_of_the_billing_system_has_no_archive(world: World) -> None:
    """Its log-in sees intake/ and nothing else."""
    world.set(Folder, world.folder.id, is_intake=True)
    (report,) = _take(world, _line(world, b"one"))
    assert (report.outcome, report.column) == ("refused", "user_name")


def test_who_may_not_manage_parties_imports_nothing(world: World) -> None:
    """A viewer's token is not enough."""
    with pytest.raises(Denied):
        moving_in.take(world.db, world.blobs, Actor("tok", "operator", None, Role.VIEWER), [_line(world, b"x")], RULES)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\0b", "a\nb", "a\u202eb", "x" * 256, "é" * 128, "caf\udce9.pdf"]
)
def test_a_name_that_no_client_could_use_is_refused(world: World, name: str) -> None:
    """In a sentence, and without asking the database for what it cannot hold."""
    (report,) = _take(world, _line(world, b"one", name))
    assert (report.outcome, report.column) == ("refused", "name")


@given(st.text(st.characters(), max_size=300))
def test_any_name_is_taken_or_refused(name: str) -> None:
    """Whatever lies on a disk: an answer, and what is taken is a path in its home and fits its column."""
    try:
        moving_in.check_name(name)
    except Refused:
        return
    assert history.place_of("2024-04", name).split("/") == ["archive", "2024", "04", name]
    assert len(fold(name)) <= 300


def test_what_was_imported_by_mistake_is_withdrawn_by_the_same_lines(world: World, at: Time) -> None:
    """Another client's files, say: gone for sessions that are open too; the record and the bytes stay."""
    lines = [_line(world, b"one", "a.pdf"), _line(world, b"two", "b.pdf")]
    _take(world, *lines)
    visit = world.visit()
    assert names(visit, "/archive/2024/04") == ["a.pdf", "b.pdf"]
    other, unknown = _line(world, b"other", "b.pdf"), _line(world, b"one", "none.pdf")
    wanted = [lines[0], lines[0], other, unknown, dataclasses.replace(lines[1], user_name="nobody")]
    dry = moving_in.withdraw(world.db, OPERATOR, wanted, RULES, "wrong folder", dry_run=True)
    assert len(_rows(world)) == 2
    assert moving_in.withdraw(world.db, OPERATOR, wanted, RULES, "wrong folder") == dry
    assert _outcomes(dry) == ["withdrawn", "missing", "differs", "missing", "refused"]
    at.pass_(1.1)
    assert names(visit, "/archive/2024/04") == ["b.pdf"]
    with pytest.raises(NotFound):
        visit.ask(visit.open, "/archive/2024/04/a.pdf")
    (body,) = world.bodies("history.withdrawn")
    assert body["facts"]["list"] == [f"{lines[0].sha256}  archive/2024/04/a.pdf"]
    assert (body["facts"]["reason"], body["facts"]["files"]) == ("wrong folder", 1)
    assert world.blobs.path(lines[0].sha256).exists()
    assert _outcomes(_take(world, dataclasses.replace(other, name="a.pdf"))) == ["created"]


def test_the_last_history_of_a_month_leaves_its_list(world: World, at: Time) -> None:
    """A session that has listed the month sees what was published in it alone."""
    world.publish(b"one")
    at.pass_(2)
    entry = world.entry()
    line = _line(world, b"two", "old.pdf", mtime=entry.mtime)
    _take(world, line)
    at.pass_(1.1)
    visit = world.visit()
    place = f"/archive/{entry.month.replace('-', '/')}"
    assert names(visit, place) == ["old.pdf", entry.name]
    assert _outcomes(moving_in.withdraw(world.db, OPERATOR, [line], RULES, "x")) == ["withdrawn"]
    at.pass_(1.1)
    assert names(visit, place) == [entry.name]


def test_what_the_gateway_published_is_not_withdrawn_as_history(world: World, at: Time) -> None:
    """It has an order of its own, which its manifest tells."""
    world.publish(b"one")
    entry = world.entry()
    line = _line(world, b"one", entry.name, mtime=entry.mtime)
    at.pass_(2)
    (report,) = moving_in.withdraw(world.db, OPERATOR, [line], RULES, "x")
    assert (report.outcome, world.entry().withdrawn_at) == ("differs", None)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_withdrawal_says_why(world: World, reason: str) -> None:
    """Somebody will ask."""
    with pytest.raises(Refused):
        moving_in.withdraw(world.db, OPERATOR, [], RULES, reason)
