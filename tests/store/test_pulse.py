"""A PostgreSQL that hangs makes nobody wait for long, and is back as soon as it answers."""

import contextlib
import errno
import os
import select
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from gateway.errors import Unavailable
from gateway.store import pulse
from gateway.store.database import Database, Transaction
from tests import cluster, peers

pytestmark = pytest.mark.postgresql
NOTICED = pulse.EVERY_SECONDS + pulse.SILENT_SECONDS + 1.5  # on a busy machine
BACK = 3.0


@pytest.fixture(scope="module")
def server() -> Iterator[cluster.Cluster]:
    """A PostgreSQL that this module alone may stop."""
    peers.require("postgres")
    with cluster.running(peers.program("postgres")) as running:
        yield running


@pytest.fixture
def database(server: cluster.Cluster) -> Iterator[Database]:
    opened = Database.open(server.create())
    yield opened
    opened.close()


def ask(database: Database, statement: str = "SELECT 1") -> object:
    return database.read(lambda tx: tx.execute(sa.text(statement)).scalar())


def refused_after(database: Database, statement: str = "SELECT 1") -> float:
    """Seconds until a question fails."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match="the database does not answer; try again"):
        ask(database, statement)
    return time.monotonic() - began


def answered_after(database: Database, seconds: float = 10.0) -> float:
    """Seconds until a question is answered."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with contextlib.suppress(Unavailable):
            ask(database)
            break
        time.sleep(0.05)
    return time.monotonic() - began


@contextlib.contextmanager
def hanging(server: cluster.Cluster) -> Iterator[None]:
    server.hang()
    try:
        yield
    finally:
        server.go_on()


def test_what_is_under_way_ends_what_is_new_fails_at_once_and_it_is_back_in_seconds(
    server: cluster.Cluster, database: Database
) -> None:
    """More questions than there are connections, some in the middle of a transaction, others just beginning."""

    def slow(tx: Transaction) -> None:
        tx.execute(sa.text("SELECT pg_sleep(1)"))
        tx.execute(sa.text("SELECT 1"))

    def refused() -> float:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            database.write(slow)
        return time.monotonic() - began

    with ThreadPoolExecutor(50) as threads:
        assert ask(database) == 1
        waiting = [threads.submit(refused) for _ in range(25)]
        time.sleep(0.5)
        with hanging(server):
            waiting += [threads.submit(refused) for _ in range(25)]
            assert max(one.result(30) for one in waiting) < NOTICED + 0.5
            assert max(refused_after(database) for _ in range(100)) < 0.5
        assert answered_after(database) < BACK


def test_a_connection_that_is_a_black_hole_is_noticed(server: cluster.Cluster) -> None:
    """Packets vanish: connections that are there say nothing, new ones come nowhere, and nobody refuses."""
    with black_hole(server) as hole:
        database = Database.open(hole.url(server.create()))
        try:
            assert ask(database) == 1
            hole.swallows.set()
            assert refused_after(database) < NOTICED
            assert refused_after(database) < 0.5
            hole.swallows.clear()
            assert answered_after(database) < BACK
        finally:
            database.close()


def test_a_slow_statement_is_no_hanging_database(database: Database) -> None:
    """It takes longer than the pulse may: the others show that the database is there."""
    assert ask(database, f"SELECT pg_sleep({pulse.SILENT_SECONDS + 1.5})") == ""


def test_one_process_that_hangs_alone_holds_nobody_for_ever(
    server: cluster.Cluster, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pulse is fine; the one statement ends after its time, the next one has another connection."""
    monkeypatch.setattr(pulse.Connection, "longest", 1.0)
    before = ask(database, "SELECT pg_backend_pid()")
    assert isinstance(before, int)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(refused_after, database, "SELECT pg_sleep(0.5)")
        time.sleep(0.2)
        os.kill(before, signal.SIGSTOP)
        try:
            assert 0.9 < waiting.result(10) < 3.0
            assert ask(database, "SELECT pg_backend_pid()") != before
        finally:
            os.kill(before, signal.SIGCONT)


def test_a_statement_that_is_too_large_to_send_ends_too(server: cluster.Cluster, database: Database) -> None:
    """The socket takes nothing any more: to take leave of the server would wait for ever."""
    assert ask(database) == 1
    with hanging(server):
        began = time.monotonic()
        with pytest.raises(Unavailable):
            database.read(lambda tx: tx.execute(sa.text("SELECT length(:long)"), {"long": "x" * 20_000_000}).scalar())
        assert time.monotonic() - began < NOTICED + 1


def test_a_database_that_refuses_is_asked_each_time(server: cluster.Cluster) -> None:
    """Nobody waits for it; and it is back with its first answer, not with that of the pulse."""
    database = Database.open("postgresql+psycopg://x@127.0.0.1:1/x")
    try:
        assert max(refused_after(database) for _ in range(3)) < 1.0
        assert database._pulse is not None and not database._pulse.is_silent
    finally:
        database.close()


def test_a_pulse_closes_the_connection_that_it_gives_up(database: Database) -> None:
    """One that answers with an error is open still: dropped as it is, it would hold its place in the server."""
    beating = database._pulse
    assert beating is not None
    connection = pulse.Connection.connect(**beating._parameters)
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1/0")
    assert beating._ask(connection) is None
    assert connection.closed
    assert not beating.is_silent


def test_a_pulse_outlives_a_process_without_descriptors(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """To wait for an answer takes one; without the pulse a database that hangs would hold everybody."""
    asked = threading.Semaphore(0)

    def none_left(*_: object, **__: object) -> None:
        asked.release()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(pulse, "EVERY_SECONDS", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(pulse.Connection, "execute", none_left)
        patch.setattr(pulse.Connection, "connect", none_left)
        assert all(asked.acquire(timeout=5) for _ in range(3))
    assert database._pulse is not None and database._pulse._thread.is_alive()
    assert ask(database) == 1


# -- a way to the server that can swallow everything


class BlackHole:
    """Stands before the server's socket and passes bytes on, until `swallows` is set: then nothing goes anywhere."""

    def __init__(self, folder: Path, server: cluster.Cluster) -> None:
        self.swallows = threading.Event()
        self._folder = folder
        self._server = str(sa.make_url(server.url("x")).query["host"])
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._is_over = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen(100)
        self._thread = threading.Thread(target=self._pass_on)
        self._thread.start()

    def url(self, of_the_server: str) -> str:
        return of_the_server.replace(self._server, str(self._folder))

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        for one in [self._listener, *self._pairs]:
            one.close()

    def _pass_on(self) -> None:
        while not self._is_over.wait(0.001):
            if self.swallows.is_set():
                time.sleep(0.01)
                continue
            for one in select.select([self._listener, *self._pairs], [], [], 0.02)[0]:
                if one is self._listener:
                    self._accept()
                elif one in self._pairs:
                    self._move(one)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        behind = socket.socket(socket.AF_UNIX)
        behind.connect(f"{self._server}/.s.PGSQL.5432")
        self._pairs |= {client: behind, behind: client}

    def _move(self, one: socket.socket) -> None:
        content = b""
        with contextlib.suppress(OSError):
            content = one.recv(65536)
            self._pairs[one].sendall(content)
        if not content:
            for end in (one, self._pairs[one]):
                del self._pairs[end]
                end.close()


@contextlib.contextmanager
def black_hole(server: cluster.Cluster) -> Iterator[BlackHole]:
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # a socket's path may have 107 bytes
        hole = BlackHole(Path(folder), server)
        try:
            yield hole
        finally:
            hole.close()
