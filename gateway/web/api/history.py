"""Moving in: what clients had on the server before, into the archives of their folders."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...access import Permission
from ...dropfolder import moving_in
from .. import uploads
from ..calls import Answer, Call, response
from ..login import Needs
from . import API

routes = APIRouter(prefix=f"{API}/imports/history", tags=["imports"])
Importing = Annotated[Call, Depends(Needs(Permission.PARTIES_MANAGE, operators_only=True))]
FORM_BYTES = 10_000  # of an upload around the file itself
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
                }
            }
        },
    }
}


class FileWanted(BaseModel):
    """One file of the server before."""

    model_config = ConfigDict(extra="forbid")

    user_name: str = Field(max_length=100, description="The client's log-in")
    name: str = Field(max_length=1000, description="What it is called in the archive; at most 255 bytes are taken")
    mtime: int = Field(description="Unix seconds: its date on the server before, which says its month")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


class FilesWanted(BaseModel):
    """A part of a list. `dry_run`: say what would come of it, and keep nothing; no bytes are needed for that."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False
    lines: list[FileWanted] = Field(max_length=moving_in.MAX_LINES)


class FilesUnwanted(FilesWanted):
    """Files as they were imported."""

    reason: str = Field(description="Why they should not be there, 1 to 500 characters")


class FileReport(BaseModel):
    """What came of a line: created, same, differs (nothing was changed), or refused; or withdrawn, missing."""

    outcome: str
    place: str = Field(description="Where it lies in the client's home")
    column: str
    reason: str


class FilesReported(BaseModel):
    """One for each line, in their order."""

    items: list[FileReport]


class Kept(BaseModel):
    """Bytes that are in the store now."""

    sha256: str
    size: int


@routes.post("/bytes", response_model=Kept, openapi_extra=FORM)
async def keep_bytes(call: Importing) -> Response:
    """Send the bytes of a file, before the line that names them; the same again changes nothing."""
    parts = call.parts
    parts.intake.require_space()
    kind = call.request.headers.get("content-type", "")
    upload = await uploads.read(kind, call.request.stream(), parts.blobs.scratch, _limit(call), parts.pool)
    blob = await parts.pool.run(parts.blobs.adopt, upload.path)
    return response(Answer({"sha256": blob.sha256, "size": blob.size}))


@routes.put("", response_model=FilesReported)
async def import_history(call: Importing, body: FilesWanted) -> Response:
    """Put files whose bytes were sent into the archives; each line for itself. No delivery, no receipt, no number."""
    parts = call.parts
    rules = moving_in.Rules(parts.settings.issuer.zone, _limit(call))
    lines = [moving_in.Line(**line.model_dump()) for line in body.lines]

    def run() -> Sequence[moving_in.Report]:
        if body.dry_run:
            return moving_in.rehearse(parts.db, lines, rules)
        return moving_in.take(parts.db, parts.blobs, call.actor, lines, rules)

    reports = await parts.pool.run(run)
    return response(Answer({"items": [dataclasses.asdict(report) for report in reports]}))


@routes.post("/withdraw", response_model=FilesReported)
async def withdraw_history(call: Importing, body: FilesUnwanted) -> Response:
    """Take files out of the archives again that were imported by mistake; their bytes stay as evidence."""
    db, rules = call.parts.db, moving_in.Rules(call.parts.settings.issuer.zone, _limit(call))
    lines = [moving_in.Line(**line.model_dump()) for line in body.lines]

    def run() -> Sequence[moving_in.Report]:
        return moving_in.withdraw(db, call.actor, lines, rules, body.reason, dry_run=body.dry_run)

    reports = await call.parts.pool.run(run)
    return response(Answer({"items": [dataclasses.asdict(report) for report in reports]}))


def _limit(call: Call) -> int:
    """Bytes of a file: what a request may hold."""
    return call.parts.settings.http.max_upload_megabytes * 1_000_000 - FORM_BYTES
