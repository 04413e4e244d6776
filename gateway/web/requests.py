"""What holds for every request, whatever its route: an id, limits, one log line, and no traceback outside.

The outermost layer of the application, plain ASGI, so that it also sees what happens while a body is streamed.
"""

import asyncio
import re
from collections.abc import Callable

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import clock
from ..errors import GatewayError, Refused, TooLarge
from . import problems

log = structlog.get_logger(__name__)

JSON_BYTES = 1 << 20
LIST_BYTES = {"/api/v1/imports/clients": 4 << 20}  # of a list that is rehearsed as a whole
BODY_SECONDS = 60.0  # a body that stands still for this long is given up
_ASKED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
Watch = Callable[[str, str, int, float], None]


class Requests:
    """`watch` is told (method, route, status, seconds) of each request that was answered."""

    def __init__(self, app: ASGIApp, max_bytes: int, watch: Watch) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        request = _Request(scope, receive, send, self._max_bytes)
        with structlog.contextvars.bound_contextvars(request=request.id):
            try:
                await request.answer_with(self._app)
            finally:
                self._watch(request.method, request.route, request.status, request.seconds)


class _Request:
    """One request on its way: what of the body came, what was answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        headers = dict(scope["headers"])
        asked = headers.get(b"x-request-id", b"")
        self.id = asked.decode() if _ASKED_ID.fullmatch(asked) else clock.new_id("req")
        self.method: str = scope["method"]
        self.status = 0
        self._scope, self._receive, self._send = scope, receive, send
        self._began = clock.monotonic()
        is_upload = headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data")
        self._limit = max_bytes if is_upload else min(LIST_BYTES.get(scope["path"], JSON_BYTES), max_bytes)
        self._declared = headers.get(b"content-length", b"")
        self._received = 0
        self._whole = False

    @property
    def route(self) -> str:
        """The route's template, so that a number of different paths stays one thing to count."""
        return getattr(self._scope.get("route"), "path", None) or "unknown"

    @property
    def seconds(self) -> float:
        return clock.monotonic() - self._began

    async def answer_with(self, app: ASGIApp) -> None:
        try:
            if self._declared.isdigit() and int(self._declared) > self._limit:
                raise self._too_large()  # before a byte of it is asked for
            await app(self._scope, self.receive, self.send)
        except ClientDisconnect:
            log.info("request.abandoned", method=self.method, route=self.route, body_bytes=self._received)
        except Exception as error:
            if not isinstance(error, GatewayError):
                log.exception("request.failed", method=self.method, route=self.route)
            if self.status == 0:
                refusal = problems.answer(error) if isinstance(error, GatewayError) else problems.internal()
                await refusal(self._scope, self.receive, self.send)
        finally:
            say = log.debug if self._scope["path"] in QUIET else log.info
            say(
                "request.answered",
                method=self.method,
                route=self.route,
                status=self.status,
                duration_ms=round(self.seconds * 1000),
                body_bytes=self._received,
                caller=self._scope.get("state", {}).get("caller"),
            )

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()  # only the end of the connection can come now: no hurry
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise Refused("the body of the request stopped coming", code="body_timeout") from None
        self._received += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._received > self._limit:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.id.encode()), *_HEADERS]
        await self._send(message)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a request body here may have {self._limit} bytes at most")
