"""Test documents: made on demand in a folder's `sandbox/`, and what the client's program did with them.

Bytes first, then one transaction of rows, evidence and answer; what it refuses, or answered before, leaves no bytes.
Where the answer to its COMMIT was lost they stay, for the rows may be there.
"""

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ... import invoices
from ...access import Permission
from ...domain.sandbox import SandboxTest
from ...dropfolder import ranges, sandbox_tests
from ...dropfolder.sandbox import HEAD
from ...dropfolder.sandbox_tests import Made, Wanted
from ...errors import GatewayError, Unavailable
from ...store.database import Transaction
from .. import idempotency
from ..calls import Answer, Call, replay
from ..login import Needs
from . import API
from .folder import folder_for

routes = APIRouter(prefix=f"{API}/folder/test-documents", tags=["sandbox"])
Reading = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_READ))]
Asking = Annotated[Call, Depends(Needs(Permission.FOLDER_ASK))]


class TestsWanted(BaseModel):
    """How many, and in which folder's sandbox."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    folder: str | None = Field(None, max_length=40, description="Id of a folder; else the client's first.")
    count: int = Field(1, ge=1, le=100)
    reason: str = Field("", max_length=500, description="It goes into the evidence.")


class TestShown(BaseModel):
    """One file of a test document. That it was read is no receipt."""

    id: str
    name: str
    number: str
    format: str
    sha256: str
    size: int
    made_at: dt.datetime
    made_by: str
    bytes_read: int = Field(description="Over all sessions, each byte once; of handles that were closed")
    fully_read_at: dt.datetime | None
    removed_at: dt.datetime | None = Field(description="By the client's program, or by API")
    is_there: bool


class Tests(BaseModel):
    """A folder's test documents."""

    folder: str
    items: list[TestShown]


class TestsListed(BaseModel):
    """Which of them: the newest."""

    model_config = ConfigDict(extra="forbid")

    folder: str | None = Field(None, max_length=40, description="Id of a folder; else the client's first.")
    limit: int = Field(200, ge=1, le=1000)


@routes.post("", status_code=201, response_model=Tests)
async def make_test_documents(call: Asking, body: TestsWanted) -> Response:
    """Make test documents: whole invoices in the folder's formats, marked TEST on every page, in number and name."""
    settings, zone = call.parts.settings.folder, call.parts.settings.issuer.zone
    if (kept := await _answered_before(call)) is not None:
        return replay(*kept)

    def prepare(tx: Transaction) -> list[Wanted]:
        return sandbox_tests.plan(tx, folder_for(tx, call.actor, body.folder), body.count, settings, zone)

    files: list[Made] = []
    is_kept = False
    is_needed = False  # the bytes of these files: rows name them, or nobody knows whether rows do

    def step(tx: Transaction) -> Answer:
        nonlocal is_kept
        folder = folder_for(tx, call.actor, body.folder)
        rows = sandbox_tests.keep(tx, folder, files, settings, call.actor.id, body.reason)
        is_kept = True
        return Answer({"folder": folder.id, "items": [_shown(row, is_there=True) for row in rows]}, status=201)

    try:
        for one in await call.read(prepare):
            files += await _files(call, one)
        is_needed = True
        answer = await call.change(step)
        is_needed = is_kept
        return answer
    except GatewayError as error:
        is_needed = is_needed and isinstance(error, Unavailable)
        raise
    finally:
        if not is_needed:
            await call.parts.pool.run(_forget, call, files)


async def _answered_before(call: Call) -> tuple[int, dict[str, Any]] | None:
    """Asked under the same key before: nothing need be made."""
    if (key := call.idempotency_key()) is None:
        return None
    same = idempotency.digest(call.request.method, call.request.url.path, await call.request.body())
    return await call.read(lambda tx: idempotency.find(tx, call.actor.id, key, same))


async def _files(call: Call, wanted: Wanted) -> list[Made]:
    """The files of one test document, their bytes in the store."""
    contents = {}
    if "pdf" in wanted.names:
        contents["pdf"] = await call.parts.renditions.test_document(wanted.facts)
    if "xml" in wanted.names:
        contents["xml"] = await call.parts.pool.run(invoices.xml, wanted.facts)
    return [await call.parts.pool.run(_put, call, wanted, ending, content) for ending, content in contents.items()]


def _put(call: Call, wanted: Wanted, ending: str, content: bytes) -> Made:
    blob = call.parts.blobs.put(secrets.token_bytes(HEAD) + content)
    digest = hashlib.sha256(content).hexdigest()
    return Made(wanted.facts.number, ending, wanted.names[ending], blob.sha256, digest, len(content))


def _forget(call: Call, files: Sequence[Made]) -> None:
    for file in files:
        call.parts.blobs.remove(file.blob_sha256)


@routes.get("", response_model=Tests)
async def find_test_documents(call: Reading, wanted: Annotated[TestsListed, Query()]) -> Response:
    """A folder's test documents, the newest first: what was read of each, and whether it is still there."""

    def step(tx: Transaction) -> dict[str, Any]:
        folder = folder_for(tx, call.actor, wanted.folder)
        found = sandbox_tests.listed(tx, folder.id, wanted.limit)
        return {"folder": folder.id, "items": [_shown(row, is_there=is_there) for row, is_there in found]}

    return await call.answer(step)


@routes.delete("/{test_id}", status_code=204)
async def remove_test_document(call: Asking, test_id: str, folder: str | None = None) -> Response:
    """Take a test document out of its sandbox."""

    def step(tx: Transaction) -> Answer:
        sandbox_tests.remove(tx, folder_for(tx, call.actor, folder).id, test_id, call.actor.id)
        return Answer({}, status=204)

    return await call.change(step)


_SAME = [name for name in TestShown.model_fields if name not in ("bytes_read", "is_there")]


def _shown(row: SandboxTest, *, is_there: bool) -> dict[str, Any]:
    facts = {name: getattr(row, name) for name in _SAME}
    return TestShown(bytes_read=ranges.total(row.read_ranges), is_there=is_there, **facts).model_dump(mode="json")
