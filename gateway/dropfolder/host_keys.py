"""Who has already seen which host key: what an operator must know before another key serves.

A client that was told of a key may not have listened; one that asked for its proof, or that was served by it, knows it.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..domain.tables import metadata
from ..store import database
from ..store.database import Transaction
from .sessions import FOLDER, KEY, PASSWORD

SEEN = metadata.tables["host_key_seen"]
FACTS = ("announced", "proven", "used")
ACTIVE_DAYS = 90


@dataclass(frozen=True)
class Known:
    """Of one key: how many folders' clients were told, asked for the proof, were served.

    `not_yet`: log-ins of the last 90 days that neither asked nor were served, at most `LISTED`.
    """

    fingerprint: str
    announced: int
    proven: int
    used: int
    missing: int
    not_yet: list[str]


LISTED = 200


def note(tx: Transaction, folder_id: str, seen: Iterable[tuple[str, str]]) -> None:
    """Record facts, (fingerprint, one of FACTS), of a folder's clients; the first time counts."""
    now = database.now(tx)
    for fingerprint, fact in seen:
        that = (SEEN.c.folder_id == folder_id, SEEN.c.fingerprint == fingerprint)
        column = SEEN.c[f"{fact}_at"]
        if tx.execute(sa.select(SEEN.c.folder_id).where(*that)).first() is None:
            tx.execute(sa.insert(SEEN).values(folder_id=folder_id, fingerprint=fingerprint))
        tx.execute(sa.update(SEEN).where(*that, column.is_(None)).values({column.name: now}))


def known(tx: Transaction) -> list[Known]:
    """What is known of every key that any client has seen."""
    counts = [sa.func.count(SEEN.c[f"{fact}_at"]).label(fact) for fact in FACTS]
    rows = tx.execute(sa.select(SEEN.c.fingerprint, *counts).group_by(SEEN.c.fingerprint).order_by(SEEN.c.fingerprint))
    return [_known(row.fingerprint, row, _not_yet(tx, row.fingerprint)) for row in rows.all()]


def _known(fingerprint: str, row: sa.Row[tuple[int, ...]], missing: Sequence[str]) -> Known:
    return Known(fingerprint, row.announced, row.proven, row.used, len(missing), list(missing[:LISTED]))


def _not_yet(tx: Transaction, fingerprint: str) -> list[str]:
    since = database.now(tx) - dt.timedelta(days=ACTIVE_DAYS)
    knows = sa.select(SEEN.c.folder_id).where(
        SEEN.c.fingerprint == fingerprint, sa.or_(SEEN.c.proven_at.is_not(None), SEEN.c.used_at.is_not(None))
    )
    active = [sa.select(table.c.folder_id).where(table.c.last_used_at > since) for table in (KEY, PASSWORD)]
    folders = sa.select(FOLDER.c.user_name).where(
        FOLDER.c.id.in_(sa.union(*active)), FOLDER.c.id.not_in(knows), FOLDER.c.disabled_at.is_(None)
    )
    return list(tx.execute(folders.order_by(FOLDER.c.user_name)).scalars())
