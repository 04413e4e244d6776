"""Who may enter a drop folder, and the row that says who was here.

A refused log-in raises Denied with a code that says why (unknown_user, unknown_key, key_expired, key_revoked,
folder_disabled, client_disabled, user_name_format). The code is for the log; the client is told nothing, and an
unknown name costs the same look-up as a known one.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import evidence
from ..domain import identifiers
from ..domain.folders import FolderSession
from ..domain.tables import metadata
from ..errors import Denied, Refused
from ..store import database
from ..store.database import Transaction

CLIENT = metadata.tables["client"]
FOLDER = metadata.tables["folder"]
KEY = metadata.tables["ssh_key"]
SESSION = metadata.tables["folder_session"]
PERSONAL = metadata.tables["personal_value"]


@dataclass(frozen=True)
class Login:
    """A key that may enter a folder."""

    folder_id: str
    client_id: str
    user_name: str
    key_id: str
    fingerprint: str  # SHA256:…


@dataclass(frozen=True)
class Session:
    """One client's stay: who, from where, with what."""

    id: str
    login: Login
    protocol: str
    address: str
    banner: str  # what the client calls itself
    algorithms: str


def log_in(tx: Transaction, user_name: str, fingerprint: str) -> Login:
    """The folder of that name, if this key may enter it now. Denied, with the reason as its code."""
    try:
        identifiers.user_name(user_name)
    except Refused:
        raise _denied("user_name_format") from None
    row = tx.execute(
        sa.select(
            FOLDER.c.id, FOLDER.c.client_id, FOLDER.c.disabled_at, CLIENT.c.disabled_at.label("client_disabled_at"),
            KEY.c.id.label("key_id"), KEY.c.revoked_at, KEY.c.expires_at,
        )
        .join(CLIENT, CLIENT.c.id == FOLDER.c.client_id)
        .outerjoin(KEY, sa.and_(KEY.c.folder_id == FOLDER.c.id, KEY.c.fingerprint == fingerprint))
        .where(FOLDER.c.user_name == user_name)
    ).first()  # fmt: skip
    if row is None:
        raise _denied("unknown_user")
    if row.key_id is None:
        raise _denied("unknown_key")
    if reason := _obstacle(row, database.now(tx)):
        raise _denied(reason)
    return Login(row.id, row.client_id, user_name, row.key_id, fingerprint)


def _obstacle(row: Any, now: dt.datetime) -> str:
    if row.revoked_at is not None:
        return "key_revoked"
    if row.expires_at is not None and row.expires_at <= now:
        return "key_expired"
    if row.disabled_at is not None:
        return "folder_disabled"
    return "client_disabled" if row.client_disabled_at is not None else ""


def _denied(code: str) -> Denied:
    return Denied("log-in refused", code=code)


def no_longer_allowed(tx: Transaction, key_ids: Collection[str]) -> dict[str, str]:
    """Of these keys, those that may not be used any more, with the reason."""
    now = database.now(tx)
    rows = tx.execute(
        sa.select(
            KEY.c.id, KEY.c.revoked_at, KEY.c.expires_at, FOLDER.c.disabled_at,
            CLIENT.c.disabled_at.label("client_disabled_at"),
        )
        .join(FOLDER, FOLDER.c.id == KEY.c.folder_id)
        .join(CLIENT, CLIENT.c.id == FOLDER.c.client_id)
        .where(KEY.c.id.in_(key_ids))
    ).all()  # fmt: skip
    obstacles = {row.id: _obstacle(row, now) for row in rows}
    return {key_id: obstacles.get(key_id, "unknown_key") for key_id in key_ids if obstacles.get(key_id, "?")}


def begin(tx: Transaction, session: Session) -> dict[str, Any]:
    """Open the session's row and note the key's use; the facts by which every record names the session."""
    now = database.now(tx)
    address = evidence.personal(tx, "address", session.address)
    tx.add(
        FolderSession(
            id=session.id,
            folder_id=session.login.folder_id,
            protocol=session.protocol,
            key_id=session.login.key_id,
            address_id=address["id"],
            banner=session.banner[:255],
            algorithms=session.algorithms[:300],
            started_at=now,
        )
    )
    tx.execute(sa.update(KEY).where(KEY.c.id == session.login.key_id).values(last_used_at=now))
    return {"session": session.id, "key": session.login.fingerprint, "address": address}


def shown(tx: Transaction, session: Session, highest_sequence: int) -> None:
    """The newest entry that the session was shown so far."""
    tx.execute(sa.update(SESSION).where(SESSION.c.id == session.id).values(highest_sequence=highest_sequence))


def end(tx: Transaction, session: Session, who: dict[str, Any], highest_sequence: int) -> None:
    """Close the session's row and record the stay."""
    tx.execute(
        sa.update(SESSION)
        .where(SESSION.c.id == session.id)
        .values(highest_sequence=highest_sequence, ended_at=database.now(tx))
    )
    facts = {"protocol": session.protocol, "banner": session.banner[:255], "algorithms": session.algorithms[:300]}
    evidence.record(tx, "session.ended", session.login.folder_id, **who, **facts, highest_sequence=highest_sequence)


def end_left_open(tx: Transaction, limit: int = 500) -> int:
    """End the sessions of a process that is gone, as they stand in their rows; how many."""
    rows = tx.execute(
        sa.select(SESSION, KEY.c.fingerprint, PERSONAL.c.value)
        .outerjoin(KEY, KEY.c.id == SESSION.c.key_id)
        .outerjoin(PERSONAL, PERSONAL.c.id == SESSION.c.address_id)
        .where(SESSION.c.ended_at.is_(None))
        .order_by(SESSION.c.id)
        .limit(limit)
    ).all()
    ids = [row.id for row in rows]
    tx.execute(sa.update(SESSION).where(SESSION.c.id.in_(ids)).values(ended_at=database.now(tx)))
    evidence.record_all(tx, [evidence.Fact("session.cut_off", row.folder_id, None, _left(tx, row)) for row in rows])
    return len(rows)


def _left(tx: Transaction, row: Any) -> dict[str, Any]:
    facts = {name: getattr(row, name) for name in ("protocol", "banner", "algorithms", "highest_sequence")}
    address = evidence.personal(tx, "address", row.value) if row.value else None  # None: erased since
    return {"session": row.id, "key": row.fingerprint, "address": address, **facts}
