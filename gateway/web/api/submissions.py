"""Documents handed in: one form a request, streamed to disk, accepted exactly once."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel

from ...access import Permission
from ...domain.states import DocumentState, Nature
from ...errors import TooLarge
from ...intake.accept import Outcome
from ...store.database import Transaction
from .. import idempotency, problems, uploads
from ..calls import Answer, Call, replay, response
from ..login import Needs
from . import API

routes = APIRouter(prefix=f"{API}/documents", tags=["documents"])
Submitting = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_SUBMIT))]


class Submitted(BaseModel):
    """The answer to a document that was handed in. `outcome`: new, or again: the same bytes under the same number."""

    id: str
    number: str
    outcome: str
    state: DocumentState
    nature: Nature | None
    reason: str


FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "contentMediaType": "application/pdf", "description": "The PDF"},
                        "sidecar": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "Facts as JSON, all keys optional: kind, number, issue_date, type_code, "
                            "contract, seller_siren, buyer_siren, currency, total, period_start, period_end, corrects",
                        },
                    },
                },
                "encoding": {
                    "file": {"contentType": "application/pdf"},
                    "sidecar": {"contentType": "application/json"},
                },
            }
        },
    }
}


@routes.post(
    "",
    status_code=201,
    response_model=Submitted,
    openapi_extra=FORM,
    responses={200: {"model": Submitted, "description": "The same document again"}},
)
async def submit(call: Submitting) -> Response:
    """Hand in one document.

    The same number with the same bytes gets the same answer (200). With other bytes, or when a rule wants a person
    to look, the document is kept in quarantine and answered 409 with its id.
    """
    key = call.idempotency_key()
    call.parts.intake.require_space()
    source = "submit" if call.is_local else "api"
    upload = await _upload(call, source)
    same = idempotency.digest("POST", call.request.url.path, upload.sha256.encode(), upload.sidecar or b"")
    if key is not None and (kept := await _answered_before(call, key, same, upload)):
        return replay(*kept)
    outcome = await call.parts.intake.submit(upload.path, upload.sidecar, source, call.actor.id)
    if outcome.outcome == "quarantined":
        return problems.problem(409, "quarantined", outcome.reason, {"document": outcome.document_id})
    answer = Answer(_submitted(outcome), status=201 if outcome.outcome == "new" else 200)
    if key is not None:
        # The document is in already: should this be lost, the same request is answered 200 instead of 201.
        await call.parts.pool.run(call.parts.db.write, lambda tx: _keep(tx, call, key, same, answer))
    created = response(answer)
    created.headers["Location"] = f"{call.request.url.path}/{outcome.document_id}"
    return created


async def _upload(call: Call, source: str) -> uploads.Upload:
    parts = call.parts
    kind = call.request.headers.get("content-type", "")
    limit = int(parts.settings.intake.max_megabytes * 1_000_000)
    try:
        return await uploads.read(kind, call.request.stream(), parts.blobs.scratch, limit, parts.pool)
    except TooLarge as error:
        await parts.intake.refuse(error, source, call.actor.id)
        raise


async def _answered_before(
    call: Call, key: str, same: str, upload: uploads.Upload
) -> tuple[int, dict[str, Any]] | None:
    try:
        kept = await call.read(lambda tx: idempotency.find(tx, call.actor.id, key, same))
    except BaseException:
        upload.path.unlink(missing_ok=True)
        raise
    if kept is not None:
        upload.path.unlink(missing_ok=True)
    return kept


def _keep(tx: Transaction, call: Call, key: str, same: str, answer: Answer) -> None:
    if idempotency.find(tx, call.actor.id, key, same) is None:
        idempotency.keep(tx, call.actor.id, key, same, answer.status, answer.body)


def _submitted(outcome: Outcome) -> dict[str, Any]:
    return Submitted(
        id=outcome.document_id,
        number=outcome.number,
        outcome=outcome.outcome,
        state=outcome.state,
        nature=outcome.nature,
        reason=outcome.reason,
    ).model_dump(mode="json")
