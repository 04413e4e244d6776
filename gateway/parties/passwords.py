"""The passwords that open a drop folder, for clients that have no keys: made by the gateway, kept as hashes, revoked.

A folder has two in use at most: the one to come and the one to go. A password is shown once, when it is made.
"""

import datetime as dt

from sqlmodel import col, select

from .. import evidence
from ..access import Actor, Permission, client_for
from ..domain.folders import Folder, FolderPassword
from ..errors import Conflict, NotFound, Refused
from ..store import database
from ..store.database import Transaction
from .sshkeys import folder_of, is_in_use

MOST = 2


def add_password(
    tx: Transaction,
    actor: Actor,
    client_id: str,
    hashed: str,
    label: str,
    folder_id: str | None = None,
    expires_at: dt.datetime | None = None,
) -> FolderPassword:
    """Let a password, given by its hash (keys/passwords.py), open a folder of the client, its first if none is named.

    Conflict (`too_many_passwords`) when the folder has two in use.
    """
    client_for(tx, actor, Permission.KEYS_MANAGE, client_id, hold=True)
    folder, at = folder_of(tx, client_id, folder_id), database.now(tx)
    if not 0 < len(label.strip()) <= 100:
        raise Refused("a password's label has 1 to 100 characters", code="label_format")
    if expires_at is not None and expires_at <= at:
        raise Refused("the password would have expired already", code="expires_in_the_past")
    rows = tx.exec(select(FolderPassword).where(FolderPassword.folder_id == folder.id)).all()
    if sum(is_in_use(row, at) for row in rows) >= MOST:
        raise Conflict(
            f"the folder has {MOST} passwords, the most: revoke one first (gateway password list, then revoke)",
            code="too_many_passwords",
        )
    row = FolderPassword(
        folder_id=folder.id,
        label=label.strip(),
        hash=hashed,
        created_by=actor.id,
        created_at=at,
        expires_at=expires_at,
    )
    tx.add(row)
    tx.flush()
    facts = row.model_dump(include={"folder_id", "expires_at"})
    evidence.record(tx, "password.added", row.id, actor=actor.id, client_id=client_id, **facts)
    return row


def revoke_password(tx: Transaction, actor: Actor, client_id: str, password_id: str) -> FolderPassword:
    """Take a password's access away for good; again, it changes nothing. NotFound."""
    client_for(tx, actor, Permission.KEYS_MANAGE, client_id, hold=True)
    row = next((one for one in _of(tx, client_id) if one.id == password_id), None)
    if row is None:
        raise NotFound("no such password", code="unknown_password")
    if row.revoked_at is None:
        row.revoked_at = database.now(tx)
        tx.add(row)
        evidence.record(tx, "password.revoked", row.id, actor=actor.id, folder_id=row.folder_id)
    return row


def list_passwords(tx: Transaction, actor: Actor, client_id: str) -> list[FolderPassword]:
    """The passwords of a client's folders, in the order of their making; revoked and expired ones too."""
    client_for(tx, actor, Permission.PARTIES_READ, client_id)
    return _of(tx, client_id)


def _of(tx: Transaction, client_id: str) -> list[FolderPassword]:
    rows = select(FolderPassword).join(Folder, col(Folder.id) == col(FolderPassword.folder_id))
    return list(tx.exec(rows.where(Folder.client_id == client_id).order_by(col(FolderPassword.id))))
