"""Permits of the legacy SFTP listener: a client whose program cannot be renewed yet may come there, until a day.

By operators alone, with a reason, and only for folders whose client comes from listed networks: what is weak must at
least be reachable from nowhere else.
"""

import datetime as dt

from sqlmodel import col, select

from .. import evidence
from ..access import Actor, Permission, client_for
from ..domain.folders import Folder, LegacyPermit
from ..errors import NotFound, Refused
from ..store import database
from ..store.database import Transaction
from .sshkeys import folder_of


def add_permit(
    tx: Transaction,
    actor: Actor,
    client_id: str,
    reason: str,
    ends_at: dt.datetime,
    most_days: int,
    folder_id: str | None = None,
) -> LegacyPermit:
    """Let a client come to the legacy listener until an instant; to all of its folders if none is named.

    Refused: no reason (`reason`), an end that is past or over `most_days` away (`permit_end`), a folder that is not
    bound to networks (`permit_networks`).
    """
    client_for(tx, actor, Permission.PARTIES_MANAGE, client_id, hold=True)
    at, reason = database.now(tx), reason.strip()
    if not 0 < len(reason) <= 500:
        raise Refused("a permit says why in 1 to 500 characters", code="reason")
    if not at < ends_at <= at + dt.timedelta(days=most_days):
        raise Refused(f"a permit ends within {most_days} days from now ([sftp_legacy] permit_days)", code="permit_end")
    if folder_id is None:
        folders = tx.exec(select(Folder).where(Folder.client_id == client_id)).all()
    else:
        folders = [folder_of(tx, client_id, folder_id)]
    if any(folder.networks is None for folder in folders):
        raise Refused(
            "say first from which networks this client comes: gateway settings networks CLIENT NETWORK",
            code="permit_networks",
        )
    row = LegacyPermit(
        client_id=client_id, folder_id=folder_id, reason=reason, ends_at=ends_at, created_by=actor.id, created_at=at
    )
    tx.add(row)
    tx.flush()
    facts = row.model_dump(include={"client_id", "folder_id", "reason", "ends_at"})
    evidence.record(tx, "permit.added", row.id, actor=actor.id, **facts)
    return row


def revoke_permit(tx: Transaction, actor: Actor, client_id: str, permit_id: str) -> LegacyPermit:
    """End a permit now and for good; again, it changes nothing. NotFound."""
    client_for(tx, actor, Permission.PARTIES_MANAGE, client_id, hold=True)
    row = tx.get(LegacyPermit, permit_id)
    if row is None or row.client_id != client_id:
        raise NotFound("no such permit", code="unknown_permit")
    if row.revoked_at is None:
        row.revoked_at = database.now(tx)
        tx.add(row)
        evidence.record(tx, "permit.revoked", row.id, actor=actor.id, client_id=client_id)
    return row


def list_permits(tx: Transaction, actor: Actor, client_id: str) -> list[LegacyPermit]:
    """A client's permits in the order of their making; revoked ones and those that have ended too."""
    client_for(tx, actor, Permission.PARTIES_READ, client_id)
    rows = select(LegacyPermit).where(LegacyPermit.client_id == client_id)
    return list(tx.exec(rows.order_by(col(LegacyPermit.id))))


def in_force(tx: Transaction) -> list[LegacyPermit]:
    """Every client's permits that are valid now, the one that ends first first."""
    rows = select(LegacyPermit).where(
        col(LegacyPermit.revoked_at).is_(None), col(LegacyPermit.ends_at) > database.now(tx)
    )
    return list(tx.exec(rows.order_by(col(LegacyPermit.ends_at))))
