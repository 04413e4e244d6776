"""One authenticated request and what an endpoint does with it: read in a snapshot, or change in one transaction.

Both run in the web's thread pool, never on the loop. A change is kept under its Idempotency-Key and honours If-Match
(RFC 9110 13.1.1); its answer carries the thing's ETag.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from ..access import Actor
from ..store.database import Transaction
from . import idempotency
from .parts import Parts
from .problems import PreconditionFailed

T = TypeVar("T")
REPLAYED = "Idempotent-Replayed"


@dataclass(frozen=True)
class Answer:
    """What a change answers. `version` counts the thing's changes (its ETag); `again`: the body a repeat gets."""

    body: dict[str, Any]
    version: int | str | None = None
    status: int = 200
    again: dict[str, Any] | None = None


class Call:
    """A request of an actor who may make it. `is_local`: it came by the Unix socket."""

    def __init__(self, request: Request, parts: Parts, actor: Actor, *, is_local: bool) -> None:
        self.request = request
        self.parts = parts
        self.actor = actor
        self.is_local = is_local

    async def read(self, step: Callable[[Transaction], T]) -> T:
        """`step`'s result, of one snapshot."""
        return await self.parts.pool.run(self.parts.db.read, step)

    async def answer(self, step: Callable[[Transaction], dict[str, Any]]) -> Response:
        """The response to a GET of what has no version: a list, a report."""
        return response(Answer(await self.read(step)))

    async def show(self, step: Callable[[Transaction], Answer]) -> Response:
        """The response to a GET of one thing, with its ETag."""
        return response(await self.read(step))

    async def change(self, step: Callable[[Transaction], Answer]) -> Response:
        """Commit `step` and answer; under an Idempotency-Key, once."""
        key = self.idempotency_key() if self.request.method == "POST" else None
        same = idempotency.digest(self.request.method, self.request.url.path, await self.request.body())
        return await self.parts.pool.run(self.parts.db.write, lambda tx: self._once(tx, key, same, step))

    def _once(self, tx: Transaction, key: str | None, same: str, step: Callable[[Transaction], Answer]) -> Response:
        if key is None:
            return response(step(tx))
        if (kept := idempotency.find(tx, self.actor.id, key, same)) is not None:
            return replay(*kept)
        answer = step(tx)
        body = answer.body if answer.again is None else answer.again
        idempotency.keep(tx, self.actor.id, key, same, answer.status, body)
        return response(answer)

    def idempotency_key(self) -> str | None:
        """The header's value, checked; Refused."""
        key = self.request.headers.get("idempotency-key")
        return None if key is None else idempotency.checked(key)

    def require_match(self, version: int | str) -> None:
        """PreconditionFailed when the request's If-Match names other versions than this one."""
        wanted = self.request.headers.get("if-match")
        if wanted is None or wanted.strip() == "*":
            return
        if etag(version) not in [tag.strip() for tag in wanted.split(",")]:
            raise PreconditionFailed("it has changed since you read it: read it again, then decide")


def etag(version: int | str) -> str:
    """The strong entity tag of a version."""
    return f'"{version}"'


def response(answer: Answer) -> Response:
    """JSON, not to be kept by caches; nothing at all for 204."""
    if answer.status == 204:
        return Response(status_code=204)
    headers = {"Cache-Control": "no-store"}
    if answer.version is not None:
        headers["ETag"] = etag(answer.version)
    return JSONResponse(answer.body, answer.status, headers)


def replay(status: int, body: dict[str, Any]) -> Response:
    """An answer that was given before."""
    again = response(Answer(body, status=status))
    again.headers[REPLAYED] = "true"
    return again
