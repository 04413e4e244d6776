"""Idempotency-Key: the same POST again, within a day, gets the answer it got, and nothing happens a second time.

The answer is kept in the transaction of the change itself, so that there is no moment at which one is known and the
other is not. Only what succeeded is kept: what was refused changed nothing and may be asked again. Keys belong to
the caller's token. A key with another request is refused (`idempotency_mismatch`).
"""

import datetime as dt
import hashlib
import re
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from ..domain.parties import IdempotencyKey
from ..errors import Refused
from ..store import database
from ..store.database import Transaction

KEPT = dt.timedelta(hours=24)
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


def checked(key: str) -> str:
    """A key as it came: 1 to 200 visible ASCII characters; Refused."""
    if not _KEY.fullmatch(key):
        raise Refused("an Idempotency-Key is 1 to 200 visible ASCII characters", code="idempotency_key")
    return key


def digest(method: str, path: str, *body: bytes) -> str:
    """What makes two requests the same request. `body`: its parts, so that a form's boundary does not count."""
    parts = hashlib.sha256(f"{method} {path}".encode())
    for part in body:
        parts.update(hashlib.sha256(part).digest())
    return parts.hexdigest()


def find(tx: Transaction, caller: str, key: str, request_sha256: str) -> tuple[int, dict[str, Any]] | None:
    """Status and body that this request got before; Refused when the key was another request's."""
    kept = tx.get(IdempotencyKey, (caller, key))
    if kept is None or kept.created_at < database.now(tx) - KEPT:
        return None
    if kept.request_sha256 != request_sha256:
        raise Refused("this Idempotency-Key was used for another request", code="idempotency_mismatch")
    return kept.status, kept.body


def keep(tx: Transaction, caller: str, key: str, request_sha256: str, status: int, body: dict[str, Any]) -> None:
    """Keep an answer; older ones than a day go."""
    now = database.now(tx)
    tx.execute(sa.delete(IdempotencyKey).where(col(IdempotencyKey.created_at) < now - KEPT))
    tx.add(
        IdempotencyKey(
            token_id=caller, key=key, request_sha256=request_sha256, status=status, body=body, created_at=now
        )
    )
    tx.flush()
