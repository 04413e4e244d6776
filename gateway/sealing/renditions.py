"""What a document's reader gets: the sealed original or copy, the stamped duplicate, or the bytes as received.

The received bytes of a document without a subscription are never served: its duplicate is stamped in a worker
process at the first request, kept, and served from then on. Conflict while there is nothing to serve yet.
"""

from dataclasses import dataclass

import structlog
from sqlmodel import select

from ..domain import names
from ..domain.documents import Document, Duplicate
from ..domain.parties import Client, Contract, Language
from ..domain.states import DocumentState, Nature
from ..errors import Conflict, NotFound
from ..evidence import record
from ..invoices import InvoiceFacts
from ..pools import ThreadPool, WorkerProcesses
from ..store import database
from ..store.blobs import Blob, Blobs
from ..store.database import Database, Transaction
from . import process

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rendition:
    """Bytes to serve, and the name they go by."""

    sha256: str
    size: int
    file_name: str
    media_type: str = "application/pdf"


@dataclass(frozen=True)
class _Known:
    document: Document
    contract: str
    language: Language
    duplicate: Duplicate | None


class Renditions:
    """Finds or makes what may be served of a document. Whether the asker may have it is decided before."""

    def __init__(self, db: Database, blobs: Blobs, workers: WorkerProcesses, pool: ThreadPool) -> None:
        self._db = db
        self._blobs = blobs
        self._workers = workers
        self._pool = pool

    async def content(self, document_id: str) -> Rendition:
        """The document in the nature it has."""
        known = await self._pool.run(self._db.read, lambda tx: _known(tx, document_id))
        document = known.document
        if document.nature is Nature.DUPLICATE:
            blob = await self._duplicate(known)
            return Rendition(blob.sha256, blob.size, _name(known, "DUPLICATA"))
        if document.nature is None and document.state is DocumentState.RECEIVED:
            return Rendition(document.received_sha256, document.received_size, _name(known, document.kind.value))
        if document.sealed_sha256 is None or document.sealed_size is None or document.nature is None:
            raise Conflict(f"this document is {document.state}: there is nothing to serve yet", code="not_ready")
        return Rendition(
            document.sealed_sha256, document.sealed_size, _name(known, names.nature_code(document.nature, "pdf"))
        )

    async def test_document(self, facts: InvoiceFacts) -> bytes:
        """The PDF of a client's test document, from a worker process."""
        target = self._blobs.scratch()
        try:
            await self._workers.run(process.test_file, facts, str(target))
            return await self._pool.run(target.read_bytes)
        finally:
            target.unlink(missing_ok=True)

    async def _duplicate(self, known: _Known) -> Blob:
        if known.duplicate is not None:
            return Blob(known.duplicate.sha256, known.duplicate.size)
        source = await self._pool.run(self._blobs.path, known.document.received_sha256)
        target = self._blobs.scratch()
        try:
            await self._workers.run(
                process.stamp_file, str(source), str(target), known.document.received_sha256, known.language.value
            )
            blob = await self._pool.run(self._blobs.adopt, target)
        finally:
            target.unlink(missing_ok=True)
        return await self._pool.run(self._db.write, lambda tx: _keep(tx, known.document.id, blob))


def _known(tx: Transaction, document_id: str) -> _Known:
    document = tx.get(Document, document_id)
    if document is None:
        raise NotFound("no such document")
    contract = tx.get(Contract, document.contract_id) if document.contract_id else None
    client = tx.get(Client, document.client_id) if document.client_id else None
    return _Known(
        document,
        contract.number if contract else "",
        client.language if client else Language.FR,
        tx.get(Duplicate, document_id),
    )


def _keep(tx: Transaction, document_id: str, blob: Blob) -> Blob:
    """Keep the first duplicate that was made; two requests at once get the same one."""
    first = tx.exec(select(Duplicate).where(Duplicate.document_id == document_id)).first()
    if first is not None:
        return Blob(first.sha256, first.size)
    tx.add(Duplicate(document_id=document_id, sha256=blob.sha256, size=blob.size, made_at=database.now(tx)))
    record(tx, "duplicate.made", document_id, document=document_id, sha256=blob.sha256, size=blob.size)
    log.info("duplicate.made", document=document_id)
    return blob


def _name(known: _Known, code: str) -> str:
    document = known.document
    return names.entry_name(document.issue_date, known.contract, document.number, code, 1, "pdf")
