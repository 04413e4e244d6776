"""The API's description (OpenAPI 3.1): what FastAPI derives from the routes, and what holds for all of them.

Added here: the bearer scheme, each operation's permission, its problems, Idempotency-Key and If-Match.
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from .login import Needs, needs_of
from .problems import MEDIA_TYPE, Problem

_MEANING = {
    400: "The request cannot be read",
    401: "No valid token",
    403: "The token does not allow it",
    404: "There is none, or it is not yours",
    409: "The state does not allow it",
    412: "It changed since it was read (If-Match)",
    413: "Too large",
    422: "Refused: `code` and `detail` say why",
    503: "Not now: try again",
    507: "The gateway's disk is nearly full: try again later",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 200},
    "description": "The same request with the same key gets the same answer for 24 hours, and happens once",
}
# The operations that honour If-Match (a test holds the two together).
_CONDITIONAL = frozenset(
    {
        "accept",
        "reject",
        "replace",
        "withdraw",
        "retry",
        "cancel",
        "release",
        "change_client",
        "put_original_channel",
        "put",
    }
)
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "ETag of what the change is based on",
}


def install(app: FastAPI) -> None:
    """Give the application its description, made at the first request for it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["Problem"] = problem
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for route in app.routes:
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                _complete(document["paths"][route.path_format][method.lower()], route, method, needs_of(route))
    return document


def _complete(operation: dict[str, Any], route: APIRoute, method: str, needs: Needs | None) -> None:
    operation["responses"].pop("422", None)
    if needs is None:
        return
    operation["security"] = [{"token": []}]
    operation["x-permission"] = needs.permission.value
    operation["operationId"] = f"{route.tags[0]}.{route.name}"
    parameters = operation.setdefault("parameters", [])
    if method == "POST":
        parameters.append(_IDEMPOTENCY_KEY)
    if route.name in _CONDITIONAL:
        parameters.append(_IF_MATCH)
    for status in _statuses(route, method, bool(parameters)):
        operation["responses"].setdefault(str(status), _problem(status))


def _statuses(route: APIRoute, method: str, has_input: bool) -> list[int]:
    statuses = [401, 403, 503]
    if "{" in route.path:
        statuses.append(404)
    if method != "GET":
        statuses += [400, 409, 413, 422] + ([412] if route.name in _CONDITIONAL else [])
    elif has_input:
        statuses.append(422)
    if "requestBody" in (route.openapi_extra or {}):
        statuses.append(507)
    return sorted(statuses)


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    description = _MEANING.get(status, HTTPStatus(status).phrase)
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
