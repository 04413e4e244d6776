"""Errors as problem+json (RFC 9457): one table from our own kinds to a status, one handler for each source.

A body is `{type, title, status, detail, code}`, plus `errors` when the input as a whole was refused and `document`
when a document is meant. `code` is stable and for programs, `detail` is for people. No traceback, path or secret
is ever in it: of an error's facts only the ones in SHOWN leave the house.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, IntegrityError
from starlette.exceptions import HTTPException

from .. import errors
from ..errors import GatewayError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class PreconditionFailed(errors.Conflict):
    """The thing changed since it was read (If-Match)."""

    code = "precondition_failed"


STATUS = {  # by kind; the nearest base counts
    errors.Refused: 422,
    errors.TooLarge: 413,
    errors.NotFound: 404,
    errors.Denied: 403,
    errors.Conflict: 409,
    PreconditionFailed: 412,
    errors.Unavailable: 503,
}
STATUS_BY_CODE = {
    "unauthenticated": 401,
    "stale": 412,
    "disk_full": 507,  # RFC 4918 11.5: nothing is wrong with the request
    "form": 400,
    "media_type": 415,
    "body_timeout": 408,
}
_CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
SHOWN = ("document", "number", "contract", "contracts", "where", "refused", "errors")
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}, 507: {"Retry-After": "60"}}


class InputError(BaseModel):
    """One thing wrong with the input."""

    where: str = Field(description="Path into the input, e.g. body.siren")
    message: str


class Problem(BaseModel):
    """What is documented of a problem; further members may come with it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[InputError] = []


def status_of(error: GatewayError) -> int:
    """The HTTP status of one of our errors; 500 for a kind that must not reach a client."""
    if error.code in STATUS_BY_CODE:
        return STATUS_BY_CODE[error.code]
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def install(app: FastAPI) -> None:
    """Give the application its handlers; `internal` answers what nobody foresaw."""
    app.add_exception_handler(GatewayError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(IntegrityError, _lost_race)
    app.add_exception_handler(DataError, _no_value)
    app.add_exception_handler(UnicodeEncodeError, _no_value)


def answer(error: GatewayError) -> JSONResponse:
    """The response to one of our errors."""
    status = status_of(error)
    if status == 500:
        log.error("request.misconfigured", code=error.code, cause=error.message)
        return internal()
    facts = {name: value for name, value in error.facts.items() if name in SHOWN and value is not None}
    return problem(status, error.code, error.message, facts)


def internal() -> JSONResponse:
    """The response to a defect of ours, whose traceback is in the log only."""
    return problem(500, "internal", "something went wrong here; the request id finds it in the log", {})


def problem(status: int, code: str, detail: str, facts: Mapping[str, Any]) -> JSONResponse:
    """One problem; `facts` are further members."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **facts,
    }
    return JSONResponse(body, status, HEADERS.get(status), MEDIA_TYPE)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    return answer(error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if _is_no_json(request):
        return problem(415, "media_type", "a body here is JSON: Content-Type: application/json", {})
    wrong = [
        {"where": _place(e["loc"]), "message": str(e["msg"]).removeprefix("Value error, ")} for e in error.errors()[:20]
    ]
    if any(e["type"] == "json_invalid" for e in error.errors()):
        return problem(400, "malformed", "the body is not JSON", {"errors": wrong})
    detail = "; ".join(f"{e['where']}: {e['message']}" for e in wrong)
    return problem(422, "invalid", detail, {"errors": wrong})


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, GatewayError):
        return answer(error.__cause__)  # raised while FastAPI was reading the body: a limit of ours
    code = _CODES.get(error.status_code, "error")
    response = problem(error.status_code, code, str(error.detail), {})
    response.headers.update(error.headers or {})
    return response


async def _lost_race(_request: Request, error: Exception) -> JSONResponse:
    """Somebody else's row stands in the way, and still does after the store has run the step again."""
    log.warning("request.lost_race", cause=str(getattr(error, "orig", error))[:300])
    return problem(409, "conflict", "somebody else made the same at the same moment: ask again", {})


async def _no_value(_request: Request, error: Exception) -> JSONResponse:
    """What no column can hold: PostgreSQL's text has no NUL, UTF-8 no half of a character."""
    log.warning("request.no_value", cause=str(getattr(error, "orig", error))[:300])
    return problem(422, "invalid", "a text here holds what is no character (NUL, half of a pair), or is too long", {})


def _is_no_json(request: Request) -> bool:
    """It has a body of another type, which FastAPI does not read as JSON and then finds to be no object."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    return has_body and kind != "application/json" and not kind.endswith("+json")


def _place(location: Sequence[int | str]) -> str:
    return ".".join(str(step) for step in location)
