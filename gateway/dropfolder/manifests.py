"""The nothing-missing proof: for each day of the issuer's zone one manifest of a folder, signed with the seal's key.

A manifest covers the numbers after the previous one's last up to the last whose instant lies before the day's end; so
ranges chain by construction, without gap or overlap, whatever the clocks do: a number that is committed after the
manifest of its day stands in the next. It is made also for an empty day, in order, some minutes after midnight; a day
that was missed is made up. A clock that was set back makes nothing until time has passed the last day made. Two
gateways on one database make one: who holds the folder's row first. Once made it never changes.

`manifest-YYYY-MM-DD.json` is canonical JSON; `….json.p7s` a detached CMS signature in DER, which anybody checks with

    openssl cms -verify -binary -inform DER -in F.json.p7s -content F.json -CAfile ROOTS.pem -purpose any -out /dev/null

Failures: Unavailable while there is no key to sign with; manifests wait, nothing else does. One whose worker dies is
tried again at the next turn. That they stay behind is an error in the log, each hour, and stands in the status.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog

from .. import clock
from ..domain.tables import metadata
from ..evidence import canonical, record
from ..pools import ThreadPool, WorkerDied, WorkerProcesses
from ..sealing import process
from ..store import database
from ..store.blobs import Blob, Blobs
from ..store.database import Database, Transaction
from . import events
from .items import EVENT, FOLDER

log = structlog.get_logger(__name__)
MANIFEST = metadata.tables["folder_manifest"]
FORMAT = 1
_AFTER_MIDNIGHT = dt.timedelta(minutes=5)  # what was being committed at midnight stands in its own day
_FOLDERS_A_TURN = 20
_PAGE = 5000  # events read at once
_LATE = dt.timedelta(hours=1)  # after the day's end: until then a manifest is on its way
_ALERT_SECONDS = 3600.0


@dataclass(frozen=True)
class Behind:
    """Folders that lack a manifest which should be there, and the first day that one of them lacks."""

    folders: int
    first_day: dt.date | None  # None: none is behind, or one never had a manifest


class ManifestMaker:
    """Makes what is due, a few folders a turn, one day of each."""

    def __init__(
        self, db: Database, blobs: Blobs, zone: ZoneInfo, issuer: str, sealers: WorkerProcesses, pool: ThreadPool
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._zone = zone
        self._issuer = issuer
        self._sealers = sealers
        self._pool = pool
        self._told_at: float | None = None  # that they are behind

    async def turn(self) -> int:
        """How many manifests it made; 0 when none is due. Unavailable: there is no key to sign with now."""
        self._tell(await self._pool.run(self._db.read, lambda tx: behind(tx, self._zone)))
        made = 0
        for folder_id, day in await self._pool.run(self._db.read, self._due):
            try:
                made += await self._make(folder_id, day)
            except WorkerDied as error:
                log.error("manifest.failed", folder=folder_id, day=str(day), cause=error.message)
        return made

    def _tell(self, now: Behind) -> None:
        """What is made up at this turn is told at the next one, if it is still behind then."""
        if not now.folders:
            self._told_at = None
        elif self._told_at is None:
            self._told_at = float("-inf")
        elif clock.monotonic() - self._told_at >= _ALERT_SECONDS:
            self._told_at = clock.monotonic()
            log.error("manifest.behind", folders=now.folders, first_day=str(now.first_day or "none yet"))

    def _due(self, tx: Transaction) -> list[tuple[str, dt.date]]:
        """Folders that lack the newest day which is over, each with the first day that it lacks."""
        lacking = _lacking(database.now(tx) - _AFTER_MIDNIGHT, self._zone)
        query = sa.select(FOLDER.c.id, FOLDER.c.created_at).where(*lacking)
        rows = tx.execute(query.order_by(FOLDER.c.id).limit(_FOLDERS_A_TURN)).all()
        return [(row.id, self._next_day(tx, row)) for row in rows]

    def _next_day(self, tx: Transaction, folder: Any) -> dt.date:
        before = _newest(tx, folder.id)
        if before is None:
            return clock.day_of(folder.created_at, self._zone)
        return dt.date.fromisoformat(before.day) + dt.timedelta(days=1)

    async def _make(self, folder_id: str, day: dt.date) -> int:
        manifest = await self._pool.run(self._db.read, lambda tx: self._content(tx, folder_id, day))
        content = canonical(manifest).encode()
        source, target = self._blobs.scratch(), self._blobs.scratch()
        try:
            await self._pool.run(source.write_bytes, content)
            await self._sealers.run(process.sign_file, str(source), str(target))
            return await self._pool.run(self._keep, manifest, source, target)
        finally:
            source.unlink(missing_ok=True)
            target.unlink(missing_ok=True)

    def _content(self, tx: Transaction, folder_id: str, day: dt.date) -> dict[str, Any]:
        before = _newest(tx, folder_id)
        after = before.last_sequence if before is not None else 0
        last = tx.execute(
            sa.select(sa.func.max(EVENT.c.sequence)).where(
                EVENT.c.folder_id == folder_id, EVENT.c.sequence > after, EVENT.c.at < _end_of(day, self._zone)
            )
        ).scalar_one()
        last = after if last is None else last
        previous = None
        if before is not None:
            previous = {"name": f"manifest-{before.day}.json", "sha256": before.json_sha256}
        return {
            "format": FORMAT,
            "issuer": self._issuer,
            "folder": folder_id,
            "day": str(day),
            "first": after + 1,
            "last": last,
            "count": last - after,
            "events": _events(tx, folder_id, after, last),
            "previous": previous,
        }

    def _keep(self, manifest: dict[str, Any], source: Path, target: Path) -> int:
        """Bytes first, then the row; what another gateway made meanwhile stays, and ours go."""
        json_blob, signature = self._blobs.adopt(source), self._blobs.adopt(target)
        if self._db.write(lambda tx: _insert(tx, manifest, json_blob, signature)):
            log.info("manifest.made", folder=manifest["folder"], day=manifest["day"], last=manifest["last"])
            return 1
        made = self._db.read(lambda tx: _of_day(tx, manifest["folder"], manifest["day"]))
        for blob in (json_blob, signature):
            if made is not None and blob.sha256 not in (made.json_sha256, made.signature_sha256):
                self._blobs.remove(blob.sha256)
        return 0


def behind(tx: Transaction, zone: ZoneInfo) -> Behind:
    """Whether manifests that should have been made an hour ago are not."""
    newest = sa.select(sa.func.max(MANIFEST.c.day)).where(MANIFEST.c.folder_id == FOLDER.c.id).scalar_subquery()
    late = sa.select(newest.label("day")).where(*_lacking(database.now(tx) - _LATE, zone)).subquery()
    count, day, known = tx.execute(sa.select(sa.func.count(), sa.func.min(late.c.day), sa.func.count(late.c.day))).one()
    has_all = day is not None and known == count
    return Behind(count, dt.date.fromisoformat(day) + dt.timedelta(days=1) if has_all else None)


def _lacking(now: dt.datetime, zone: ZoneInfo) -> tuple[Any, ...]:
    """The conditions for a folder that lacks the manifest of the newest day which is over at that instant."""
    newest = clock.day_of(now, zone) - dt.timedelta(days=1)
    has_it = sa.select(MANIFEST.c.day).where(MANIFEST.c.folder_id == FOLDER.c.id, MANIFEST.c.day >= str(newest))
    return ~sa.exists(has_it), ~FOLDER.c.is_intake, FOLDER.c.created_at < _end_of(newest, zone)


def _end_of(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    """Midnight after that day, as an instant."""
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), zone).astimezone(dt.UTC)


def _newest(tx: Transaction, folder_id: str) -> Any:
    query = sa.select(MANIFEST).where(MANIFEST.c.folder_id == folder_id).order_by(MANIFEST.c.day.desc()).limit(1)
    return tx.execute(query).first()


def _of_day(tx: Transaction, folder_id: str, day: str) -> Any:
    return tx.execute(sa.select(MANIFEST).where(MANIFEST.c.folder_id == folder_id, MANIFEST.c.day == day)).first()


def _events(tx: Transaction, folder_id: str, after: int, last: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while after < last:
        page = events.after(tx, folder_id, after, min(_PAGE, last - after))
        found += [
            {
                "sequence": one.sequence,
                "event": one.event.value,
                "at": one.at,
                "name": one.name,
                "sha256": one.sha256,
                "size": one.size,
                "number": one.number,
            }
            for one in page
        ]
        after = page[-1].sequence
    return found


def _insert(tx: Transaction, manifest: dict[str, Any], json_blob: Blob, signature: Blob) -> bool:
    """The row, unless another gateway was faster; the folder's row is held meanwhile."""
    folder_id = manifest["folder"]
    tx.execute(sa.select(FOLDER.c.id).where(FOLDER.c.id == folder_id).with_for_update())
    before = _newest(tx, folder_id)
    if before is not None and before.day >= manifest["day"]:
        return False
    now = database.now(tx)
    row = {
        "folder_id": folder_id,
        "day": manifest["day"],
        "first_sequence": manifest["first"],
        "last_sequence": manifest["last"],
        "json_sha256": json_blob.sha256,
        "json_size": json_blob.size,
        "signature_sha256": signature.sha256,
        "signature_size": signature.size,
        # Each later than the one before: a client that asks for what is newer than the newest it has misses none.
        "mtime": max(int(now.timestamp()), before.mtime + 1 if before is not None else 0),
        "made_at": now,
    }
    tx.execute(sa.insert(MANIFEST), [row])
    record(tx, "manifest.made", folder_id, day=row["day"], last_sequence=row["last_sequence"], sha256=json_blob.sha256)
    return True
