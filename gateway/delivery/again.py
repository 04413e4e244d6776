"""Ask again for a range of a folder: what was published under its numbers, or on its days, is published once more.

One transaction plans a new delivery, marked `again`, for each document of the range; publish.py then puts them into
the inbox as it does every delivery: the same bytes under new numbers, in the old order. Killed before the commit
nothing was asked; killed after it, what is still planned is published by the next turn, by whichever gateway.

Refused: a range without any bound, more than one request or one day may ask for. Conflict: nothing was published there.
"""

import datetime as dt
from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlmodel import col, select

from ..domain.deliveries import Delivery
from ..domain.documents import Document
from ..domain.folders import Entry, EventKind, Folder, FolderEvent
from ..domain.states import Channel, DeliveryState, DocumentState
from ..errors import Conflict, Refused
from ..evidence import record
from ..store import database
from ..store.database import Transaction
from . import plan

_DAY = dt.timedelta(days=1)
_ON_THEIR_WAY = (DeliveryState.PLANNED, DeliveryState.HELD)
_PUBLISHED = (EventKind.PUBLISHED, EventKind.PUBLISHED_AGAIN)


@dataclass(frozen=True)
class Range:
    """Numbers of a folder, and days of publication in the issuer's zone, all included; None: no bound on that side."""

    first: int | None = None
    last: int | None = None
    from_day: dt.date | None = None
    to_day: dt.date | None = None


@dataclass(frozen=True)
class Limits:
    """Documents that one request may ask for, and that all of 24 hours for one folder may; None: any number."""

    documents: int
    a_day: int | None = None


@dataclass(frozen=True)
class Asked:
    """What a request came to, in documents. `withdrawn` ones are not published again, nor those `on_their_way`.

    The new entries have numbers after `after`.
    """

    documents: int
    withdrawn: int
    on_their_way: int
    after: int


def ask_again(
    tx: Transaction, folder: Folder, wanted: Range, zone: ZoneInfo, limits: Limits, actor: str, reason: str
) -> Asked:
    """Plan what was published in the range once more; it leaves with the next turns of the publisher.

    Asked twice before it left, the second request plans nothing: it finds everything on its way.
    """
    ids = _documents(tx, folder.id, wanted, zone, limits.documents)
    documents = _held(tx, ids)
    waiting = _on_their_way(tx, folder.id, ids)
    alive = [one for one in documents if one.state is not DocumentState.WITHDRAWN]
    chosen = [one for one in alive if one.id not in waiting]
    now = database.now(tx)
    if chosen:
        _require_room(tx, folder.id, len(chosen), limits.a_day, now)
        new = plan.again(tx, chosen, Channel.FOLDER, folder.id, now, actor=actor, because=reason)
        record(
            tx, "folder.asked_again", folder.id, actor=actor, reason=reason, documents=len(chosen), deliveries=new,
            **asdict(wanted),
        )  # fmt: skip
    after: int = tx.execute(sa.select(col(Folder.last_sequence)).where(col(Folder.id) == folder.id)).scalar_one()
    return Asked(len(chosen), len(documents) - len(alive), len(alive) - len(chosen), after)


def _documents(tx: Transaction, folder_id: str, wanted: Range, zone: ZoneInfo, most: int) -> list[str]:
    """The documents of a range, in the order of their first numbers in it, each once."""
    first = sa.func.min(col(FolderEvent.sequence)).label("first")
    rows: list[Any] = list(
        tx.execute(
            sa.select(col(Entry.document_id), first)
            .join(FolderEvent, col(FolderEvent.entry_id) == col(Entry.id))
            .where(col(FolderEvent.folder_id) == folder_id, col(FolderEvent.event).in_(_PUBLISHED))
            .where(*_bounds(wanted, zone))
            .group_by(col(Entry.document_id))
            .order_by(first)
            .limit(most + 1)
        ).all()
    )
    if not rows:
        raise Conflict("nothing was published there: there is nothing to publish again", code="nothing_published")
    if len(rows) > most:
        fits = f"ask for the numbers {rows[0].first} to {rows[most].first - 1} first, then from {rows[most].first} on"
        raise Refused(f"that is more than {most} documents, the most that can be asked for at once: {fits}",
                      code="too_many", most=most, last=rows[most].first - 1)  # fmt: skip
    return [row.document_id for row in rows]


def _bounds(wanted: Range, zone: ZoneInfo) -> list[Any]:
    sequence, at = col(FolderEvent.sequence), col(FolderEvent.at)
    bounds = []
    if wanted.first is not None:
        bounds.append(sequence >= wanted.first)
    if wanted.last is not None:
        bounds.append(sequence <= wanted.last)
    if wanted.from_day is not None:
        bounds.append(at >= _start(wanted.from_day, zone))
    if wanted.to_day is not None:
        bounds.append(at < _start(wanted.to_day + _DAY, zone))
    if not bounds:
        raise Refused("say which: numbers, or days of publication", code="range_needed")
    return bounds


def _start(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)


def _held(tx: Transaction, ids: list[str]) -> list[Document]:
    """The documents in the order of `ids`. Nobody withdraws them, or asks for them too, until this is committed."""
    query = select(Document).where(col(Document.id).in_(ids)).order_by(col(Document.id))
    found = {one.id: one for one in tx.exec(query.with_for_update(key_share=True))}
    return [found[one] for one in ids]


def _on_their_way(tx: Transaction, folder_id: str, ids: list[str]) -> set[str]:
    """Those that wait to be published in the folder already."""
    query = select(Delivery.document_id).where(
        col(Delivery.document_id).in_(ids),
        Delivery.channel == Channel.FOLDER,
        Delivery.destination == folder_id,
        col(Delivery.state).in_(_ON_THEIR_WAY),
    )
    return set(tx.exec(query))


def _require_room(tx: Transaction, folder_id: str, count: int, a_day: int | None, now: dt.datetime) -> None:
    if a_day is None:
        return
    query = sa.select(sa.func.count()).where(
        col(Delivery.destination) == folder_id, col(Delivery.again) > 0, col(Delivery.created_at) > now - _DAY
    )
    asked: int = tx.execute(query).scalar_one()
    if asked + count > a_day:
        raise Refused(
            f"of this folder {asked} documents were asked for again within a day, and {a_day} can be: ask for "
            f"{max(0, a_day - asked)} at most now, or ask the issuer", code="too_many_today", most=a_day,
        )  # fmt: skip
