"""A PostgreSQL server of the tests' own: a throw-away cluster on a Unix socket, with no port and no durability."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql

from gateway.store import migrations

_USER = "gateway"
_EMPTY = "gateway_template"  # migrated once, copied for each test
_SETTINGS = [
    *("-c", "listen_addresses="),
    *("-c", "fsync=off"),
    *("-c", "full_page_writes=off"),
    *("-c", "synchronous_commit=off"),
    *("-c", "autovacuum=off"),
    *("-c", "shared_buffers=32MB"),
    *("-c", "max_connections=200"),
]


class Cluster:
    """A running server; `create` gives a fresh database with the newest schema."""

    def __init__(self, sockets: Path, command: list[str]) -> None:
        self._sockets = sockets
        self._command = command
        self._made = 0
        self.start()
        self._create(_EMPTY, "template0")
        migrations.upgrade(self.url(_EMPTY))

    def start(self) -> None:
        """Start it, and wait until it answers; it has what it had."""
        log = self._sockets / "log"
        with log.open("ab") as output:
            self._server = subprocess.Popen(self._command, stdout=output, stderr=output)
        _wait_until_it_answers(self._server, str(self._sockets), log)

    def stop(self) -> None:
        """Stop it, fast: whoever is connected is cut off."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait(30)

    def hang(self) -> None:
        """Its processes stand still; connections stay, and nobody answers."""
        self._server.send_signal(signal.SIGSTOP)  # first: it begins no others
        for pid in self.backends():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """After `hang`."""
        for pid in [*self.backends(), self._server.pid]:
            os.kill(pid, signal.SIGCONT)

    def backends(self) -> list[int]:
        """Its processes but the first."""
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg://{_USER}@/{database}?host={self._sockets}"

    def create(self, *, migrated: bool = True) -> str:
        """The URL of a database that no one else uses; without tables unless `migrated`."""
        self._made += 1
        name = f"test_{self._made}"
        self._create(name, _EMPTY if migrated else "template0")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database that `create` made, with whoever is still connected to it."""
        name = sa.make_url(url).database or ""
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(host=str(self._sockets), user=_USER, dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running(postgres: str) -> Iterator[Cluster]:
    """A cluster for as long as the block lasts. `postgres`: the server's program; its neighbours are used too."""
    initdb = str(Path(postgres).with_name("initdb"))
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # a socket's path may have 107 bytes: not under tmp_path
        data = Path(folder, "data")
        create = [initdb, "--no-sync", "-A", "trust", "-U", _USER, "-E", "UTF8", "--locale=C", "-D", str(data)]
        subprocess.run(create, check=True, capture_output=True)
        cluster = Cluster(Path(folder), [postgres, "-D", str(data), "-k", folder, *_SETTINGS])
        try:
            yield cluster
        finally:
            cluster.stop()


def _wait_until_it_answers(server: "subprocess.Popen[bytes]", sockets: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host=sockets, user=_USER, dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)
