"""index-YYYY-MM.csv: every number of a folder, in months that chain, and as long as it was told to be."""

import csv
import datetime as dt
import io
import os
import re
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock
from gateway.delivery import orders
from gateway.domain.folders import EventKind, Folder, FolderEvent
from gateway.domain.states import Kind
from gateway.dropfolder import events, monthly, monthly_csv
from gateway.dropfolder.monthly import MONTH, MonthCloser
from gateway.errors import Denied, NotFound, Refused, Unavailable
from gateway.store.blobs import LocalBlobs
from tests.dropfolder.conftest import Time
from tests.dropfolder.world import PARIS, World, get, names

DAY = 24 * 3600
NOON = dt.datetime(2026, 11, 10, 11, tzinfo=dt.UTC).timestamp()


@pytest.fixture
def november(at: Time) -> Time:
    """The folder begins in the middle of November."""
    at.wall = NOON
    return at


@pytest.fixture
def home(november: Time, world: World, blobs: LocalBlobs) -> World:
    world.set(Folder, world.folder.id, created_at=november.now())
    return world


def go_to(at: Time, year: int, month: int, day: int) -> None:
    """That day's noon."""
    at.pass_(dt.datetime(year, month, day, 11, tzinfo=dt.UTC).timestamp() - at.wall)


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def indexes(world: World) -> dict[str, list[int]]:
    """The numbers in each month's file, as a new session reads it."""
    visit = world.visit()
    found = [name for name in names(visit, "/manifest") if name.endswith(".csv")]
    return {name[6:13]: [int(row["sequence"]) for row in rows(get(visit, f"/manifest/{name}"))] for name in found}


def close_all(world: World) -> int:
    closer, count = MonthCloser(world.db, world.blobs, PARIS), 0
    while closed := closer.turn():
        count += closed
    return count


def test_it_says_of_each_number_what_an_erp_compares(home: World, november: Time) -> None:
    """Fixed header, CRLF (RFC 4180), the instant as in the manifest, and the place where the archive has the file."""
    (delivery,) = home.publish(b"one")
    november.pass_(2)
    home.db.write(lambda tx: orders.withdraw(tx, home.delivery(delivery).document_id, "op", "wrong recipient"))
    november.pass_(2)
    content, entry = get(home.visit(), "/manifest/index-2026-11.csv"), home.entry()
    lines = content.decode().split("\r\n")
    assert lines[0] == "sequence,event,at,kind,number,name,path,format,size,sha256"
    assert lines[1] == (
        f"1,published,2026-11-10T11:00:00.000000Z,invoice,F00001,{entry.name},archive/2026/11/{entry.name},pdf,"
        f"{entry.size},{entry.sha256}"
    )
    assert lines[2].startswith("2,withdrawn,2026-11-10T11:00:02.000000Z,invoice,F00001,") and lines[3:] == [""]


def test_each_month_has_one_also_an_empty_one_and_they_chain(home: World, november: Time) -> None:
    """Before and after the months are closed they hold the same."""
    home.publish(b"one", b"two")
    go_to(november, 2026, 12, 31)
    home.publish(b"three")
    go_to(november, 2027, 2, 3)
    home.publish(b"four")
    november.pass_(2)
    expected = {"2026-11": [1, 2], "2026-12": [3], "2027-01": [], "2027-02": [4]}
    assert indexes(home) == expected
    assert close_all(home) == 3
    assert indexes(home) == expected
    assert close_all(home) == 0
    closed = home.db.read(lambda tx: monthly.all_closed(tx, home.folder.id))
    assert [(row.first_sequence, row.last_sequence) for row in closed] == [(1, 2), (3, 3), (4, 3)]


def test_a_month_is_the_issuer_s(home: World, november: Time) -> None:
    """At 23:30 UTC on 30 November it is December in Paris."""
    november.pass_(dt.datetime(2026, 11, 30, 22, 30, tzinfo=dt.UTC).timestamp() - november.wall)
    home.publish(b"one")
    november.pass_(3600)
    home.publish(b"two")
    november.pass_(2)
    assert indexes(home) == {"2026-11": [1], "2026-12": [2]}


def test_a_closed_month_is_the_same_file_as_while_it_went_on(home: World, november: Time) -> None:
    """Who has it need not fetch it again; from then on it has a digest."""
    home.publish(b"one", b"two")
    go_to(november, 2026, 12, 1)
    visit, path = home.visit(), "/manifest/index-2026-11.csv"
    before, content = visit.ask(visit.stat, path), get(visit, path)
    with pytest.raises(Refused):
        visit.ask(visit.digest, path)
    close_all(home)
    assert (visit.ask(visit.stat, path), get(visit, path)) == (before, content)
    assert len(visit.ask(visit.digest, path)) == 64


def test_an_open_file_and_the_length_that_was_told_stay_as_they_were(home: World, november: Time) -> None:
    """Published meanwhile: a handle is a snapshot, and a client that was told a size reads that many bytes."""
    home.publish(b"one")
    november.pass_(2)
    visit, path = home.visit(), "/manifest/index-2026-11.csv"
    file = visit.ask(visit.open, path)
    told = visit.ask(visit.stat, path)
    home.publish(b"two")
    november.pass_(2)
    assert [row["sequence"] for row in rows(file.read(0, 10**6))] == ["1"] and file.size == told.size
    assert len(get(visit, path)) == told.size
    again = visit.ask(visit.stat, path)
    assert again.size > told.size and again.mtime > told.mtime
    assert len(get(visit, path)) == again.size
    visit.close(file)


def test_a_look_at_the_folder_itself_tells_no_length(home: World, november: Time) -> None:
    """Its mtime is that of the newest file in it; what was told of a file holds on."""
    home.publish(b"one")
    november.pass_(2)
    visit, path = home.visit(), "/manifest/index-2026-11.csv"
    told = visit.ask(visit.stat, path)
    home.publish(b"two")
    november.pass_(2)
    assert visit.ask(visit.stat, "/manifest").mtime > told.mtime
    assert len(get(visit, path)) == told.size
    assert visit.ask(visit.stat, "/manifest").mtime == visit.ask(visit.stat, path).mtime
    go_to(november, 2026, 12, 1)
    close_all(home)
    newest = max(node.mtime for node in visit.ask(visit.listing, "/manifest").take(9))
    assert visit.ask(visit.stat, "/manifest").mtime == newest


@pytest.mark.parametrize("lists", [True, False])
def test_a_length_that_was_told_anew_holds_also_when_the_month_was_closed_meanwhile(
    home: World, november: Time, monkeypatch: pytest.MonkeyPatch, *, lists: bool
) -> None:
    """Told the closed file's length after the open one's, a client reads so many bytes, or takes it for cut."""
    home.publish(b"one")
    november.pass_(dt.datetime(2026, 11, 30, 22, 59, 55, tzinfo=dt.UTC).timestamp() - november.wall)
    visit, path = home.visit(), "/manifest/index-2026-11.csv"
    before = visit.ask(visit.stat, path)
    home.publish(b"two")
    november.pass_(8)
    monkeypatch.setattr(monthly, "_AFTER_MIDNIGHT", dt.timedelta())
    assert close_all(home) == 1
    if lists:
        (node,) = [one for one in visit.ask(visit.listing, "/manifest").take(9) if one.name == "index-2026-11.csv"]
    else:
        node = visit.ask(visit.stat, path)
    assert len(get(visit, path)) == node.size > before.size


def test_a_length_that_was_told_long_ago_is_no_promise(home: World, november: Time) -> None:
    """A session that stays for days sees what is new."""
    home.publish(b"one")
    november.pass_(2)
    visit, path = home.visit(), "/manifest/index-2026-11.csv"
    told = visit.ask(visit.stat, path)
    home.publish(b"two")
    november.pass_(3600)
    assert len(get(visit, path)) > told.size


def test_a_number_stands_there_from_the_moment_that_its_entry_is_listed(home: World, november: Time) -> None:
    """Not earlier: a line without a file would be taken for a loss."""
    home.publish(b"one")
    visit = home.visit()
    assert names(visit) == [] and indexes(home) == {"2026-11": []}
    november.pass_(1)
    assert len(names(visit)) == 1 and indexes(home) == {"2026-11": [1]}


def test_a_question_reads_what_is_new_and_no_more(home: World, november: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing must not cost the month's hundred thousand lines each time."""
    home.publish(*(b"%d" % number for number in range(20)))
    november.pass_(2)
    visit = home.visit()
    names(visit, "/manifest")
    asked: list[int] = []
    after = events.after

    def counted(tx: Any, folder_id: str, sequence: int, limit: int) -> list[events.Event]:
        found = after(tx, folder_id, sequence, limit)
        asked.append(len(found))
        return found

    monkeypatch.setattr(events, "after", counted)
    names(visit, "/manifest")
    assert asked == []
    home.publish(b"more")
    november.pass_(2)
    names(home.visit(), "/manifest")
    assert asked == [1]


def test_folders_that_nobody_asks_for_are_let_go(home: World, november: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files are made again; a handle keeps its own."""
    monkeypatch.setattr(monthly, "MOST_FOLDERS", 1)
    home.publish(b"one")
    november.pass_(2)
    assert indexes(home) == {"2026-11": [1]}
    months = monthly.OpenMonths(home.db, home.blobs, PARIS)
    fd = months.look(home.folder.id)["2026-11"].sheet.open()
    for number in range(3):
        months.look(World(home.db, home.blobs, user=f"other{number}").folder.id)
    assert len(months._folders) == 1
    assert [row["sequence"] for row in rows(os.pread(fd, 10**6, 0))] == ["1"]
    os.close(fd)
    assert months.look(home.folder.id)["2026-11"].size > 0


def test_a_late_number_stands_in_the_month_that_goes_on(home: World, november: Time) -> None:
    """Its instant lies in a month that is closed: no gap there, and none here."""
    home.publish(b"one")
    go_to(november, 2026, 12, 1)
    close_all(home)
    november.step(-3 * DAY)
    home.publish(b"two")
    november.step(4 * DAY)
    november.pass_(2)
    assert indexes(home) == {"2026-11": [1], "2026-12": [2]}
    go_to(november, 2027, 1, 2)
    assert close_all(home) == 1
    assert indexes(home) == {"2026-11": [1], "2026-12": [2], "2027-01": []}


def test_a_month_s_last_minutes_are_its_own_until_it_is_closed(home: World, november: Time) -> None:
    """December has begun, somebody has looked, and a number of November is committed late."""
    november.pass_(dt.datetime(2026, 11, 30, 23, 1, tzinfo=dt.UTC).timestamp() - november.wall)
    assert close_all(home) == 0 and indexes(home) == {"2026-11": [], "2026-12": []}
    home.publish(b"late")
    home.db.write(lambda tx: tx.execute(sa.update(FolderEvent).values(at=november.now() - dt.timedelta(minutes=2))))
    november.pass_(2)
    assert indexes(home) == {"2026-11": [1], "2026-12": []}
    november.pass_(900)
    close_all(home)
    assert indexes(home) == {"2026-11": [1], "2026-12": []}


def test_two_gateways_close_a_month_once(home: World, november: Time) -> None:
    """Both find it due; the row of the first stays, and so do the bytes that it names."""
    go_to(november, 2026, 12, 1)
    other = MonthCloser(home.db, home.blobs, PARIS)
    due = home.db.read(other._due)
    assert close_all(home) == 1
    assert [other._close(*one) for one in due] == [0]
    assert indexes(home) == {"2026-11": [], "2026-12": []}


def test_an_account_of_the_billing_system_has_none(home: World, november: Time) -> None:
    """Nothing is published to it."""
    home.set(Folder, home.folder.id, is_intake=True)
    go_to(november, 2026, 12, 1)
    assert close_all(home) == 0


def test_what_the_disk_damaged_is_not_served_for_the_closed_month(home: World, november: Time) -> None:
    """A list with a line less would say that nothing is missing."""
    home.publish(b"one")
    go_to(november, 2026, 12, 1)
    close_all(home)
    sha256 = home.db.read(lambda tx: tx.execute(sa.select(MONTH.c.sha256)).scalar_one())
    path = home.blobs.path(sha256)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-5])
    visit = home.visit()
    with pytest.raises(Unavailable):
        visit.ask(visit.open, "/manifest/index-2026-11.csv")


def test_nothing_there_can_be_changed_and_other_months_are_not_there(home: World, november: Time) -> None:
    visit = home.visit()
    for act in (visit.remove, visit.make_directory, visit.create):
        with pytest.raises(Denied):
            act("/manifest/index-2026-11.csv")
    for name in ("index-2026-10.csv", "index-2026-12.csv", "index-2026-13.csv", "index-0000-00.csv", "index-2026-11"):
        with pytest.raises(NotFound):
            visit.ask(visit.stat, f"/manifest/{name}")


def test_a_disk_that_is_full_is_try_again_and_leaves_no_half_line(
    home: World, november: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next question makes the file anew."""
    home.publish(b"one", b"two")
    november.pass_(2)
    write = os.pwrite

    def full(fd: int, content: bytes, offset: int) -> int:
        if len(content) > 100:
            return write(fd, content[:50], offset) if offset < 100 else _full()
        return write(fd, content, offset)

    visit = home.visit()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(Unavailable):
            names(visit, "/manifest")
    assert indexes(home) == {"2026-11": [1, 2]}


def _full() -> int:
    raise OSError(28, "No space left on device")


def event(number: str, name: str) -> events.Event:
    return events.Event(
        1, EventKind.PUBLISHED, clock.now(), "ent", "dlv", "doc", Kind.INVOICE, number, name, "2026-11", "pdf",
        "0" * 64, 1, 0, 1, True, None, None,
    )  # fmt: skip


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_no_field_is_a_formula_and_every_line_reads_back(number: str, name: str) -> None:
    """Whatever a producer calls its documents: OWASP's list of beginnings, and a reader that follows RFC 4180."""
    (row,) = csv.reader(io.StringIO(monthly_csv.lines([event(number, name)]).decode(), newline=""), strict=True)
    assert len(row) == len(monthly_csv.COLUMNS)
    assert not any(re.match(r"[=+\-@\t\r\n]", field) for field in row)
    assert number.startswith("'") or monthly_csv.unharmed(row[4]) == number


@given(st.lists(st.integers(-40, 40), max_size=30), st.integers(0, 30))
def test_months_are_runs_of_consecutive_numbers_whatever_the_clock_does(steps: list[int], cut: int) -> None:
    """However the events are read in pages, they fall into the same months, and these only go on."""
    at, instants = dt.datetime(2026, 11, 10, tzinfo=dt.UTC), []
    for days in steps:
        at += dt.timedelta(days=days)
        instants.append(at)
    page = [
        events.Event(**{**vars(event("1", "a")), "sequence": sequence, "at": instant})
        for sequence, instant in enumerate(instants, 1)
    ]
    whole = list(monthly._by_month(page, "2026-11", PARIS))
    assert [one for _, run in whole for one in run] == page
    assert [month for month, _ in whole] == sorted({month for month, _ in whole})
    first = list(monthly._by_month(page[:cut], "2026-11", PARIS))
    month = first[-1][0] if first else "2026-11"
    parts = [(of, one) for of, run in [*first, *monthly._by_month(page[cut:], month, PARIS)] for one in run]
    assert parts == [(of, one) for of, run in whole for one in run]
