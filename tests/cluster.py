"""A PostgreSQL server of the tests' own: a throw-away cluster on a Unix socket, with no port and no durability."""

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

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._made = 0
        self._create(_EMPTY, "template0")
        migrations.upgrade(self.url(_EMPTY))

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
        data, log = Path(folder, "data"), Path(folder, "log")
        create = [initdb, "--no-sync", "-A", "trust", "-U", _USER, "-E", "UTF8", "--locale=C", "-D", str(data)]
        subprocess.run(create, check=True, capture_output=True)
        command = [postgres, "-D", str(data), "-k", folder, *_SETTINGS]
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
            try:
                _wait_until_it_answers(server, folder, log)
                yield Cluster(Path(folder))
            finally:
                server.send_signal(signal.SIGINT)  # fast shutdown: ends sessions, then stops
                server.wait(30)


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
