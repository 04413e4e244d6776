"""Schema migrations (alembic), from the first table on.

`upgrade` brings a database to the newest schema. PostgreSQL: under an advisory lock, by `gateway migrate` only.
SQLite: also at `serve`, after a copy of the file. Each migration leaves the previous release working.
"""

import contextlib
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ... import clock
from ...errors import Conflict
from ..database import make_engine

_LOCK = 0x67617465  # "gate": the advisory lock that migrations of one PostgreSQL database share


def configuration() -> Config:
    """Alembic's configuration, without a file: the scripts lie in this package."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def newest() -> str:
    """The newest revision that this release knows."""
    head = ScriptDirectory.from_config(configuration()).get_current_head()
    assert head is not None
    return head


def current(url: str) -> str | None:
    """The revision of a database; None when it is empty."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def upgrade(url: str) -> None:
    """Bring a database to the newest schema; nothing to do when it is there already."""
    engine = make_engine(url)
    config = configuration()
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"SELECT pg_advisory_lock({_LOCK})"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        engine.dispose()


def upgrade_file(url: str) -> None:
    """Upgrade a SQLite file, after a copy of it when it already holds a schema (`serve`)."""
    revision = current(url)
    if revision == newest():
        return
    if revision is not None:
        _copy(url, revision)
    upgrade(url)


def require_newest(url: str) -> None:
    """Conflict, with what to do, when a PostgreSQL database is not at this release's schema."""
    revision = current(url)
    if revision != newest():
        raise Conflict(
            f"the database is at schema {revision or 'none'}, this release needs {newest()}: run `gateway migrate`",
            code="schema",
        )


def _copy(url: str, revision: str) -> None:
    path = Path(sa.make_url(url).database or "")
    target = path.with_name(f"{path.name}.{revision}.{clock.now():%Y%m%dT%H%M%SZ}.bak")
    with contextlib.closing(sqlite3.connect(path)) as now, contextlib.closing(sqlite3.connect(target)) as copy:
        now.backup(copy)  # with what the write-ahead log holds, in one transaction
