"""A write is there when `write` returns, or it is not there at all; and nobody waits for ever."""

import contextlib
import datetime as dt
import os
import queue
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from gateway import clock
from gateway.domain.parties import Client, Company, CompanyHolding
from gateway.errors import ConfigError, Unavailable
from gateway.store import database as store
from gateway.store.database import Database, Transaction
from tests.conftest import Processes


def _add(name: str) -> Any:
    def step(tx: Transaction) -> str:
        client = Client(name=name, created_at=clock.now())
        tx.add(client)
        return client.id

    return step


def _names(database: Database) -> list[str]:
    return database.read(lambda tx: list(tx.exec(select(Client.name).order_by(col(Client.id)))))


class Gate:
    """Keeps the writer in a step until `open`, so that what follows waits together."""

    def __init__(self, database: Database, ends_with: type[Exception] | None = None) -> None:
        def wait() -> None:
            with pytest.raises(ends_with) if ends_with else contextlib.nullcontext():
                database.write(self._step)

        self._entered, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=wait)
        self._thread.start()
        assert self._entered.wait(10)

    def _step(self, tx: Transaction) -> None:
        self._entered.set()
        self._leave.wait(10)

    def open(self) -> None:
        self._leave.set()
        self._thread.join(10)


@pytest.fixture
def sqlite(_sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """What concerns SQLite's writer thread only."""
    path = tmp_path / "sqlite.db"
    shutil.copy(_sqlite_template, path)
    database = Database.open(store.sqlite_url(path))
    yield database
    database.close()


@pytest.fixture
def together(sqlite: Database) -> Iterator[Any]:
    """Runs steps at once, from a thread each, in one commit: a function from steps to futures, in their order."""
    pool = ThreadPoolExecutor(16)

    def run(*steps: Any) -> "list[Future[Any]]":
        gate = Gate(sqlite)
        futures = []
        for step in steps:
            waiting = sqlite._writer._queue.qsize()  # type: ignore[union-attr]
            futures.append(pool.submit(sqlite.write, step))
            while sqlite._writer._queue.qsize() == waiting:  # type: ignore[union-attr]
                time.sleep(0.001)
        gate.open()
        return futures

    yield run
    pool.shutdown()


def test_what_was_written_is_read_by_everyone(database: Database) -> None:
    """After `write` returned, from any thread; the step's result comes back."""
    id_ = database.write(_add("a"))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_names, database).result() == ["a"]
    row = database.read(lambda tx: tx.get(Client, id_))
    assert row is not None
    assert row.name == "a", "an object outlives its transaction"


def test_a_step_that_raises_leaves_nothing(database: Database) -> None:
    """Whatever it had done before; and the error is the caller's own."""

    def step(tx: Transaction) -> None:
        _add("half")(tx)
        tx.flush()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        database.write(step)
    assert _names(database) == []


def test_what_a_read_changes_is_not_kept(database: Database) -> None:
    """Reads may be cut at any time; only `write` promises anything."""
    database.read(lambda tx: _keep(tx, Client(name="x", created_at=clock.now())))
    assert _names(database) == []


def test_a_broken_reference_is_refused(database: Database) -> None:
    """Foreign keys hold on SQLite too, where they are off unless asked for."""
    with pytest.raises(IntegrityError):
        database.write(
            lambda tx: tx.execute(
                sa.insert(CompanyHolding),
                [{"company_id": "com_x", "client_id": "cli_x", "from_day": dt.date(2026, 1, 1), "id": "chd_x"}],
            )
        )


def test_a_unique_value_is_unique(database: Database) -> None:
    """On PostgreSQL the step is run again first: the other may have been first by a moment only."""
    runs = []

    def step(tx: Transaction) -> None:
        runs.append(1)
        tx.add(Company(siren="404833048", name="a", created_at=clock.now()))

    database.write(step)
    with pytest.raises(IntegrityError):
        database.write(step)
    assert len(database.read(lambda tx: tx.exec(select(Company)).all())) == 1
    assert len(runs) == 2 if database.is_sqlite else len(runs) > 2


def test_many_writers_lose_nothing(database: Database) -> None:
    """Sixteen threads read, add one, write: every one counts."""
    id_ = database.write(_add("counter"))

    def add_one(tx: Transaction) -> None:
        row = tx.get(Client, id_, with_for_update=True)
        assert row is not None
        row.version += 1
        tx.add(row)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: database.write(add_one), range(100)))
    assert database.read(lambda tx: tx.get(Client, id_)).version == 101  # type: ignore[union-attr]


def test_the_databases_clock_is_aware_and_goes_on(database: Database) -> None:
    """Leases are compared on it: within one transaction it does not stand still."""

    def step(tx: Transaction) -> tuple[dt.datetime, dt.datetime]:
        first = store.now(tx)
        time.sleep(0.002)
        return first, store.now(tx)

    first, second = database.read(step)
    assert first.tzinfo is dt.UTC
    assert first < second
    assert abs(first - clock.now()) < dt.timedelta(seconds=10)


def test_an_instant_comes_back_as_it_went_in(database: Database) -> None:
    """To the microsecond and in UTC, whatever zone it came with; one without a zone is refused."""
    there = dt.timezone(dt.timedelta(hours=2))
    instant = dt.datetime(2026, 3, 29, 2, 30, 0, 123456, there)

    def add(at: dt.datetime) -> str:
        return database.write(lambda tx: _keep(tx, Client(name="a", created_at=at)))

    row = database.read(lambda tx: tx.get(Client, add(instant)))
    assert row is not None
    assert (row.created_at, row.created_at.tzinfo) == (instant, dt.UTC)
    with pytest.raises(sa.exc.StatementError, match="time zone"):
        add(instant.replace(tzinfo=None))


def _keep(tx: Transaction, row: Client) -> str:
    tx.add(row)
    tx.flush()
    return row.id


def test_a_word_that_is_none_of_ours_is_refused_by_the_database(database: Database) -> None:
    """SQLModel's tables do not validate; the CHECK does."""
    with pytest.raises((IntegrityError, sa.exc.StatementError)):
        database.write(lambda tx: tx.execute(sa.text("UPDATE client SET language = 'de'")) if _add("a")(tx) else None)
    with pytest.raises((IntegrityError, sa.exc.StatementError)):
        database.write(lambda tx: _keep(tx, Client(name="a", language="de", created_at=clock.now())))  # type: ignore[arg-type]


def test_a_database_that_has_gone_is_unavailable(database: Database) -> None:
    """Not a traceback of the driver's: the same request may succeed later."""
    url = "sqlite:////nowhere/at/all.db" if database.is_sqlite else "postgresql+psycopg://x@127.0.0.1:1/x"
    gone = Database.open(url)
    try:
        with pytest.raises(Unavailable):
            gone.read(lambda tx: tx.exec(select(Client)).all())
        with pytest.raises(Unavailable):
            gone.write(_add("x"))
    finally:
        gone.close()


def test_without_a_free_connection_it_is_unavailable(database: Database) -> None:
    """Too much at once is said as such, after a while."""
    engine = sa.create_engine(database.engine.url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    few = Database(engine)
    with engine.connect():
        with pytest.raises(Unavailable):
            few.read(lambda tx: tx.exec(select(Client)).all())
        with pytest.raises(Unavailable):
            few.write(_add("x"))
    few.write(_add("y"))
    few.close()
    assert _names(database) == ["y"], "once one is free, it goes on"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://x/y",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "postgresql://x/y",
        "postgresql+psycopg://u:hush@host:port/x",
    ],
)
def test_an_address_that_cannot_be_used_is_a_configuration_error(url: str) -> None:
    """In memory nothing is durable; other drivers are not ours. A password in it is not repeated."""
    with pytest.raises(ConfigError) as error:
        Database.open(url)
    assert error.value.facts["where"] == "[store.database]"
    assert "hush" not in str(error.value)


def test_sqlite_is_durable_at_every_commit(sqlite: Database) -> None:
    """WAL without synchronous=FULL loses the last commits in a power cut."""
    asked = ("journal_mode", "synchronous", "foreign_keys")
    answers = sqlite.read(lambda tx: [tx.execute(sa.text(f"PRAGMA {name}")).scalar() for name in asked])
    assert answers == ["wal", 2, 1]


def test_steps_that_wait_are_committed_together(sqlite: Database, together: Any) -> None:
    """Group commit: one fsync for all; and in the order in which they came."""
    commits: list[int] = []
    sa.event.listen(sqlite.engine, "commit", lambda connection: commits.append(1))
    futures = together(*(_add(f"n{number}") for number in range(8)))
    assert [len(future.result(10)) > 4 for future in futures] == [True] * 8
    assert _names(sqlite) == [f"n{number}" for number in range(8)]
    assert len(commits) == 2, "the gate's, and one for the eight"


def test_one_that_raises_takes_no_other_with_it(sqlite: Database, together: Any) -> None:
    """Each step has a savepoint: a broken document must not cost its neighbours."""

    def twice(tx: Transaction) -> None:
        for _ in range(2):
            tx.add(Company(siren="404833048", name="a", created_at=clock.now()))

    def raising(tx: Transaction) -> None:
        _add("half")(tx)
        tx.flush()
        raise ValueError("no")

    good, broken, refused, last = together(_add("a"), raising, twice, _add("b"))
    assert good.result(10)
    assert last.result(10)
    assert isinstance(broken.exception(10), ValueError)
    assert isinstance(refused.exception(10), IntegrityError)
    assert _names(sqlite) == ["a", "b"]


def test_a_step_sees_what_those_before_it_in_the_group_wrote(sqlite: Database, together: Any) -> None:
    """As if each had been committed alone: the second of two same documents must find the first."""
    _, seen = together(_add("first"), lambda tx: tx.exec(select(Client.name)).all())
    assert seen.result(10) == ["first"]


def test_a_step_that_writes_through_the_database_again_is_told(sqlite: Database) -> None:
    """It would wait for itself for ever."""
    with pytest.raises(RuntimeError, match="wait for itself"):
        sqlite.write(lambda tx: sqlite.write(_add("x")))
    assert sqlite.write(_add("y"))


def test_a_lock_held_by_another_program_is_waited_for_then_unavailable(sqlite: Database) -> None:
    """An operator's sqlite3 shell, a backup: the step fails, the gateway goes on; no disk has failed."""
    failures: list[int] = []
    engine = store.make_engine(str(sqlite.engine.url))
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
    database = Database(engine, lambda: failures.append(1))
    path = str(sqlite.engine.url.database)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            database.write(_add("x"))
        other.execute("ROLLBACK")
    other.close()
    assert database.write(_add("y"))
    database.close()
    assert failures == []
    assert _names(sqlite) == ["y"]


class _BrokenDisk(Exception):
    """What a COMMIT meets."""


@pytest.fixture
def breaking(sqlite: Database) -> Iterator[tuple[Database, list[str]]]:
    """A database whose next COMMIT fails, and the list of what happened since."""
    happened: list[str] = []
    engine = store.make_engine(str(sqlite.engine.url))

    def on_failure() -> None:
        happened.append("told")
        raise RuntimeError("the daemon's own trouble")

    database = Database(engine, on_failure)

    def break_(connection: sa.Connection) -> None:
        happened.append("commit")
        raise _BrokenDisk

    sa.event.listen(engine, "commit", break_)
    yield database, happened
    database.close()


def test_after_a_failed_commit_nothing_is_promised_any_more(breaking: tuple[Database, list[str]]) -> None:
    """An fsync is never retried: what the kernel dropped once it reports as written the second time."""
    database, happened = breaking
    with pytest.raises(Unavailable, match="not kept"):
        database.write(_add("x"))
    for _ in range(2):
        with pytest.raises(Unavailable, match="restarted"):
            database.write(_add("y"))
    assert happened == ["commit", "told"], "tried once, told once"
    assert _names(database) == [], "reads go on"


def test_what_waited_behind_a_failed_commit_is_refused_too(breaking: tuple[Database, list[str]]) -> None:
    """It was queued before anybody knew; committing it now would trust a disk that lies."""
    database, happened = breaking
    gate = Gate(database, Unavailable)
    with ThreadPoolExecutor(100) as pool:  # more than one group
        futures = [pool.submit(database.write, _add(f"n{number}")) for number in range(100)]
        _wait_for(database._writer._queue, 100)  # type: ignore[union-attr]
        gate.open()
        for future in futures:
            assert isinstance(future.exception(20), Unavailable)
    assert happened.count("commit") == 1
    assert _names(database) == []


def test_a_full_disk_in_a_step_fails_the_group_and_stops_the_writer(sqlite: Database) -> None:
    """SQLite gives up the whole transaction then: the steps before it are gone as well, and must not say 'done'."""
    told: list[int] = []
    database = Database(store.make_engine(str(sqlite.engine.url)), lambda: told.append(1))
    gate = Gate(database)

    def lose_the_transaction(tx: Transaction) -> None:
        tx.connection().connection.dbapi_connection.rollback()  # type: ignore[union-attr]
        raise sqlite3.OperationalError("database or disk is full")

    waiting = database._writer._queue  # type: ignore[union-attr]
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(database.write, _add("before"))
        _wait_for(waiting, 1)
        losing = pool.submit(database.write, lose_the_transaction)
        _wait_for(waiting, 2)
        gate.open()
        assert isinstance(before.exception(10), Unavailable)
        assert isinstance(losing.exception(10), Unavailable)
    database.close()
    assert told == [1]
    assert _names(sqlite) == []


def _wait_for(waiting: "queue.SimpleQueue[Any]", count: int) -> None:
    deadline = time.monotonic() + 10
    while waiting.qsize() < count and time.monotonic() < deadline:
        time.sleep(0.001)


def test_on_a_disk_that_is_full_what_was_promised_stays(sqlite: Database) -> None:
    """A real one, as far as a limit on the size of files is one: every name that was answered is there, no other."""
    script = (
        "import resource, signal, sys\n"
        "from gateway import clock\n"
        "from gateway.domain.parties import Client\n"
        "from gateway.errors import Unavailable\n"
        "from gateway.store.database import Database\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "database = Database.open(sys.argv[1], lambda: sys.stdout.write('told\\n') and None)\n"
        "for number in range(2000):\n"
        "    name = f'{number:05d}' * 40\n"
        "    try:\n"
        "        database.write(lambda tx: tx.add(Client(name=name, created_at=clock.now())))\n"
        "    except Unavailable:\n"
        "        sys.stdout.write('refused\\n')\n"
        "    else:\n"
        "        sys.stdout.write(name + '\\n')\n"
    )
    command = [sys.executable, "-c", script, str(sqlite.engine.url)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    promised = [line for line in lines if line.isdigit()]
    assert lines.count("told") == 1
    assert promised == lines[: len(promised)], "after the failure nothing is promised any more"
    assert len(promised) + lines.count("refused") == 2000
    assert promised == _names(sqlite)
    assert len(promised) > 10


def test_closing_finishes_what_waits_and_then_takes_no_more(sqlite: Database) -> None:
    """At a stop nothing that was promised is lost, and nobody is left waiting for an answer."""
    database = Database(store.make_engine(str(sqlite.engine.url)))
    gate = Gate(database)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(database.write, _add(f"n{number}")) for number in range(8)]
        _wait_for(database._writer._queue, 8)  # type: ignore[union-attr]
        closing = pool.submit(database.close)
        time.sleep(0.05)
        gate.open()
        closing.result(10)
        assert all(future.result(10) for future in futures)
        late = pool.submit(database.write, _add("late"))
        assert isinstance(late.exception(10), Unavailable)
    assert sorted(_names(sqlite)) == [f"n{number}" for number in range(8)]
    database.close()


def test_what_write_returned_survives_a_kill(sqlite: Database, tmp_path: Path, processes: Processes) -> None:
    """kill -9 right after: each name that was printed is there, and the file is whole."""
    script = (
        "import sys\n"
        "from gateway.store.database import Database\n"
        "from gateway.domain.parties import Client\n"
        "from gateway import clock\n"
        f"database = Database.open({str(sqlite.engine.url)!r})\n"
        "number = 0\n"
        "while True:\n"
        "    name = f'n{number}'\n"
        "    database.write(lambda tx: tx.add(Client(name=name, created_at=clock.now())))\n"
        "    print(name, flush=True)\n"
        "    number += 1\n"
    )
    printed = tmp_path / "printed"
    with printed.open("wb") as output:
        child = processes.start(sys.executable, "-c", script, stdout=output)
    deadline = time.monotonic() + 30
    while printed.stat().st_size < 40 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    promised = printed.read_text().split("\n")[:-1]
    assert len(promised) > 5
    assert set(promised) <= set(_names(sqlite))
    assert sqlite.read(lambda tx: tx.execute(sa.text("PRAGMA integrity_check")).scalar()) == "ok"
