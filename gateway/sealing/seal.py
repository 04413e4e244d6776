"""Seal what was accepted: claim, seal and verify in worker processes, keep the bytes, then one transaction.

A batch of documents, in the order of their acceptance, becomes SEALED with its seals, its planned deliveries and
its evidence together. Without a valid key, or a time-stamp where one is required, documents become WAITING,
visibly, and are looked at again later; nothing is sealed below the level set. A document whose worker dies, whose
seal does not verify or whose bytes are missing goes to quarantine alone. When the clock was set back nothing is
sealed until it has passed the last seal of this process.
"""

import asyncio
import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col, select

from .. import clock
from ..config import SealSettings
from ..delivery import plan
from ..domain.documents import Document, Seal
from ..domain.states import DocumentState, advance_document
from ..errors import GatewayError, NotFound, Refused, Unavailable
from ..evidence import Fact, canonical, record_all
from ..pools import ThreadPool, WorkerDied, WorkerProcesses
from ..store import database
from ..store.blobs import Blob, Blobs
from ..store.database import Database, Transaction
from . import process

log = structlog.get_logger(__name__)
_LEASE = dt.timedelta(minutes=10)
_BATCHES = 4  # claimed at once
_TOGETHER = 8  # documents whose bytes one thread keeps
_GROUPS = 4  # of them at a time: whoever else needs a worker waits for no more
_WAIT = dt.timedelta(seconds=30)  # between looks at a key or an authority that is away


@dataclass(frozen=True)
class _Sealed:
    """A document's seal, its bytes already kept."""

    document: Document
    seal: process.SealResult
    blob: Blob


@dataclass(frozen=True)
class _NotSealed:
    """Why a document has no seal; `event` is its move: blocked or quarantined."""

    document: Document
    event: str
    reason: str


class Sealer:
    """The sealing worker's turn."""

    def __init__(
        self,
        settings: SealSettings,
        db: Database,
        blobs: Blobs,
        workers: WorkerProcesses,
        pool: ThreadPool,
        wake_delivery: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._db = db
        self._blobs = blobs
        self._workers = workers
        self._pool = pool
        self._wake_delivery = wake_delivery
        self._owner = clock.new_id("own")
        self._turns = asyncio.Semaphore(_GROUPS)
        self._last_seal: dt.datetime | None = None

    async def turn(self) -> int:
        """How many documents it dealt with; 0 when none is due. A batch is settled while those after it are sealed."""
        if self._last_seal is not None and clock.now() < self._last_seal:
            raise Unavailable(
                f"the clock was set back: nothing is sealed before {self._last_seal:%Y-%m-%d %H:%M:%S} UTC"
            )
        documents = await self._pool.run(self._db.write, self._claim)
        size = min(_TOGETHER, self._settings.batch)
        groups = [documents[start : start + size] for start in range(0, len(documents), size)]
        sealing = [asyncio.ensure_future(self._seal_group(group)) for group in groups]
        per_batch = self._settings.batch // size
        try:
            for start in range(0, len(sealing), per_batch):
                await self._settle_batch(await asyncio.gather(*sealing[start : start + per_batch]))
        finally:
            await asyncio.gather(*sealing, return_exceptions=True)
        return len(documents)

    async def _settle_batch(self, groups: Sequence[Sequence["_Sealed | _NotSealed"]]) -> None:
        results = [result for group in groups for result in group]
        await self._pool.run(self._db.write, lambda tx: self._settle(tx, results))
        made = [one.seal.sealed_at for one in results if isinstance(one, _Sealed) and one.seal.made_by == "gateway"]
        self._last_seal = max(made, default=self._last_seal)
        self._wake_delivery()

    def _claim(self, tx: Transaction) -> list[Document]:
        now = database.now(tx)
        documents = tx.exec(
            select(Document)
            .where(col(Document.due_at) <= now, self._is_free(now))
            .order_by(col(Document.due_at), col(Document.id))
            .limit(_BATCHES * self._settings.batch)
            .with_for_update(skip_locked=True)
        ).all()
        tx.execute(
            sa.update(Document)
            .where(col(Document.id).in_([d.id for d in documents]))
            .values(lease_owner=self._owner, lease_until=now + _LEASE)
        )
        return list(documents)

    def _is_free(self, now: dt.datetime) -> sa.ColumnElement[bool]:
        """Nobody else is at it. On SQLite nobody else can be: another's lease is a killed process's, and over."""
        if self._db.is_sqlite:
            return sa.true()
        lease_until = col(Document.lease_until)
        return lease_until.is_(None) | (lease_until < now) | (col(Document.lease_owner) == self._owner)

    async def _seal_group(self, documents: Sequence[Document]) -> list[_Sealed | _NotSealed]:
        targets = [self._blobs.scratch() for _ in documents]
        async with self._turns:
            try:
                sources = await self._pool.run(self._sources, documents)
                seals = await asyncio.gather(*map(self._seal, documents, sources, targets))
                return await self._pool.run(self._keep_all, documents, seals, targets)
            except BaseException:
                for target in targets:
                    target.unlink(missing_ok=True)
                raise

    def _sources(self, documents: Sequence[Document]) -> list[Path | GatewayError]:
        sources: list[Path | GatewayError] = []
        for document in documents:
            try:
                sources.append(self._blobs.path(document.received_sha256))
            except (NotFound, Unavailable) as error:
                sources.append(error)
        return sources

    async def _seal(
        self, document: Document, source: Path | GatewayError, target: Path
    ) -> process.SealResult | GatewayError:
        if isinstance(source, GatewayError):
            return source
        try:
            paths = str(source), str(target)
            return await self._workers.run(process.seal_file, *paths, document.received_sha256)
        except (Unavailable, NotFound, Refused, WorkerDied) as error:
            return error

    def _keep_all(
        self, documents: Sequence[Document], seals: Sequence[process.SealResult | GatewayError], targets: Sequence[Path]
    ) -> list[_Sealed | _NotSealed]:
        return [
            self._keep(document, seal, target) for document, seal, target in zip(documents, seals, targets, strict=True)
        ]

    def _keep(self, document: Document, seal: process.SealResult | GatewayError, target: Path) -> _Sealed | _NotSealed:
        if isinstance(seal, GatewayError):
            target.unlink(missing_ok=True)
            return _not_sealed(document, seal)
        if seal.sha256 == document.received_sha256:
            return _Sealed(document, seal, Blob(document.received_sha256, document.received_size))
        try:
            blob = self._blobs.adopt(target)
        except Unavailable as error:
            return _not_sealed(document, error)
        if blob.sha256 != seal.sha256:
            return _NotSealed(document, "quarantined", "the sealed bytes changed between the worker and the store")
        return _Sealed(document, seal, blob)

    def _settle(self, tx: Transaction, results: Sequence[_Sealed | _NotSealed]) -> None:
        now = database.now(tx)
        ours = self._still_ours(tx, [result.document.id for result in results])
        # Copies: a step that is run again, after a deadlock, must find them as they were.
        results = [_copy(result) for result in results if result.document.id in ours]
        sealed = [result for result in results if isinstance(result, _Sealed)]
        facts = [_fact(result) for result in results]
        for result in results:
            _move(result, now)
        if results:
            tx.execute(_UPDATE, [_row(result.document) for result in results])
        if sealed:
            tx.execute(sa.insert(Seal), [_seal_row(result) for result in sealed])
        record_all(tx, [fact for fact in facts if fact is not None])
        plan.plan(tx, [result.document for result in sealed], now)

    def _still_ours(self, tx: Transaction, ids: Sequence[str]) -> set[str]:
        """Those not withdrawn, replaced or taken over meanwhile."""
        query = select(Document.id).where(
            col(Document.id).in_(ids),
            Document.lease_owner == self._owner,
            col(Document.state).in_((DocumentState.RECEIVED, DocumentState.WAITING)),
        )
        return set(tx.exec(query.with_for_update()).all())


def _not_sealed(document: Document, error: GatewayError) -> _NotSealed:
    if isinstance(error, NotFound):
        return _NotSealed(document, "quarantined", "its bytes are missing from the store")
    return _NotSealed(document, "blocked" if isinstance(error, Unavailable) else "quarantined", error.message)


_UPDATE = (
    sa.update(Document.__table__)  # type: ignore[attr-defined]
    .where(sa.column("id") == sa.bindparam("document_id"))
    .values(
        state=sa.bindparam("new_state"),
        state_reason=sa.bindparam("new_reason"),
        sealed_sha256=sa.bindparam("new_sealed_sha256"),
        sealed_size=sa.bindparam("new_sealed_size"),
        due_at=sa.bindparam("new_due_at"),
        lease_owner=None,
        lease_until=None,
        updated_at=sa.bindparam("new_updated_at"),
        row_version=sa.column("row_version") + 1,
    )
)


def _copy(result: _Sealed | _NotSealed) -> _Sealed | _NotSealed:
    return replace(result, document=Document(**result.document.model_dump()))


def _row(document: Document) -> dict[str, Any]:
    return {
        "document_id": document.id,
        "new_state": document.state,
        "new_reason": document.state_reason,
        "new_sealed_sha256": document.sealed_sha256,
        "new_sealed_size": document.sealed_size,
        "new_due_at": document.due_at,
        "new_updated_at": document.updated_at,
    }


def _move(result: _Sealed | _NotSealed, now: dt.datetime) -> None:
    document = result.document
    if isinstance(result, _Sealed):
        document.state = advance_document(document.state, "sealed")
        document.state_reason, document.due_at = "", None
        document.sealed_sha256, document.sealed_size = result.blob.sha256, result.blob.size
    else:
        document.state = advance_document(document.state, result.event)
        document.state_reason = result.reason[:1000]
        document.due_at = now + _WAIT if result.event == "blocked" else None
    document.updated_at = now


def _fact(result: _Sealed | _NotSealed) -> Fact | None:
    document = result.document
    if isinstance(result, _Sealed):
        facts = dict(vars(result.seal))
        verification = canonical(facts.pop("verification"))  # whole in the seal's row, by digest in the record
        facts["verification_sha256"] = hashlib.sha256(verification.encode()).hexdigest()
        log.info("document.sealed", document=document.id, level=result.seal.level)
        return Fact("document.sealed", document.id, document.id, facts)
    if result.event == "blocked":
        if document.state is DocumentState.WAITING and document.state_reason == result.reason:
            return None  # said already; it is looked at every half minute
        log.warning("document.waiting", document=document.id, cause=result.reason)
        return Fact("document.waiting", document.id, document.id, {"reason": result.reason})
    log.error("document.quarantined", document=document.id, cause=result.reason)
    return Fact("document.quarantined", document.id, document.id, {"reason": result.reason})


def _seal_row(result: _Sealed) -> dict[str, Any]:
    row = vars(result.seal) | {"document_id": result.document.id}
    del row["size"]  # stands in the document's row
    return row
