"""Signed manifests by API: what a client fetches to prove, or to show to its auditor, that it misses nothing.

The same bytes as in `manifest/` of the folder. Checked offline by `openssl cms -verify` or `gateway manifest verify`.
"""

import datetime as dt
from typing import Annotated, Any, Literal

import sqlalchemy as sa
import structlog
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...access import Permission
from ...dropfolder.manifests import MANIFEST
from ...errors import NotFound, Unavailable
from ...sealing.renditions import Rendition
from ...store import blobs
from ...store.blobs import Blobs
from ...store.database import Transaction
from .. import content
from ..calls import Call
from ..login import Needs
from . import API
from .folder import folder_for

log = structlog.get_logger(__name__)
routes = APIRouter(prefix=f"{API}/folder/manifests", tags=["manifests"])
Reading = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_READ))]
Day = Annotated[str, Path(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="YYYY-MM-DD, the issuer's")]
MOST = 1000


class OfFolder(BaseModel):
    """Of which folder."""

    model_config = ConfigDict(extra="forbid")

    folder: str | None = Field(None, description="Id of a folder; else the client's first. An operator names it.")


class ManifestsWanted(OfFolder):
    """Which manifests."""

    cursor: dt.date | None = Field(None, description="`next_cursor` of the page before, or the last day that you have")
    limit: int = Field(200, ge=1, le=MOST)


class ManifestShown(BaseModel):
    """A day's manifest. `last` below `first`: an empty day."""

    day: dt.date
    first: int
    last: int
    name: str
    size: int
    sha256: str
    signature_name: str
    signature_size: int
    signature_sha256: str
    made_at: dt.datetime


class Manifests(BaseModel):
    """Manifests, the oldest first. `next_cursor` is null on the last page."""

    folder: str
    items: list[ManifestShown]
    next_cursor: dt.date | None


@routes.get("", response_model=Manifests)
async def every(call: Reading, wanted: Annotated[ManifestsWanted, Query()]) -> Response:
    """The signed manifests of a folder, a day each."""

    def step(tx: Transaction) -> dict[str, Any]:
        folder = folder_for(tx, call.actor, wanted.folder)
        query = sa.select(MANIFEST).where(MANIFEST.c.folder_id == folder.id).order_by(MANIFEST.c.day)
        if wanted.cursor is not None:
            query = query.where(MANIFEST.c.day > str(wanted.cursor))
        rows = tx.execute(query.limit(wanted.limit + 1)).all()
        items = [_shown(row) for row in rows[: wanted.limit]]
        more = items[-1].day if len(rows) > wanted.limit else None
        return Manifests(folder=folder.id, items=items, next_cursor=more).model_dump(mode="json")

    return await call.answer(step)


def _shown(row: Any) -> ManifestShown:
    name = f"manifest-{row.day}.json"
    return ManifestShown(
        day=row.day,
        first=row.first_sequence,
        last=row.last_sequence,
        name=name,
        size=row.json_size,
        sha256=row.json_sha256,
        signature_name=f"{name}.p7s",
        signature_size=row.signature_size,
        signature_sha256=row.signature_sha256,
        made_at=row.made_at,
    )


def _bytes(media_type: str, what: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"content": {media_type: {}}, "description": what},
        206: {"content": {media_type: {}}, "description": "The range that was asked for"},
        304: {"description": "If-None-Match names these bytes"},
    }


_JSON, _CMS = "application/json", "application/pkcs7-signature"


@routes.get("/{day}", response_class=Response, responses=_bytes(_JSON, "The manifest, as it was signed"))
async def manifest(call: Reading, day: Day, wanted: Annotated[OfFolder, Query()]) -> Response:
    """The manifest of a day: canonical JSON, byte for byte what its signature covers."""
    return await _serve(call, day, wanted.folder, "json")


@routes.get("/{day}/signature", response_class=Response, responses=_bytes(_CMS, "Detached CMS signature, DER"))
async def signature(call: Reading, day: Day, wanted: Annotated[OfFolder, Query()]) -> Response:
    """Its detached CMS signature (RFC 5652), in DER."""
    return await _serve(call, day, wanted.folder, "signature")


async def _serve(call: Call, day: str, folder_id: str | None, part: Literal["json", "signature"]) -> Response:
    def step(tx: Transaction) -> Rendition:
        folder = folder_for(tx, call.actor, folder_id)
        row = tx.execute(sa.select(MANIFEST).where(MANIFEST.c.folder_id == folder.id, MANIFEST.c.day == day)).first()
        if row is None:
            raise NotFound("there is no manifest of that day", code="unknown_manifest")
        name = f"manifest-{day}.json"
        if part == "json":
            return Rendition(row.json_sha256, row.json_size, name, _JSON)
        return Rendition(row.signature_sha256, row.signature_size, f"{name}.p7s", _CMS)

    rendition = await call.read(step)
    fd = await call.parts.pool.run(_whole, call.parts.blobs, rendition)
    return content.response(fd, rendition, call.request.headers)


def _whole(store: Blobs, rendition: Rendition) -> int:
    """A file descriptor of bytes that have their digest; Unavailable: a damaged proof is never handed out."""
    if not blobs.is_whole(store, rendition.sha256):
        log.error("manifest.blob_damaged", file=rendition.file_name, sha256=rendition.sha256)
        raise Unavailable("these bytes cannot be read at the moment; try again")
    return store.open(rendition.sha256)
