"""Reach the admin API: over the Unix socket of the daemon that runs, else in this process, on the same parts.

Either way a command goes through the same code as any other caller. Without a daemon the state directory's lock is
held meanwhile, so that none can start half-way. Failures: ApiError with the problem's own words.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ..errors import Conflict, GatewayError, Unavailable

if TYPE_CHECKING:
    import httpx

    from ..config import Settings

BASE = "http://gateway/api/v1"
_START_SECONDS = 10.0  # a daemon holds the lock before it listens
T = TypeVar("T")


def named(id_: str) -> str:
    """An id as one step of a path: what a person typed must not lead to another endpoint."""
    return quote(id_, safe="") if id_.strip(".") else "-"


class ApiError(GatewayError):
    """The API said no; the message is its `detail`. `status` and the whole problem are kept."""

    code = "api"

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or f"HTTP {status}"), code=str(problem.get("code") or "api"))
        self.status = status
        self.problem = problem


class Api:
    """Calls of the API; answers are JSON."""

    def __init__(self, client: "httpx.AsyncClient") -> None:
        self._client = client

    async def get(self, path: str, **query: Any) -> Any:
        """A thing, or one page of a list. Parameters that are None are left out."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return await self._ask("GET", path, params=wanted)

    async def content(self, path: str, **query: Any) -> bytes:
        """The bytes of a file."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return (await self._answer("GET", path, params=wanted)).content

    async def every(self, path: str, limit: int | None = None, **query: Any) -> list[Any]:
        """A list over its pages, up to `limit` items; None: all."""
        items: list[Any] = []
        cursor = None
        while limit is None or len(items) < limit:
            page = await self.get(path, cursor=cursor, limit=min(200, limit - len(items)) if limit else 200, **query)
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return items

    async def post(self, path: str, body: Any = None, **request: Any) -> Any:
        """Make or order something. `request`: httpx's, for an upload."""
        if body is not None:
            request["json"] = body
        return await self._ask("POST", path, **request)

    async def put(self, path: str, body: Any) -> Any:
        """Replace something."""
        return await self._ask("PUT", path, json=body)

    async def patch(self, path: str, body: Any) -> Any:
        """The answer to a PATCH."""
        return await self._ask("PATCH", path, json=body)

    async def delete(self, path: str) -> Any:
        """End something."""
        return await self._ask("DELETE", path)

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        answer = await self._answer(method, path, **request)
        return answer.json() if _is_json(answer) else None

    async def _answer(self, method: str, path: str, **request: Any) -> "httpx.Response":
        import httpx

        try:
            answer = await self._client.request(method, path, **request)
        except httpx.TransportError as error:
            raise Unavailable(
                f"the gateway does not answer ({str(error) or type(error).__name__}); is it stopping?"
            ) from error
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, answer.json() if _is_json(answer) else {"detail": answer.text[:200]})
        return answer


def _is_json(answer: "httpx.Response") -> bool:
    return "json" in answer.headers.get("content-type", "")


def run(settings: "Settings", act: Callable[[Api], Awaitable[T]]) -> T:
    """What `act` makes of the API."""

    async def main() -> T:
        async with connect(settings) as api:
            return await act(api)

    return asyncio.run(main())


@contextlib.asynccontextmanager
async def connect(settings: "Settings") -> AsyncIterator[Api]:
    """The API, however it can be reached. ConfigError when the state directory is another user's."""
    import httpx

    from ..store import state

    if settings.store.directory.exists():
        state.require_owner(settings.store.directory)
    async with contextlib.AsyncExitStack() as stack:
        transport = None if daemon_runs(settings) else await _in_process(settings, stack)
        transport = transport or await _over_the_socket(settings, stack)
        timeout = httpx.Timeout(120, connect=10)
        client = httpx.AsyncClient(transport=transport, base_url=BASE, timeout=timeout, trust_env=False)
        yield Api(await stack.enter_async_context(client))


def daemon_runs(settings: "Settings") -> bool:
    """Whether another process holds the state directory: asked first, for the parts below take long to import."""
    from ..store.state import StateLock

    if not settings.store.directory.is_dir():
        return False
    lock = StateLock(settings.store)
    try:
        lock.acquire()
    except Conflict:
        return True
    lock.release()
    return False


async def _in_process(settings: "Settings", stack: contextlib.AsyncExitStack) -> "httpx.AsyncBaseTransport | None":
    """The application on parts of this process; None when another process was faster to take the lock."""
    import httpx

    from ..daemon import open_core, parts_of
    from ..web.app import create_app

    try:
        core = await stack.enter_async_context(open_core(settings))
    except Conflict as error:
        if error.code == "schema":
            raise
        return None
    return httpx.ASGITransport(_as_owner(create_app(parts_of(core))))


async def _over_the_socket(settings: "Settings", stack: contextlib.AsyncExitStack) -> "httpx.AsyncBaseTransport":
    import httpx

    from ..servers.httpd import reachable
    from ..store.state import admin_socket

    name = stack.enter_context(reachable(admin_socket(settings.store)))
    await _listening(name)
    return httpx.AsyncHTTPTransport(uds=name)


async def _listening(name: str) -> None:
    """Wait until somebody listens; Unavailable."""
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(name)
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    "a gateway process holds the state directory but does not listen on its socket: "
                    "another command may be running; try again"
                ) from None
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return


def _as_owner(app: Any) -> Any:
    """The scope as the Unix socket's listener makes it: whoever may open the state directory is its owner."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"extensions": {"unix_peer": {"uid": os.geteuid()}}}, receive, send)

    return called
