"""The database: one way to write, one way to read, the same on SQLite and PostgreSQL.

`write(step)` runs `step(tx)` in a transaction and returns its result only after the durable commit. On SQLite
(WAL, synchronous=FULL) every write of the process goes through one thread, which commits whatever steps are
waiting together, each in its own savepoint: a step that raises undoes itself alone. On PostgreSQL each write
runs in the caller's thread. A step may be run again after a lost race, so it does nothing but database work.

Failures: Unavailable when the database is away or full. When a COMMIT on SQLite fails (ENOSPC, EIO at fsync)
nothing can be known of the disk any more: the commit is not retried, every later write is refused, and
`on_failure` is called once so that the daemon ends and is started again. A lock that another program holds is no
such failure: the steps that waited for it are Unavailable, the next ones are tried. A PostgreSQL that hangs makes
nobody wait longer than pulse.py says.
"""

import contextlib
import datetime as dt
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlmodel import Session

from .. import clock
from ..errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from .hints import Hints
    from .pulse import Pulse

log = structlog.get_logger(__name__)

Transaction = Session
T = TypeVar("T")
_GROUP = 64  # steps in one commit at most: a bound on what one failing commit takes with it
_RETRIED = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "23505",  # unique_violation: another gateway was first; run again, the step sees its row
}
# A machine that is gone says nothing: libpq would wait for it for minutes (its own seconds; the last one milliseconds).
_AWAY_AFTER = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
NO_ANSWER = "the database does not answer; try again"
_AWAY = (OperationalError, InterfaceError, NoConnection)  # not now: away, locked, or every connection in use
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000")


def now(tx: Transaction) -> dt.datetime:
    """The database's clock: leases, due times and sequences of several gateways are compared on it."""
    if tx.get_bind().dialect.name == "sqlite":
        return clock.now()
    instant: dt.datetime = tx.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
    return instant.astimezone(dt.UTC)


def hint(tx: Transaction, text: str) -> None:
    """Tell it to whoever listens, in every gateway, at the commit. A hint may be lost."""
    if tx.get_bind().dialect.name != "sqlite":
        tx.execute(sa.text("SELECT pg_notify('gateway_folder', :text)"), {"text": text})


class Database:
    """An open database. `open` it, `close` it; between them any thread may `read` and `write`."""

    def __init__(self, engine: sa.Engine, on_failure: Callable[[], None] | None = None) -> None:
        self.engine = engine
        self.is_closed = False
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writer = _Writer(engine, on_failure or (lambda: None)) if self.is_sqlite else None
        self._pulse = None if self.is_sqlite else _pulse_of(engine)
        self._hints: Hints | None = None

    @classmethod
    def open(cls, url: str, on_failure: Callable[[], None] | None = None) -> "Database":
        """`url`: sqlite:////absolute/file or postgresql+psycopg://…; ConfigError for anything else."""
        return cls(make_engine(url), on_failure)

    def read(self, step: Callable[[Transaction], T]) -> T:
        """`step`'s result, of one snapshot on SQLite; what it changes is not kept."""
        self._refuse_while_silent()
        try:
            with Session(self.engine, expire_on_commit=False) as tx:
                return step(tx)
        except _AWAY as error:
            raise _unavailable(error) from error

    def write(self, step: Callable[[Transaction], T]) -> T:
        """`step`'s result, after the commit. Unavailable when the database cannot take it."""
        if self._writer is not None:
            return self._writer.submit(step).result()
        self._refuse_while_silent()
        for attempt in range(5):
            try:
                with Session(self.engine, expire_on_commit=False) as tx, tx.begin():
                    return step(tx)
            except (DBAPIError, NoConnection) as error:
                if getattr(_cause(error), "sqlstate", None) in _RETRIED and attempt < 4:
                    continue
                if isinstance(error, _AWAY):
                    raise _unavailable(error) from error
                raise
        raise Unavailable("the database kept refusing a transaction; try again")

    def listen(self, heard: Callable[[str], None]) -> None:
        """`heard` is told from now on, in a thread, what is given to `hint`; never on SQLite, where nobody else is."""
        if not self.is_sqlite:
            self._hints = _hints_of(self.engine, heard)

    def close(self) -> None:
        """Finish the writes that wait, then let go of every connection."""
        self.is_closed = True
        if self._writer is not None:
            self._writer.close()
        if self._hints is not None:
            self._hints.close()
        if self._pulse is not None:
            self._pulse.close()
        self.engine.dispose()

    def _refuse_while_silent(self) -> None:
        """Else each call would find out for itself."""
        if self._pulse is not None and self._pulse.is_silent:
            raise Unavailable(NO_ANSWER)


def _pulse_of(engine: sa.Engine) -> "Pulse":
    from .pulse import Pulse  # with psycopg: who keeps rows in SQLite need not load it

    _, parameters = engine.dialect.create_connect_args(engine.url)
    pulse = Pulse({**parameters, **_AWAY_AFTER})
    event.listen(engine, "do_connect", pulse.connect)
    return pulse


def _hints_of(engine: sa.Engine, heard: Callable[[str], None]) -> "Hints":
    from .hints import Hints

    _, parameters = engine.dialect.create_connect_args(engine.url)
    return Hints({**parameters, **_AWAY_AFTER}, heard)


def make_engine(url: str) -> sa.Engine:
    """An engine whose transactions begin as the writer and the readers need them."""
    where = "[store.database]"
    try:
        address = sa.make_url(url)
    except (ArgumentError, ValueError):  # its message would repeat a password
        raise ConfigError(f"{where} is not a database URL", where=where) from None
    if url.startswith("sqlite:///"):
        if address.database in (None, "", ":memory:"):
            raise ConfigError("an in-memory database is not durable: name a file", where=where)
        engine = sa.create_engine(
            address, connect_args={"timeout": 30}, pool_size=8, max_overflow=24, hide_parameters=True
        )
        # One statement for all rows of an insert: each statement lets other threads take the interpreter away.
        engine.dialect.use_insertmanyvalues_wo_returning = True
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if url.startswith("postgresql+psycopg://"):
        return sa.create_engine(
            address,
            connect_args=_AWAY_AFTER,
            pool_size=8,
            max_overflow=24,
            pool_pre_ping=True,
            pool_timeout=10,
            hide_parameters=True,
        )
    raise ConfigError(f"{where} must begin with sqlite:/// or postgresql+psycopg://", where=where)


def sqlite_url(path: Path) -> str:
    """The URL of a database file."""
    return f"sqlite:///{path.absolute()}"


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves: pysqlite's own rules would break savepoints
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writer = connection.get_execution_options().get("writer", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")


def _unavailable(error: SQLAlchemyError) -> Unavailable:
    log.warning("database.unavailable", cause=str(_cause(error))[:300])
    return Unavailable(NO_ANSWER)


def _cause(error: SQLAlchemyError) -> BaseException:
    return getattr(error, "orig", None) or error


class _Writer:
    """SQLite's one writer: a thread, a queue, one commit for all that waits.

    SQLite's own busy handler is unfair (16 writers: 108 transactions a second, p99 2.2 s); a queue is fair.
    """

    def __init__(self, engine: sa.Engine, on_failure: Callable[[], None]) -> None:
        self._engine = engine.execution_options(writer=True)
        self._on_failure = on_failure
        self._queue: queue.SimpleQueue[tuple[Callable[[Transaction], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._failed = False
        self._closed = False
        self._closing = threading.Lock()  # nothing is queued behind the end
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    def submit(self, step: Callable[[Transaction], T]) -> "Future[T]":
        if threading.current_thread() is self._thread:
            raise RuntimeError("a step must not write through the database again: it would wait for itself")
        future: Future[T] = Future()
        with self._closing:
            if not self._closed:
                self._queue.put((step, future))
                return future
        future.set_exception(Unavailable("the gateway is stopping; try again later"))
        return future

    def close(self) -> None:
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            group = [self._queue.get()]
            while len(group) < _GROUP and group[-1] is not None:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            open_ = group[-1] is not None
            steps = [item for item in group if item is not None]
            if steps:
                self._commit(steps)

    def _commit(self, steps: list[tuple[Callable[[Transaction], Any], Future[Any]]]) -> None:
        futures = [future for _, future in steps]
        if self._failed:
            _refuse(futures, Unavailable("the disk failed; the gateway is about to be restarted"))
            return
        done: list[tuple[Future[Any], Any]] = []
        try:
            self._group(steps, done)
        except BaseException as error:  # noqa: BLE001 -- whatever it was, nobody may wait for ever
            self._fail(error, futures)
            return
        for future, result in done:
            future.set_result(result)

    def _group(
        self, steps: list[tuple[Callable[[Transaction], Any], Future[Any]]], done: list[tuple[Future[Any], Any]]
    ) -> None:
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(self._engine.connect())
                transaction = connection.begin()
            except _AWAY as error:  # nothing was begun: the steps may be tried again, the writer goes on
                _refuse([future for _, future in steps], _unavailable(error))
                return
            try:
                for step, future in steps:
                    self._one(connection, step, future, done)
                transaction.commit()
            except BaseException:
                connection.invalidate()  # what is left of its transaction must not come back out of the pool
                raise

    def _one(
        self,
        connection: sa.Connection,
        step: Callable[[Transaction], Any],
        future: "Future[Any]",
        done: list[tuple["Future[Any]", Any]],
    ) -> None:
        try:
            with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as tx:
                result = step(tx)
                tx.commit()
        except Exception as error:
            driver: Any = connection.connection.dbapi_connection
            if not driver.in_transaction:
                # SQLite gave up the whole transaction (disk full, I/O error): the steps before this one are gone too.
                raise
            future.set_exception(_unavailable(error) if isinstance(error, OperationalError) else error)
        else:
            done.append((future, result))

    def _fail(self, error: BaseException, futures: "list[Future[Any]]") -> None:
        log.error("database.commit_failed", cause=str(error)[:300], steps=len(futures))
        self._failed = True
        _refuse(futures, Unavailable("the disk failed while this was written; it was not kept"))
        try:
            self._on_failure()
        except Exception:
            log.exception("database.failure_not_told")  # the writer goes on refusing, or its callers would hang


def _refuse(futures: "list[Future[Any]]", error: Unavailable) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
