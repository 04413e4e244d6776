"""The ledger of evidence: `record` is its only writer.

A step inserts its record in the transaction of the fact and looks at no other record; ordering and chaining
come later and apart, so that evidence never makes two steps wait for each other. A record is canonical JSON
(keys sorted, no blanks, UTF-8, no floats; after RFC 8785) with its SHA-256. Persons, mail and network
addresses stand in it by id and salted SHA-256 only (`personal`): erasing the value breaks no proof.
"""

import datetime as dt
import enum
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .. import clock
from ..domain.ledger import PersonalValue
from ..domain.tables import metadata
from ..store import database
from ..store.database import Transaction

PERSONAL = metadata.tables["personal_value"]
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
# By Core: through the model it would cost three times as much. What is there already is the same fact.
_INSERT = {
    name: insert(metadata.tables["evidence_record"]).on_conflict_do_nothing(index_elements=["id"])
    for name, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_PERSONAL = sa.select(PERSONAL.c.id, PERSONAL.c.salt).where(PERSONAL.c.lookup == sa.bindparam("lookup"))
_ADDRESS = re.compile(r"""(?:"[^"]*"|[^\s<>()\[\]",;:]+)@[^\s<>()",;:]+""")


def new_record_id() -> str:
    """Of a fact that is to be recorded."""
    return clock.new_id("evr")


@dataclass(frozen=True)
class Fact:
    """One fact to record: `event` is `noun.participle`, `subject` the id of what it is about.

    `id` is the record's. Where it was made before the transaction, the fact can be recorded again after a COMMIT whose
    answer was lost, and stands there once.
    """

    event: str
    subject: str
    document: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_record_id)


def record(tx: Transaction, event: str, subject: str, *, document: str | None = None, **facts: Any) -> str:
    """Record one fact in the transaction of the fact; the record's id."""
    return record_all(tx, [Fact(event, subject, document, facts)])[0]


def record_all(tx: Transaction, facts: Sequence[Fact]) -> list[str]:
    """Record several facts with one statement, in their order; their ids."""
    if not facts:
        return []
    at = database.now(tx)
    rows = [_row(fact, at) for fact in facts]
    tx.execute(_INSERT[tx.get_bind().dialect.name], rows)
    return [row["id"] for row in rows]


def _row(fact: Fact, at: dt.datetime) -> dict[str, Any]:
    body = canonical(
        {
            "id": fact.id,
            "at": at,
            "event": fact.event,
            "subject": fact.subject,
            "document": fact.document,
            "facts": fact.facts,
        }
    )
    return {
        "id": fact.id,
        "at": at,
        "event": fact.event,
        "subject": fact.subject,
        "document_id": fact.document,
        "body": body,
        "sha256": hashlib.sha256(body.encode()).hexdigest(),
    }


def personal(tx: Transaction, kind: str, value: str) -> dict[str, str]:
    """How a record refers to a person's value: `{"id", "sha256"}`; the same value always gets the same id."""
    value = _text(value).replace("\0", "\\x00")  # PostgreSQL's text cannot hold NUL
    lookup = hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()
    row: Any = tx.execute(_PERSONAL, {"lookup": lookup}).first()
    if row is None:
        row = PersonalValue(
            kind=kind, value=value[:320], lookup=lookup, salt=secrets.token_hex(16), created_at=database.now(tx)
        )
        tx.add(row)
        tx.flush()
    return {"id": row.id, "sha256": hashlib.sha256(bytes.fromhex(row.salt) + value.encode()).hexdigest()}


def without_addresses(text: str) -> str:
    """What another machine said, for a record: mail addresses in it could never be erased again."""
    return _ADDRESS.sub("(address)", text)


def canonical(value: Any) -> str:
    """Canonical JSON; TypeError for what has no exact form (floats among them)."""
    return _CANONICAL.encode(_plain(value))


def _plain(value: Any) -> Any:
    kind = type(value)  # nearly all values are one of these: a look at each pattern would take longer
    if kind in _AS_THEY_ARE:
        return value
    if (plain := _USUAL.get(kind)) is not None:
        return plain(value)
    match value:
        case None | bool() | int():
            return value
        case enum.Enum():
            return value.value
        case str():
            return _text(value)
        case Decimal() if value.is_finite():
            return format(value, "f")
        case dt.datetime():
            if value.tzinfo is None:
                raise TypeError("an instant without a time zone has no canonical form in a record")
            return value.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case dt.date():
            return value.isoformat()
        case dict():
            return _members(value)
        case list() | tuple():
            return _elements(value)
    raise TypeError(f"{type(value).__name__} has no canonical form in a record")


def _members(value: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(item) for key, item in value.items()}


def _elements(value: Sequence[Any]) -> list[Any]:
    return [_plain(item) for item in value]


def _text(value: str) -> str:
    """The same text, with what is no character of Unicode (half of a name from a file system) spelt out."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


_AS_THEY_ARE = {int, bool, type(None)}
_USUAL: dict[type, Callable[[Any], Any]] = {str: _text, dict: _members, list: _elements}
