"""Who may enter a drop folder, and the row that says who was here.

A refused log-in raises Denied with a code that says why (unknown_user, unknown_key, key_expired, key_revoked,
wrong_password, password_expired, password_revoked, folder_disabled, client_disabled, user_name_format, address). The
code is for the log; the client is told nothing, and an unknown name costs the same look-up as a known one. Whether it
came to the listener that is for it is said once its key or password was right: see `permit_for`.
"""

import datetime as dt
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import evidence
from ..domain import identifiers
from ..domain.tables import metadata
from ..errors import Denied, Refused
from ..store import database
from ..store.database import Transaction

CLIENT = metadata.tables["client"]
FOLDER = metadata.tables["folder"]
KEY = metadata.tables["ssh_key"]
PASSWORD = metadata.tables["folder_password"]
PERMIT = metadata.tables["legacy_permit"]
SESSION = metadata.tables["folder_session"]
PERSONAL = metadata.tables["personal_value"]
# Built once: an ERP may log in for each file.
_BEGIN = sa.insert(SESSION)
_USED = {
    is_key: sa.update(table).where(table.c.id == sa.bindparam("credential")).values(last_used_at=sa.bindparam("now"))
    for is_key, table in ((True, KEY), (False, PASSWORD))
}
_SESSION = sa.update(SESSION).where(SESSION.c.id == sa.bindparam("session"))
_SHOWN = _SESSION.values(highest_sequence=sa.bindparam("highest"))
_END = _SHOWN.values(ended_at=sa.bindparam("now"))
_PASSWORDS = 5  # of a folder, those in force first, then the newest: an older one is told nothing else than a guess


@dataclass(frozen=True)
class Login:
    """A key, or a password, that may enter a folder."""

    folder_id: str
    client_id: str
    user_name: str
    key_id: str | None
    fingerprint: str | None  # of the key, SHA256:…
    password_id: str | None = None
    is_intake: bool = False  # the issuer's own account

    @property
    def credential_id(self) -> str:
        """Of the key or the password."""
        return self.key_id or self.password_id or ""

    @property
    def facts(self) -> dict[str, str]:
        """How a record and the log name the credential."""
        return {"key": self.fingerprint} if self.fingerprint else {"password": self.credential_id}


@dataclass(frozen=True)
class Session:
    """One client's stay: who, from where, with what."""

    id: str
    login: Login
    protocol: str
    address: str
    banner: str  # what the client calls itself
    algorithms: str


def log_in(tx: Transaction, user_name: str, fingerprint: str, address: str) -> Login:
    """The folder of that name, if this key may enter it now from there. Denied, with the reason as its code."""
    try:
        identifiers.user_name(user_name)
    except Refused:
        raise _denied("user_name_format") from None
    row = tx.execute(
        sa.select(
            FOLDER.c.id, FOLDER.c.client_id, FOLDER.c.disabled_at, CLIENT.c.disabled_at.label("client_disabled_at"),
            FOLDER.c.networks, FOLDER.c.is_intake, KEY.c.id.label("key_id"), KEY.c.revoked_at, KEY.c.expires_at,
        )
        .join(CLIENT, CLIENT.c.id == FOLDER.c.client_id)
        .outerjoin(KEY, sa.and_(KEY.c.folder_id == FOLDER.c.id, KEY.c.fingerprint == fingerprint))
        .where(FOLDER.c.user_name == user_name)
    ).first()  # fmt: skip
    if row is None:
        raise _denied("unknown_user")
    if row.key_id is None:
        raise _denied("unknown_key")
    if reason := _obstacle(row, database.now(tx)) or _elsewhere(row.networks, address):
        raise _denied(reason)
    return Login(row.id, row.client_id, user_name, row.key_id, fingerprint, is_intake=row.is_intake)


def _elsewhere(networks: Sequence[str] | None, address: str) -> str:
    """The obstacle that an address is none of the folder's; empty when it is, or may be any."""
    if networks is None:
        return ""
    parsed = identifiers.network_address(address)
    is_there = parsed is not None and any(parsed in ipaddress.ip_network(one) for one in networks)
    return "" if is_there else "address"


@dataclass(frozen=True)
class Candidate:
    """A password of a folder, and what it would open. `obstacle`: why it would not; empty: nothing is in its way."""

    login: Login
    hash: str
    obstacle: str


def permit_for(tx: Transaction, login: Login, address: str) -> str:
    """The id of the permit by which this log-in may use the legacy listener from there; Denied (`no_permit`).

    Only from networks that the folder lists: a permit that was given before the list was taken away opens nothing.
    """
    networks = tx.execute(sa.select(FOLDER.c.networks).where(FOLDER.c.id == login.folder_id)).scalar_one()
    permit: str | None = tx.execute(
        sa.select(PERMIT.c.id)
        .where(
            PERMIT.c.client_id == login.client_id,
            sa.or_(PERMIT.c.folder_id.is_(None), PERMIT.c.folder_id == login.folder_id),
            PERMIT.c.revoked_at.is_(None),
            PERMIT.c.ends_at > database.now(tx),
        )
        .order_by(PERMIT.c.ends_at.desc())
    ).scalars().first()  # fmt: skip
    if permit is None or networks is None or _elsewhere(networks, address):
        raise _denied("no_permit")
    return permit


def passwords_of(tx: Transaction, user_name: str, address: str) -> list[Candidate]:
    """The passwords of the folder of that name, revoked and expired ones too; Denied (unknown_user, user_name_format).

    None for a folder that has none. `address`: where the client comes from.
    """
    try:
        identifiers.user_name(user_name)
    except Refused:
        raise _denied("user_name_format") from None
    now = database.now(tx)
    is_over = sa.or_(PASSWORD.c.revoked_at.is_not(None), sa.func.coalesce(PASSWORD.c.expires_at <= now, sa.false()))
    rows = tx.execute(
        sa.select(
            FOLDER.c.id, FOLDER.c.client_id, FOLDER.c.disabled_at, CLIENT.c.disabled_at.label("client_disabled_at"),
            PASSWORD.c.id.label("password_id"), PASSWORD.c.hash, PASSWORD.c.revoked_at, PASSWORD.c.expires_at,
            FOLDER.c.networks, FOLDER.c.is_intake,
        )
        .join(CLIENT, CLIENT.c.id == FOLDER.c.client_id)
        .outerjoin(PASSWORD, PASSWORD.c.folder_id == FOLDER.c.id)
        .where(FOLDER.c.user_name == user_name)
        .order_by(is_over, PASSWORD.c.id.desc())
        .limit(_PASSWORDS)
    ).all()  # fmt: skip
    if not rows:
        raise _denied("unknown_user")
    return [
        Candidate(
            _login(row, user_name), row.hash, _obstacle(row, now, "password") or _elsewhere(row.networks, address)
        )
        for row in rows
        if row.password_id is not None
    ]


def _login(row: Any, user_name: str) -> Login:
    return Login(row.id, row.client_id, user_name, None, None, row.password_id, row.is_intake)


def admitted(candidates: Sequence[Candidate], matching: int | None) -> Login:
    """What the candidate that matches the password opens. Denied, with the reason as its code."""
    if matching is None:
        raise _denied("wrong_password")
    if reason := candidates[matching].obstacle:
        raise _denied(reason)
    return candidates[matching].login


def _obstacle(row: Any, now: dt.datetime, credential: str = "key") -> str:
    if row.revoked_at is not None:
        return f"{credential}_revoked"
    if row.expires_at is not None and row.expires_at <= now:
        return f"{credential}_expired"
    if row.disabled_at is not None:
        return "folder_disabled"
    return "client_disabled" if row.client_disabled_at is not None else ""


def _denied(code: str) -> Denied:
    return Denied("log-in refused", code=code)


def no_longer_allowed(tx: Transaction, credential_ids: Collection[str]) -> dict[str, str]:
    """Of these keys, passwords and permits, those that may not be used any more, with the reason."""
    now = database.now(tx)
    permits = tx.execute(sa.select(PERMIT).where(PERMIT.c.id.in_(credential_ids))).all()
    obstacles = {row.id: "permit_ended" if row.revoked_at or row.ends_at <= now else "" for row in permits}
    for table, credential in ((KEY, "key"), (PASSWORD, "password")):
        rows = tx.execute(
            sa.select(
                table.c.id, table.c.revoked_at, table.c.expires_at, FOLDER.c.disabled_at,
                CLIENT.c.disabled_at.label("client_disabled_at"),
            )
            .join(FOLDER, FOLDER.c.id == table.c.folder_id)
            .join(CLIENT, CLIENT.c.id == FOLDER.c.client_id)
            .where(table.c.id.in_(credential_ids))
        ).all()  # fmt: skip
        obstacles |= {row.id: _obstacle(row, now, credential) for row in rows}
    return {one: obstacles.get(one, "unknown_credential") for one in credential_ids if obstacles.get(one, "?")}


def begin(tx: Transaction, session: Session) -> dict[str, Any]:
    """Open the session's row and note the key's use; the facts by which every record names the session."""
    now = database.now(tx)
    address = evidence.personal(tx, "address", session.address)
    row = {
        "id": session.id,
        "folder_id": session.login.folder_id,
        "protocol": session.protocol,
        "key_id": session.login.key_id,
        "password_id": session.login.password_id,
        "address_id": address["id"],
        "banner": session.banner[:255],
        "algorithms": session.algorithms[:300],
        "highest_sequence": 0,
        "started_at": now,
    }
    tx.execute(_BEGIN, [row])
    tx.execute(_USED[session.login.key_id is not None], {"credential": session.login.credential_id, "now": now})
    return {"session": session.id, **session.login.facts, "address": address}


def has_begun(tx: Transaction, session: Session) -> bool:
    """Whether its row is there."""
    return tx.execute(sa.select(SESSION.c.id).where(SESSION.c.id == session.id)).first() is not None


def shown(tx: Transaction, session: Session, highest_sequence: int) -> None:
    """The newest entry that the session was shown so far."""
    tx.execute(_SHOWN, {"session": session.id, "highest": highest_sequence})


def end(tx: Transaction, session: Session, who: dict[str, Any], highest_sequence: int, record_id: str) -> None:
    """Close the session's row and record the stay, once under that id."""
    tx.execute(_END, {"session": session.id, "highest": highest_sequence, "now": database.now(tx)})
    facts = {"protocol": session.protocol, "banner": session.banner[:255], "algorithms": session.algorithms[:300]}
    said = {**who, **facts, "highest_sequence": highest_sequence}
    evidence.record_all(tx, [evidence.Fact("session.ended", session.login.folder_id, None, said, record_id)])


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
    credential = {"password": row.password_id} if row.password_id else {"key": row.fingerprint}
    return {"session": row.id, **credential, "address": address, **facts}
