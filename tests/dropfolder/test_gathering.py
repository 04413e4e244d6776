"""Reads that can be no receipt are recorded together, a moment later, and before anything that depends on them."""

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from structlog.testing import capture_logs

from gateway.domain.folders import ReceiptMode
from gateway.domain.states import DeliveryState
from gateway.dropfolder import gathering
from gateway.dropfolder.nodes import File
from gateway.dropfolder.visit import Visit
from gateway.errors import NotFound, Unavailable
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, Transaction
from tests.dropfolder.conftest import Time
from tests.dropfolder.ground import Ground
from tests.dropfolder.world import World

CONTENT = b"an invoice"


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gathered stays so for longer than a test lasts."""
    monkeypatch.setattr(gathering, "GATHER_SECONDS", 60.0)


def published(world: World, at: Time, *contents: bytes) -> list[str]:
    world.publish(*contents)
    at.pass_(2)
    return [entry.name for entry in world.entries()]


def opened(visit: Visit, name: str) -> File:
    file = visit.ask(visit.open, f"/inbox/{name}")
    assert file.read(0, 10**6)
    return file


def recorded(world: World) -> int:
    """How many reads are in the database now."""
    rows = world.db.read(lambda tx: tx.connection().exec_driver_sql("SELECT event FROM evidence_record").all())
    return sum(row[0] == "entry.read" for row in rows)


def test_many_closes_are_one_transaction(world: World, at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each of them is a record of its own."""
    names = published(world, at, *(CONTENT + bytes([i]) for i in range(30)))
    visit = world.visit()
    files = [opened(visit, name) for name in names]
    writes = counted(world.db, monkeypatch)
    assert all(visit.close_at_once(file) for file in files)
    assert (len(writes), recorded(world)) == (0, 0)
    world.folders.record_now()
    assert (len(writes), recorded(world)) == (1, 30)
    assert all(entry.fully_read_at for entry in world.entries())


def counted(db: Database, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    writes: list[Any] = []
    write = db.write

    def counting(step: Callable[[Transaction], Any]) -> Any:
        writes.append(step)
        return write(step)

    monkeypatch.setattr(db, "write", counting)
    return writes


def test_a_moment_later_is_soon(world: World, at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask for it."""
    monkeypatch.setattr(gathering, "GATHER_SECONDS", 0.05)
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    assert visit.close_at_once(opened(visit, name))
    deadline = time.monotonic() + 10
    while not recorded(world) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert recorded(world) == 1


@pytest.mark.parametrize("mode", ReceiptMode)
def test_what_may_be_a_receipt_waits_for_the_commit(
    database: Database, blobs: LocalBlobs, at: Time, mode: ReceiptMode
) -> None:
    """Its CLOSE is answered when it is durable: the client may not get the file a second time."""
    world = World(database, blobs, mode=mode)
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    file = opened(visit, name)
    is_at_once = visit.close_at_once(file)
    assert is_at_once is (mode is not ReceiptMode.FULL_READ)
    if not is_at_once:
        visit.close(file)
        assert recorded(world) == 1
        assert world.entry().received_at is not None


def test_a_file_read_out_of_place_is_received_before_its_close_is_answered(world: World, at: Time) -> None:
    """Renamed first and read then: in mode `delete` the read is all that the receipt lacked."""
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    file = opened(visit, name)
    visit.rename(f"/inbox/{name}", "/inbox/work.pdf")
    assert not visit.close_at_once(file)
    visit.close(file)
    assert world.entry().received_at is not None


DEEDS: list[Callable[[Visit, str], None]] = [
    lambda visit, name: visit.remove(f"/inbox/{name}"),
    lambda visit, name: visit.rename(f"/inbox/{name}", "/inbox/work.pdf"),
]


@pytest.mark.parametrize("deed", DEEDS, ids=["remove", "rename"])
@pytest.mark.parametrize("is_same", [True, False], ids=["same session", "another session"])
def test_what_a_client_does_next_finds_its_read(
    world: World, at: Time, deed: Callable[[Visit, str], None], is_same: bool
) -> None:
    """One transaction records the read and what was done: the receipt is there, and no alert."""
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    other = visit if is_same else world.visit()
    assert visit.close_at_once(opened(visit, name))
    deed(other, name)
    assert world.entry().received_at is not None
    assert "entry.removed_unread" not in world.events()
    events = [event for event in world.events("entry.") if event in ("entry.read", "entry.received")]
    assert events == ["entry.read", "entry.received"]


def test_the_end_of_a_session_comes_after_its_reads(world: World, at: Time) -> None:
    """The ledger tells a stay in its order."""
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    assert visit.close_at_once(opened(visit, name))
    visit.end()
    assert [event for event in world.events() if event in ("entry.read", "session.ended")] == [
        "entry.read",
        "session.ended",
    ]


def test_what_cannot_be_done_loses_no_read(world: World, at: Time) -> None:
    """The transaction that failed took the reads along; they wait again."""
    one, two = published(world, at, CONTENT, CONTENT + b"2")
    visit, other = world.visit(), world.visit()
    visit.ask(visit.stat, f"/inbox/{two}")
    assert visit.close_at_once(opened(visit, one))
    moved = f"UPDATE folder_entry SET path = '/elsewhere' WHERE name = '{two}'"  # by another gateway
    world.db.write(lambda tx: tx.connection().exec_driver_sql(moved))
    with pytest.raises(NotFound):
        other.remove(f"/inbox/{two}")
    assert recorded(world) == 0
    world.folders.record_now()
    assert recorded(world) == 1


def test_while_the_database_is_away_nothing_is_gathered(
    world: World, at: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits goes on waiting; the next CLOSE is told to try again, and is gathered once the database is back."""
    names = published(world, at, *(CONTENT + bytes([i]) for i in range(3)))
    visit = world.visit()
    first, second, third = (opened(visit, name) for name in names)
    assert visit.close_at_once(first)

    def away(step: Any) -> Any:
        raise Unavailable("the database does not answer; try again")

    with monkeypatch.context() as patch:
        patch.setattr(world.db, "write", away)
        with pytest.raises(Unavailable):
            world.folders.record_now()
        assert not visit.close_at_once(second)
        with pytest.raises(Unavailable):
            visit.close(second)
    visit.close(second)
    assert recorded(world) == 2
    assert visit.close_at_once(third)


def test_what_ends_while_the_database_is_away_is_recorded_once_it_is_back(
    world: World, at: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there to try again; a session that never ended would be shown as one for ever, on PostgreSQL."""
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    file = opened(visit, name)

    def away(step: Any) -> Any:
        raise Unavailable("the database does not answer; try again")

    monkeypatch.setattr(gathering, "GATHER_SECONDS", 0.05)
    monkeypatch.setattr(gathering, "AGAIN_SECONDS", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(world.db, "write", away)
        with pytest.raises(Unavailable):
            visit.abandon([file])
        visit.end()
        time.sleep(0.3)
    deadline = time.monotonic() + 10
    while not recorded(world) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [one.ended_at is not None for one in world.sessions()] == [True]
    assert world.events()[-2:] == ["entry.read", "session.ended"]


def test_a_first_listing_while_the_database_is_away_ends_well(
    world: World, at: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was shown is no receipt: the client has its list, and some take a CLOSE that fails for a list that did."""
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    world.folders.record_now()
    visit.ask(visit.stat, f"/inbox/{name}")

    def away(step: Any) -> Any:
        raise Unavailable("the database does not answer; try again")

    with monkeypatch.context() as patch:
        patch.setattr(world.db, "write", away)
        visit._gathering._recorder.is_away = True
        assert visit.listing("/inbox").take(9)
        visit.record_shown()
        assert not visit.has_seen_news
    world.folders.record_now()
    assert [one.highest_sequence for one in world.sessions()] == [1]


def test_a_commit_whose_answer_was_lost_is_made_again(world: World, at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session begins once: its second beginning would be refused, and with it whatever else the folder writes.

    What was recorded by it stands in the evidence once.
    """
    one, two = published(world, at, CONTENT, CONTENT + b"2")
    visit, gone = world.visit(), world.visit()
    assert visit.close_at_once(opened(visit, one))
    gone.end()
    write = world.db.write

    def silent(step: Callable[[Transaction], Any]) -> Any:
        write(step)
        raise Unavailable("the database does not answer; try again")

    with monkeypatch.context() as patch:
        patch.setattr(world.db, "write", silent)
        with pytest.raises(Unavailable):
            world.folders.record_now()
    world.visit().remove(f"/inbox/{two}")
    visit.remove(f"/inbox/{one}")
    assert [entry.received_at is not None for entry in world.entries()] == [True, False]
    assert [world.events().count(event) for event in ("entry.read", "session.ended")] == [1, 1]


def test_what_can_never_be_recorded_keeps_nothing_else_waiting(world: World, at: Time) -> None:
    """Neither the reads before and behind it, nor what another session does, nor the end of the session itself."""
    names = published(world, at, *(CONTENT + bytes([i]) for i in range(3)))
    visit, other = world.visit(), world.visit()
    assert visit.close_at_once(opened(visit, names[0]))
    assert visit._gathering.gather(_impossible)
    assert visit.close_at_once(opened(visit, names[1]))
    with capture_logs() as logs:
        other.remove(f"/inbox/{names[2]}")
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["gathered.lost"]
    assert recorded(world) == 2
    visit.end()
    world.folders.record_now()
    assert world.events()[-1] == "session.ended"


def _impossible(tx: Transaction) -> None:
    tx.connection().exec_driver_sql("INSERT INTO folder_session (id) VALUES ('ses_1')")


def test_the_thread_that_records_outlives_what_nobody_foresaw(
    world: World, at: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It serves every folder: without it, what is read is known only when something else is written."""
    monkeypatch.setattr(gathering, "GATHER_SECONDS", 0.05)
    monkeypatch.setattr(gathering, "AGAIN_SECONDS", 0.05)
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    record, failed = visit._gathering.record, threading.Event()

    def once() -> None:
        if failed.is_set():
            return record()
        failed.set()
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(visit._gathering, "record", once)
    assert visit._gathering.gather(lambda _: None)
    assert failed.wait(10)
    visit._gathering.write(lambda _: None)
    assert visit.close_at_once(opened(visit, name))
    deadline = time.monotonic() + 10
    while not recorded(world) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert recorded(world) == 1


def test_more_than_a_thousand_do_not_wait(world: World, at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client can make grow has an end."""
    monkeypatch.setattr(gathering, "MOST_WAITING", 2)
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    world.folders.record_now()
    files = [opened(visit, name) for _ in range(3)]
    assert [visit.close_at_once(file) for file in files] == [True, True, False]
    visit.close(files[2])
    assert recorded(world) == 3


def test_closing_records_everything(world: World, at: Time) -> None:
    """A daemon that ends leaves nothing behind, and what closes late is recorded at once."""
    one, two = published(world, at, CONTENT, CONTENT + b"2")
    visit = world.visit()
    assert visit.close_at_once(opened(visit, one))
    world.folders.close()
    assert recorded(world) == 1
    assert not visit.close_at_once(opened(visit, two))


def test_sessions_at_once_lose_nothing(world: World, at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads are gathered, taken along and put back by several threads."""
    monkeypatch.setattr(gathering, "GATHER_SECONDS", 0.01)
    names = published(world, at, *(CONTENT + bytes([i]) for i in range(40)))

    def pull(mine: list[str]) -> None:
        visit = world.visit()
        for number, name in enumerate(mine):
            file = opened(visit, name)
            if not visit.close_at_once(file):
                visit.close(file)
            if number % 2:
                visit.remove(f"/inbox/{name}")
        visit.end()

    threads = [threading.Thread(target=pull, args=(names[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = world.entries()
    assert all(entry.fully_read_at for entry in entries)
    assert [entry.received_at is not None for entry in entries] == [entry.removed_at is not None for entry in entries]
    assert recorded(world) == 40
    received = [world.delivery(entry.delivery_id).state for entry in entries if entry.received_at]
    assert set(received) == {DeliveryState.RECEIVED} and len(received) == 20


def test_what_is_gathered_while_it_closes_is_not_lost(world: World, at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked whether anything is gathered still, and the answer was yes: then everything was closed."""
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    file = opened(visit, name)

    def closed(_: object) -> bool:
        world.folders.close()
        return False

    monkeypatch.setattr(visit._gathering, "_may_be_receipt", closed)
    assert not visit.close_at_once(file)
    visit.close(file)
    assert recorded(world) == 1


def test_what_is_put_back_while_it_closes_is_recorded(world: World, at: Time) -> None:
    """A write that failed had taken a read along; nobody came for it any more."""
    (name,) = published(world, at, CONTENT)
    visit = world.visit()
    assert visit.close_at_once(opened(visit, name))
    recorder = world.folders._recorder
    closing = threading.Thread(target=recorder.close)

    def refused(_: Transaction) -> None:
        closing.start()
        while not recorder._closing.is_set():
            time.sleep(0.01)
        raise NotFound("it is not there")

    with pytest.raises(NotFound):
        visit._gathering.write(refused)
    closing.join()
    assert recorded(world) == 1


def test_who_waits_for_others_is_told_so_after_a_while(
    world: World, at: Time, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    """On PostgreSQL a write waits for one that took something along: not for ever, when that one hangs."""
    if database.is_sqlite:
        pytest.skip("SQLite's writer has its own order, and its own end")
    monkeypatch.setattr(gathering, "LONGEST_SECONDS", 0.1)
    visit = world.visit()
    assert visit._gathering.gather(lambda _: None)
    with pytest.raises(Unavailable):
        visit._gathering.write(lambda _: visit._gathering.write(lambda _: None))
    visit._gathering.write(lambda _: None)


class Step(NamedTuple):
    """What a session does: `gather`, `write`, or `fail`, a write that is undone."""

    session: int
    kind: str


STEPS = st.lists(
    st.builds(Step, st.integers(0, 3), st.sampled_from(["gather", "gather", "write", "fail"])), max_size=30
)


def in_any_order(world: World, steps: list[Step]) -> None:
    """Each session in a thread of its own: what is committed is what it did, in its order, and each once."""
    deeds = world.visit(begun=False)._gathering
    tables = "CREATE TABLE deed (position INTEGER PRIMARY KEY, session INTEGER, number INTEGER)"
    with world.db.engine.begin() as connection:
        connection.exec_driver_sql(tables)

    def deed(session: int, number: int, tx: Transaction) -> None:
        tx.connection().exec_driver_sql(
            f"INSERT INTO deed SELECT COALESCE(MAX(position), 0) + 1, {session}, {number} FROM deed"
        )

    def refused(session: int, number: int, tx: Transaction) -> None:
        deed(session, number, tx)
        raise NotFound("it is not there")

    def work(session: int) -> None:
        for number, step in enumerate(steps):
            if step.session == session:
                one = partial(refused if step.kind == "fail" else deed, session, number)
                if step.kind != "gather" or not deeds.gather(one):
                    with contextlib.suppress(NotFound):
                        deeds.write(one)

    threads = [threading.Thread(target=work, args=(session,)) for session in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deeds.record()
    rows = world.db.read(
        lambda tx: tx.connection().exec_driver_sql("SELECT session, number FROM deed ORDER BY position").all()
    )
    for session in range(4):
        expected = [n for n, step in enumerate(steps) if step.session == session and step.kind != "fail"]
        assert [number for by, number in rows if by == session] == expected


@given(STEPS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interleaving_keeps_each_sessions_order_and_loses_nothing(template: Path, steps: list[Step]) -> None:
    """Writes of one folder share commits; some fail, and what they had taken along comes with the next."""
    ground = Ground(template)
    world = World(ground.db, ground.blobs)
    try:
        in_any_order(world, steps)
    finally:
        world.close()
        World.open.remove(world)
        ground.close()


def test_any_interleaving_does_so_on_either_database(world: World, at: Time) -> None:
    """On PostgreSQL they run at the same time."""
    kinds = ["gather", "write", "gather", "fail", "gather", "gather", "write"]
    in_any_order(world, [Step(number % 4, kinds[number * 5 % 7]) for number in range(120)])


def test_writes_of_one_folder_share_a_commit(world: World, at: Time, database: Database) -> None:
    """Sessions that remove what they read do not wait for each other's disk."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL shares commits by itself")
    deeds = world.visit()._gathering
    commits: list[None] = []
    blocked, waits = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        waits.set()
        assert blocked.wait(10)

    def work() -> None:
        deeds.gather(lambda _: None)
        deeds.write(lambda _: None)

    threads = [threading.Thread(target=partial(deeds.write, hold)), *(threading.Thread(target=work) for _ in range(8))]
    threads[0].start()
    assert waits.wait(10)
    for thread in threads[1:]:
        thread.start()
    while database._writer is not None and database._writer._queue.qsize() < 8:
        time.sleep(0.01)
    event.listen(database.engine, "commit", lambda _: commits.append(None))
    blocked.set()
    for thread in threads:
        thread.join()
    assert len(commits) == 2
