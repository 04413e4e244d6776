"""Documents: find, read, explain."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import aliased, defer
from sqlmodel import col

from ...access import Permission
from ...domain.documents import Document, Seal
from ...domain.parties import Company, Contract
from ...domain.states import DocumentState, Kind, Nature
from ...dossier import explain
from ...errors import Unavailable
from ...store import blobs
from ...store.blobs import Blobs
from ...store.database import Transaction
from .. import content, pages, visible
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Listing, Page
from . import API

log = structlog.get_logger(__name__)
routes = APIRouter(prefix=f"{API}/documents", tags=["documents"])
Reading = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_READ))]
Explaining = Annotated[Call, Depends(Needs(Permission.EVIDENCE_READ))]


class SealShown(BaseModel):
    """Who sealed a document and how."""

    level: str = Field(description="PAdES level reached")
    made_by: str = Field(description="gateway, or issuer: it arrived sealed")
    signer: str
    signer_serial: str
    sealed_at: dt.datetime


class DocumentShown(BaseModel):
    """A document. Amounts are decimal strings; days are the issuer's."""

    id: str
    kind: Kind
    number: str
    issue_date: dt.date
    type_code: str
    seller: str
    contract: str | None = Field(description="Its number")
    siren: str | None = Field(description="Of the company that held the contract on the issue date")
    client: str | None
    currency: str
    total: Decimal | None = Field(description="With VAT")
    amount_due: Decimal | None
    period_start: dt.date | None
    period_end: dt.date | None
    corrects: str = Field(description="Number of the invoice that this one corrects")
    corrects_document: str | None
    nature: Nature | None
    nature_reason: str
    state: DocumentState
    state_reason: str
    version: int
    replaces: str | None
    source: str = Field(description="The door it came by")
    received_at: dt.datetime
    received_sha256: str
    received_size: int
    sealed_sha256: str | None
    sealed_size: int | None
    seal: SealShown | None = None


class DocumentFilter(Listing):
    """Which documents; both ends of a period are inclusive."""

    number: str | None = Field(None, max_length=40)
    client: str | None = Field(None, max_length=40, description="Id of the client")
    siren: str | None = Field(None, max_length=20, description="Of the company; `company` means the same")
    company: str | None = Field(None, max_length=20)
    contract: str | None = Field(None, max_length=40, description="Number of the contract")
    nature: Nature | None = None
    state: DocumentState | None = None
    kind: Kind | None = None
    issued_from: dt.date | None = None
    issued_to: dt.date | None = None
    received_from: dt.date | None = Field(None, description="The issuer's day")
    received_to: dt.date | None = None


@routes.get("", response_model=Page[DocumentShown])
async def find(call: Reading, wanted: Annotated[DocumentFilter, Query()]) -> Response:
    """Documents, the last accepted first."""
    return await call.answer(lambda tx: _page(tx, call, wanted))


def _page(tx: Transaction, call: Call, wanted: DocumentFilter) -> dict[str, Any]:
    query = _select().where(visible.documents(call.actor), *_conditions(wanted, call))
    if (after := wanted.after) is not None:
        query = query.where(col(Document.id) < after)
    rows, more = pages.cut(tx.execute(query.order_by(col(Document.id).desc()).limit(wanted.limit + 1)).all(), wanted)
    return {
        "items": [shown(*row) for row in rows],
        "next_cursor": pages.encode(rows[-1][0].id) if more else None,
    }


def _select() -> Any:
    return (
        sa.select(Document, col(Contract.number), col(Company.siren), Seal, _corrected())
        .outerjoin(Contract, col(Contract.id) == col(Document.contract_id))
        .outerjoin(Company, col(Company.id) == col(Document.company_id))
        .outerjoin(Seal, col(Seal.document_id) == col(Document.id))
        .options(defer(Document.facts), defer(Seal.verification))  # type: ignore[arg-type]
    )


def _corrected() -> "sa.ScalarSelect[str | None]":
    """The document that one corrects and that came after it: the last of that number before it, of its company."""
    other = aliased(Document)
    return (
        sa.select(col(other.id))
        .where(
            col(Document.corrects_id).is_(None),
            col(Document.corrects) != "",
            col(other.number) == col(Document.corrects),
            col(other.seller) == col(Document.seller),
            col(other.company_id) == col(Document.company_id),
            col(other.issue_date) <= col(Document.issue_date),
            col(other.accepted_key).is_not(None),
            col(other.id) != col(Document.id),
        )
        .order_by(col(other.issue_date).desc(), col(other.id).desc())
        .limit(1)
        .scalar_subquery()
    )


def _conditions(wanted: DocumentFilter, call: Call) -> "list[sa.ColumnElement[bool]]":
    siren = wanted.siren or wanted.company
    conditions = pages.equal(
        (Document.number, wanted.number),
        (Document.client_id, wanted.client),
        (Company.siren, siren and "".join(siren.split())),
        (Contract.number, wanted.contract),
        (Document.nature, wanted.nature),
        (Document.state, wanted.state),
        (Document.kind, wanted.kind),
    )
    if wanted.issued_from is not None:
        conditions.append(col(Document.issue_date) >= wanted.issued_from)
    if wanted.issued_to is not None:
        conditions.append(col(Document.issue_date) <= wanted.issued_to)
    zone = call.parts.settings.issuer.zone
    if wanted.received_from is not None:
        conditions.append(col(Document.received_at) >= _midnight(wanted.received_from, zone))
    if wanted.received_to is not None and wanted.received_to < dt.date.max:
        conditions.append(col(Document.received_at) < _midnight(wanted.received_to + dt.timedelta(days=1), zone))
    return conditions


def _midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    """The instant at which the issuer's day begins; years that no zone reaches are cut off."""
    return dt.datetime.combine(min(max(day, dt.date(2, 1, 1)), dt.date(9998, 1, 1)), dt.time(), zone)


def shown(
    document: Document, contract: str | None, siren: str | None, seal: Seal | None, corrected: str | None
) -> dict[str, Any]:
    """A document as the API shows it."""
    return DocumentShown(
        contract=contract,
        siren=siren,
        client=document.client_id,
        amount_due=document.due,
        corrects_document=document.corrects_id or corrected,
        replaces=document.replaces_id,
        seal=SealShown.model_validate(seal, from_attributes=True) if seal else None,
        **{name: getattr(document, name) for name in _SAME},
    ).model_dump(mode="json")


_OTHERWISE = {"contract", "siren", "client", "amount_due", "corrects_document", "replaces", "seal"}
_SAME = [name for name in DocumentShown.model_fields if name not in _OTHERWISE]


@routes.get("/{document_id}", response_model=DocumentShown)
async def one(call: Reading, document_id: str) -> Response:
    """One document."""
    return await call.show(lambda tx: answer(tx, visible.document(tx, call.actor, document_id)))


def answer(tx: Transaction, document: Document) -> Answer:
    """A document and its version, after what was done to it in this transaction."""
    tx.flush()
    row: Sequence[Any] = tx.execute(_select().where(col(Document.id) == document.id)).one()
    return Answer(shown(*row), document.row_version)


@routes.get(
    "/{document_id}/content",
    response_class=Response,
    responses={
        200: {"content": {"application/pdf": {}}, "description": "The sealed original or copy, or a stamped duplicate"},
        206: {"content": {"application/pdf": {}}, "description": "The range that was asked for"},
        304: {"description": "If-None-Match names these bytes"},
    },
)
async def read(call: Reading, document_id: str) -> Response:
    """The bytes, in the nature the document has."""
    await call.read(lambda tx: visible.document(tx, call.actor, document_id))
    rendition = await call.parts.renditions.content(document_id)
    fd = await call.parts.pool.run(_whole, call.parts.blobs, document_id, rendition.sha256)
    return content.response(fd, rendition, call.request.headers)


def _whole(store: Blobs, document_id: str, sha256: str) -> int:
    """A file descriptor of bytes that have their digest; Unavailable: what is damaged is never handed out."""
    if not blobs.is_whole(store, sha256):
        log.error("document.blob_damaged", document=document_id, sha256=sha256)
        raise Unavailable("these bytes cannot be read at the moment; try again")
    return store.open(sha256)


class MomentShown(BaseModel):
    """One fact of the ledger, in words."""

    at: dt.datetime
    day: dt.date = Field(description="The issuer's")
    event: str
    subject: str
    text: str


class StandShown(BaseModel):
    """Where one delivery stands."""

    delivery: str
    channel: str
    where: str
    state: str
    attempts: int
    text: str


class LifeShown(BaseModel):
    """The life of a document: what it is, what happened, where it stands, what comes next."""

    document: str
    number: str
    state: DocumentState
    about: list[str]
    moments: list[MomentShown]
    deliveries: list[StandShown]
    next: list[str]


@routes.get("/{document_id}/explain", response_model=LifeShown)
async def life(call: Explaining, document_id: str) -> Response:
    """The whole life of a document, in words."""

    def step(tx: Transaction) -> dict[str, Any]:
        visible.document(tx, call.actor, document_id)
        told = explain.explain(tx, document_id, call.parts.settings.issuer.zone)
        return LifeShown.model_validate(asdict(told)).model_dump(mode="json")

    return await call.answer(step)
