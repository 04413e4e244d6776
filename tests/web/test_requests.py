"""What holds for every request, over real sockets: limits, identifiers, no traceback."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.servers import httpd
from gateway.store import state
from gateway.web import requests

from .world import World


@contextlib.asynccontextmanager
async def _served(world: World) -> AsyncIterator[tuple[str, httpd.HttpServer]]:
    tcp = httpd.bind_loopback("127.0.0.1:0")
    unix = httpd.bind_unix(state.admin_socket(world.parts.settings.store))
    server = httpd.HttpServer(world.app, [tcp, unix], grace_seconds=1)
    url = f"http://127.0.0.1:{tcp.getsockname()[1]}"
    task = asyncio.create_task(server.serve())
    try:
        yield url, server
    finally:
        server.stop()
        await asyncio.wait_for(task, 10)


def _with_server(
    world: World, act: Callable[[httpx.AsyncClient], Awaitable[None]], token: str | None = "admin"
) -> None:
    headers = {"Authorization": f"Bearer {world.tokens[token]}"} if token else {}

    async def main() -> None:
        async with _served(world) as (url, _), httpx.AsyncClient(base_url=url, headers=headers) as client:
            await act(client)

    asyncio.run(main())


def test_the_owner_needs_no_token_on_the_unix_socket_and_is_named_in_the_evidence(gateway: World) -> None:
    """Whoever may open the state directory is its owner; on TCP the same request is refused."""

    async def main() -> None:
        async with _served(gateway) as (url, _):
            path = state.admin_socket(gateway.parts.settings.store)
            with httpd.reachable(path) as name:
                transport = httpx.AsyncHTTPTransport(uds=name)
                async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as local:
                    assert (await local.get("/api/v1/status")).status_code == 200
                    made = await local.post("/api/v1/tokens", json={"name": "x", "scope": "operator:viewer"})
                    assert made.json()["created_by"].startswith("cli:")
            async with httpx.AsyncClient(base_url=url) as remote:
                assert (await remote.get("/api/v1/status")).status_code == 401

    asyncio.run(main())


def test_a_body_that_declares_too_much_is_refused_unread(gateway: World) -> None:
    """413 before one byte was asked for: the client waits for 100 Continue, or has it all dropped."""

    async def act(client: httpx.AsyncClient) -> None:
        url = client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            b"POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000000\r\n\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 413")
        assert b"application/problem+json" in head
        writer.close()

    _with_server(gateway, act)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_a_body_without_a_length_is_counted_as_it_comes(gateway: World, kind: str) -> None:
    """Chunked encoding must not get round the limit."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * 1_000_000

    async def act(client: httpx.AsyncClient) -> None:
        path = "/api/v1/clients" if "json" in kind else "/api/v1/documents"
        answer = await client.post(path, content=endless(), headers={"Content-Type": kind})
        assert answer.status_code in (400, 413), answer.text
        if "json" in kind:
            assert answer.json()["code"] == "too_large"

    _with_server(gateway, act)


def test_a_body_that_stands_still_is_given_up(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte a minute would hold a request for ever."""
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.2)

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"name": '
        await asyncio.sleep(3)
        yield b'"x"}'

    async def act(client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/v1/clients", content=slow(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (408, "body_timeout")

    _with_server(gateway, act)


def test_a_defect_of_ours_is_500_without_a_traceback_and_with_the_id_that_finds_it(
    gateway: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer tells nothing of the inside; the log tells everything."""

    def broken(step: Any) -> Any:
        raise RuntimeError("secret inside /etc")

    monkeypatch.setattr(gateway.parts.db, "read", broken)
    with capture_logs() as logs:
        answer = gateway.ask("GET", "/documents", "admin")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    failed = next(entry for entry in logs if entry["event"] == "request.failed")
    assert failed["log_level"] == "error"
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_caller_may_bring_the_id_but_no_line_break_into_the_log(gateway: World) -> None:
    """Ids are for finding one's own request in our log, not for writing into it."""
    assert (
        gateway.ask("GET", "//gateway/healthz", headers={"X-Request-Id": "erp-42"}).headers["x-request-id"] == "erp-42"
    )
    odd = gateway.ask("GET", "//gateway/healthz", headers=[(b"x-request-id", b"a b\x0bc")])
    assert odd.headers["x-request-id"].startswith("req_")


def test_one_line_a_request_names_route_caller_and_status(gateway: World) -> None:
    """The template and the token's id: no number of a document, no secret."""
    own = gateway.parties[0]
    with capture_logs() as logs:
        gateway.ask("GET", f"/documents/{own.document}", "own")
    lines = [entry for entry in logs if entry["event"] == "request.answered"]
    assert len(lines) == 1
    assert (lines[0]["route"], lines[0]["status"]) == ("/api/v1/documents/{document_id}", 200)
    assert lines[0]["caller"].startswith("tok_")
    assert own.token not in json.dumps(lines, default=str)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "//gateway/nothing", 404, "not_found"),
        ("GET", "//gateway/api/v1/documents/", 404, "not_found"),
        ("DELETE", "/documents", 405, "method_not_allowed"),
        ("GET", "//gateway/docs", 404, "not_found"),
    ],
)
def test_what_is_no_route_is_a_problem_too(gateway: World, method: str, path: str, status: int, code: str) -> None:
    """One form of error, whoever finds it."""
    answer = gateway.ask(method, path, "admin")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"{", 400, "malformed"), (b"[]", 422, "invalid"), (b'{"name": 1}', 422, "invalid"), (b"", 422, "invalid"),
     (b'{"name": "x", "nmae": "y"}', 422, "invalid"), (b"\xff", 400, "malformed")],
)  # fmt: skip
def test_a_body_that_does_not_fit_says_where(gateway: World, body: bytes, status: int, code: str) -> None:
    """An unknown member is refused: a misspelt one would be ignored for ever."""
    answer = gateway.ask("POST", "/clients", "admin", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
