"""The schema: made from nothing, brought on from before, the same as the tables of the code, on both databases."""

import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlmodel import select

from gateway import clock, evidence
from gateway.domain.ledger import Record
from gateway.domain.parties import Client
from gateway.domain.tables import metadata
from gateway.errors import Conflict
from gateway.store import migrations
from gateway.store.database import Database, make_engine, sqlite_url
from tests import cluster

LATER = '''"""A later one."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{newest}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("client", sa.Column("later", sa.String(), nullable=True))
    {then}


def downgrade() -> None:
    op.drop_column("client", "later")
'''


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "empty.db")
        return
    server: cluster.Cluster = request.getfixturevalue("postgresql")
    url = server.create(migrated=False)
    yield url
    server.drop(url)


def _later_release(patch: pytest.MonkeyPatch, folder: Path, then: str = "pass") -> None:
    """This release with one more migration."""
    scripts = folder / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    text = LATER.format(newest=migrations.newest(), then=then)
    (scripts / "versions" / "9999_later.py").write_text(text)
    config = Config()
    config.set_main_option("script_location", str(scripts))
    patch.setattr(migrations, "configuration", lambda: config)


def _tables(url: str) -> set[str]:
    engine = make_engine(url)
    try:
        return set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def _add_client(url: str, name: str) -> None:
    database = Database.open(url)
    database.write(lambda tx: tx.add(Client(name=name, created_at=clock.now())))
    database.close()


def test_an_empty_database_gets_every_table(empty_url: str) -> None:
    """And the revision that says so; again, there is nothing to do."""
    assert migrations.current(empty_url) is None
    for _ in range(2):
        migrations.upgrade(empty_url)
        assert migrations.current(empty_url) == migrations.newest()
    assert _tables(empty_url) == {*metadata.tables, "alembic_version"}


def test_the_schema_is_that_of_the_code(database_url: str) -> None:
    """A column that was added to a table and not to a migration is found here, not in production."""
    engine = make_engine(database_url)
    with engine.connect() as connection:
        options: dict[str, Any] = {"compare_type": True, "target_metadata": metadata, "include_object": _comparable}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def _comparable(thing: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    """SQLite cannot tell the order within an index, so that one with an order never looks like ours."""
    return kind != "index" or name != "ix_document_search"


def test_the_way_back_leaves_nothing(empty_url: str) -> None:
    """A downgrade is for a mistaken upgrade: it must work when it is needed."""
    migrations.upgrade(empty_url)
    engine = make_engine(empty_url)
    with engine.connect() as connection:
        config = migrations.configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
    engine.dispose()
    assert _tables(empty_url) == {"alembic_version"}
    migrations.upgrade(empty_url)
    assert migrations.current(empty_url) == migrations.newest()


def test_two_upgrades_at_once_are_one(empty_url: str) -> None:
    """Two gateways are installed at the same time: on PostgreSQL the second waits for the first."""
    if empty_url.startswith("sqlite"):
        return  # there the state directory's lock lets one process in
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(migrations.upgrade, [empty_url] * 3))
    assert migrations.current(empty_url) == migrations.newest()


def test_a_schema_of_another_release_is_named_with_what_to_do(
    database_url: str, empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`serve` on PostgreSQL changes no schema by itself: others may be running on it."""
    migrations.require_newest(database_url)
    with pytest.raises(Conflict, match="gateway migrate"):
        migrations.require_newest(empty_url)
    _later_release(monkeypatch, tmp_path)
    with pytest.raises(Conflict, match="9999"):
        migrations.require_newest(database_url)


def test_an_upgrade_keeps_the_rows(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From one release to the next."""
    _add_client(database_url, "a")
    _later_release(monkeypatch, tmp_path)
    migrations.upgrade(database_url)
    assert migrations.current(database_url) == "9999"
    engine = make_engine(database_url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT name, later FROM client")).all() == [("a", None)]
    engine.dispose()


def test_an_upgrade_that_fails_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half a schema would be no release's: DDL is in the migration's transaction, on SQLite too."""
    newest = migrations.newest()
    _later_release(monkeypatch, tmp_path, 'raise RuntimeError("no")')
    with pytest.raises(RuntimeError, match="no"):
        migrations.upgrade(database_url)
    assert migrations.current(database_url) == newest
    engine = make_engine(database_url)
    assert "later" not in {column["name"] for column in sa.inspect(engine).get_columns("client")}
    engine.dispose()


def test_a_file_is_copied_before_it_is_upgraded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The copy is whole, with what was in the write-ahead log only, and of the old schema."""
    url, before = sqlite_url(tmp_path / "gateway.db"), migrations.newest()
    migrations.upgrade(url)
    held_open = Database.open(url)  # so that closing does not empty the log
    held_open.read(lambda tx: tx.exec(select(Client)).all())
    _add_client(url, "only in the log")
    _later_release(monkeypatch, tmp_path)
    migrations.upgrade_file(url)
    held_open.close()
    (copy,) = tmp_path.glob("gateway.db.*.bak")
    assert f".{before}." in copy.name
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT name FROM client").fetchall() == [("only in the log",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert migrations.current(sqlite_url(copy)) == before
    assert migrations.current(url) == "9999"


def test_a_file_that_needs_nothing_is_not_copied(tmp_path: Path) -> None:
    """Neither a new one nor one of this release: each start would leave a copy."""
    url = sqlite_url(tmp_path / "gateway.db")
    for _ in range(2):
        migrations.upgrade_file(url)
    assert migrations.current(url) == migrations.newest()
    assert list(tmp_path.glob("*.bak")) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE evidence_record SET body = 'x'",
        "DELETE FROM evidence_record",
        "INSERT OR REPLACE INTO evidence_record SELECT id, at, event, subject, document_id, 'x', sha256 "
        "FROM evidence_record",
        "INSERT INTO evidence_record SELECT * FROM evidence_record WHERE true "
        "ON CONFLICT (id) DO UPDATE SET body = 'x'",
        "TRUNCATE evidence_record",
    ],
)
def test_the_ledger_takes_inserts_only(database: Database, statement: str) -> None:
    """A record that was written is never changed, replaced or removed, not even by our own mistake."""
    database.write(lambda tx: evidence.record(tx, "thing.happened", "thg_1"))
    before = database.read(lambda tx: tx.exec(select(Record.body)).all())
    with pytest.raises(sa.exc.DBAPIError), database.engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert database.read(lambda tx: tx.exec(select(Record.body)).all()) == before
    database.write(lambda tx: evidence.record(tx, "thing.happened", "thg_2"))
