"""The one path behind every door: read a document in a worker, keep its bytes, then accept it in one transaction.

Three doors (API, `gateway submit`, spool) come here. What is refused leaves nothing but a record of the refusal.
Failures: Refused and TooLarge with a code, Unavailable when the disk or the database is away.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from .. import clock
from ..config import IntakeSettings, IssuerSettings
from ..errors import Refused, TooLarge, Unavailable
from ..evidence import record_all
from ..pools import ThreadPool, WorkerDied, WorkerProcesses
from ..sealing import process as sealing_process
from ..store.blobs import Blobs
from ..store.database import Database
from . import process
from .accept import Candidate, Outcome, accept, refusal
from .read import Reading

log = structlog.get_logger(__name__)


class Arrival(NamedTuple):
    """A scratch file with a document that arrived, and the bytes of its sidecar, if it came with one."""

    path: Path
    sidecar: bytes | None


class Intake:
    """The one path behind every door."""

    def __init__(
        self,
        settings: IntakeSettings,
        issuer: IssuerSettings,
        is_disk_low: Callable[[], bool],
        db: Database,
        blobs: Blobs,
        readers: WorkerProcesses,
        sealers: WorkerProcesses,
        pool: ThreadPool,
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._issuer = issuer
        self._is_disk_low = is_disk_low
        self._db = db
        self._blobs = blobs
        self._readers = readers
        self._sealers = sealers
        self._pool = pool
        self._wake = wake

    def require_space(self) -> None:
        """Unavailable while the disk is below its floor: reads and receipts need what is left."""
        if self._is_disk_low():
            raise Unavailable("the gateway's disk is nearly full; nothing was taken, try again later", code="disk_full")

    async def submit(self, path: Path, sidecar: bytes | None, source: str, actor: str) -> Outcome:
        """Take over the scratch file `path` (removed whatever comes) and accept it; Refused says why not."""
        answer: Candidate | Outcome | Refused | Unavailable
        (answer,) = await self.read([Arrival(path, sidecar)], source, actor)
        if isinstance(answer, Candidate):
            (answer,) = await self.accept([answer])
        elif isinstance(answer, Refused):
            await self.refuse(answer, source, actor)
        if isinstance(answer, Outcome):
            return answer
        raise answer

    async def refuse(self, error: Refused, source: str, actor: str) -> None:
        """Record that something was refused before it could be accepted."""
        fact = refusal(error, source, actor, None)
        await self._pool.run(self._db.write, lambda tx: record_all(tx, [fact]))

    async def read(
        self, arrivals: Sequence[Arrival], source: str, actor: str
    ) -> list[Candidate | Refused | Unavailable]:
        """Read scratch files (removed whatever comes) in workers and keep their bytes; each is answered for itself."""
        targets = [self._blobs.scratch() for _ in arrivals]  # for the XML inside
        try:
            readings = await asyncio.gather(*map(self._read, arrivals, targets))
            return await self._pool.run(self._keep_all, arrivals, readings, targets, source, actor)
        except BaseException:
            for path in (*(arrival.path for arrival in arrivals), *targets):
                path.unlink(missing_ok=True)
            raise

    async def _read(self, arrival: Arrival, xml_target: Path) -> Reading | Refused | Unavailable:
        path = str(arrival.path)
        try:
            self.require_space()
            if arrival.path.stat().st_size > self._settings.max_megabytes * 1_000_000:
                raise TooLarge(f"the document is over {self._settings.max_megabytes:g} MB")
            today = clock.day_of(clock.now(), self._issuer.zone)
            reading = await self._readers.run(process.read_file, path, arrival.sidecar, str(xml_target), today)
            if reading.is_signed:
                await self._sealers.run(sealing_process.check_file, path)
            return reading
        except WorkerDied as error:
            log.warning("intake.worker_died", cause=error.message)
            return Refused(f"it could not be read: {error.message}", code="unreadable")
        except (Refused, Unavailable) as error:
            return error

    def _keep_all(
        self,
        arrivals: Sequence[Arrival],
        readings: Sequence[Reading | Refused | Unavailable],
        targets: Sequence[Path],
        source: str,
        actor: str,
    ) -> list[Candidate | Refused | Unavailable]:
        """In one thread for all: what a call costs is more than what it does for one document."""
        return [
            self._keep(arrival.path, reading, target, source, actor)
            for arrival, reading, target in zip(arrivals, readings, targets, strict=True)
        ]

    def _keep(
        self, path: Path, reading: Reading | Refused | Unavailable, xml_target: Path, source: str, actor: str
    ) -> Candidate | Refused | Unavailable:
        try:
            if not isinstance(reading, Reading):
                raise reading
            blob = self._blobs.adopt(path)
            xml = self._blobs.adopt(xml_target) if reading.xml_sha256 is not None else None
        except (Refused, Unavailable) as error:
            path.unlink(missing_ok=True)
            xml_target.unlink(missing_ok=True)
            return error
        if (blob.sha256, xml.sha256 if xml else None) != (reading.sha256, reading.xml_sha256):
            return Unavailable("the document changed between reading and keeping it; try again", code="handover")
        return Candidate(reading, blob, xml, source, actor)

    async def accept(self, candidates: Sequence[Candidate]) -> list[Outcome | Refused]:
        """Accept candidates in their order, in one transaction; each is answered for itself."""
        answers: list[Outcome | Refused] = await self._pool.run(
            self._db.write, lambda tx: accept(tx, self._issuer, candidates)
        )
        self._wake()
        return answers
