"""The HTTP listeners: who is heard, and what a slow or rude peer can do."""

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.servers import httpd


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what the listener put into the scope."""
    body = json.dumps({"path": scope["path"], "extensions": scope.get("extensions")}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def _serving(*sockets: socket.socket, app: Any = _echo) -> AsyncIterator[httpd.HttpServer]:
    server = httpd.HttpServer(app, sockets, grace_seconds=1)
    task = asyncio.create_task(server.serve())
    try:
        yield server
    finally:
        server.stop()
        await asyncio.wait_for(task, 5)


async def _answer(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), 5)


async def _ask(connection: Sequence[Any]) -> dict[str, Any]:
    reader, writer = connection
    writer.write(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    body = (await _answer(reader)).partition(b"\r\n\r\n")[2]
    writer.close()
    answer: dict[str, Any] = json.loads(body)
    return answer


def _port(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_the_uid_of_the_peer_is_known_on_the_unix_socket_and_never_on_tcp(tmp_path: Path) -> None:
    """SO_PEERCRED is the kernel's word; nothing that a TCP peer sends can look like it."""

    async def run() -> None:
        path = tmp_path / "admin.sock"
        tcp = httpd.bind_loopback("127.0.0.1:0")
        port = _port(tcp)
        async with _serving(tcp, httpd.bind_unix(path)):
            assert await _ask(await asyncio.open_unix_connection(path)) == {
                "path": "/x",
                "extensions": {"unix_peer": {"uid": os.geteuid()}},
            }
            assert await _ask(await asyncio.open_connection("127.0.0.1", port)) == {"path": "/x", "extensions": None}

    asyncio.run(run())


def test_the_unix_socket_is_for_its_owner_alone_and_replaces_one_left_behind(tmp_path: Path) -> None:
    """A killed daemon leaves its socket; the next one must not fail on it."""
    path = tmp_path / "admin.sock"
    httpd.bind_unix(path).close()
    httpd.bind_unix(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_state_directory_with_a_long_name_still_has_a_socket(tmp_path: Path) -> None:
    """unix(7): an address has 108 bytes, a path 4,096."""

    async def run() -> None:
        deep = tmp_path / ("a" * 60) / ("b" * 60)
        deep.mkdir(parents=True)
        path = deep / "admin.sock"
        async with _serving(httpd.bind_unix(path)):
            with httpd.reachable(path) as name:
                connection = await asyncio.open_unix_connection(name)
            assert (await _ask(connection))["path"] == "/x"

    asyncio.run(run())


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"])
def test_plain_http_off_loopback_is_refused(listen: str) -> None:
    """Tokens would cross the network in clear."""
    with pytest.raises(ConfigError, match="loopback only"):
        httpd.bind_loopback(listen)


@pytest.mark.parametrize("listen", ["", "8080", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:99999", "127.0.0.1:8o"])
def test_an_address_that_is_none_is_named_with_its_key(listen: str) -> None:
    """The operator must find the line."""
    with pytest.raises(ConfigError, match=r"\[http\.listen\]"):
        httpd.bind_loopback(listen)


def test_a_port_in_use_is_said_not_thrown() -> None:
    """It is the commonest failure of a start."""
    with (
        contextlib.closing(httpd.bind_loopback("127.0.0.1:0")) as first,
        contextlib.closing(first) as _,
    ):
        first.listen()
        with pytest.raises(ConfigError, match="in use"):
            httpd.bind_loopback(f"127.0.0.1:{_port(first)}")


def test_a_peer_that_sends_no_head_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn itself would wait for ever: half-open connections would use up the descriptors."""
    monkeypatch.setattr(httpd, "HEAD_SECONDS", 0.2)

    async def run() -> None:
        listener = httpd.bind_loopback("127.0.0.1:0")
        port = _port(listener)
        async with _serving(listener):
            for head in (b"", b"GET / HTTP/1.1\r\nHost: "):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head)
                assert await _answer(reader) == b""
                writer.close()

    asyncio.run(run())


def test_one_connection_too_many_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections must not shut out those that are there, nor the operator on the Unix socket."""
    monkeypatch.setattr(httpd, "CONNECTIONS", 2)

    async def run() -> None:
        path = tmp_path / "admin.sock"
        listener = httpd.bind_loopback("127.0.0.1:0")
        port = _port(listener)
        async with _serving(listener, httpd.bind_unix(path)):
            there = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head, _, body = (await _answer(reader)).partition(b"\r\n\r\n")
            writer.close()
            assert head.startswith(b"HTTP/1.1 503 ")
            assert json.loads(body)["code"] == "connections"
            assert (await _ask(await asyncio.open_unix_connection(path)))["path"] == "/x"
            for connection in there:
                assert (await _ask(connection))["path"] == "/x"
            assert (await _ask(await asyncio.open_connection("127.0.0.1", port)))["path"] == "/x"

    asyncio.run(run())


def test_a_head_without_end_is_cut_off() -> None:
    """The parser has no limit of its own: memory would go."""

    async def run() -> None:
        listener = httpd.bind_loopback("127.0.0.1:0")
        port = _port(listener)
        async with _serving(listener):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nX: ")
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 64 * httpd.HEAD_BYTES:
                    writer.write(b"x" * 8192)
                    sent += 8192
                    await asyncio.wait_for(writer.drain(), 5)
                    await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError):
                assert (await _answer(reader)).startswith(b"HTTP/1.1 431 ")
            assert sent < 64 * httpd.HEAD_BYTES

    asyncio.run(run())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),  # TLS where there is none
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * httpd.HEAD_BYTES + b"\r\n", 431),
    ],
)
def test_what_the_application_is_never_told_of_is_answered_as_a_problem(head: bytes, status: int) -> None:
    """RFC 9457: a client has one parser for errors."""

    async def run() -> None:
        listener = httpd.bind_loopback("127.0.0.1:0")
        port = _port(listener)
        async with _serving(listener):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            said, _, body = (await _answer(reader)).partition(b"\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 %d " % status)
            assert b"content-type: application/problem+json" in said
            assert json.loads(body)["status"] == status
            writer.close()

    asyncio.run(run())


def test_several_requests_on_one_connection_each_get_their_own_head_limit() -> None:
    """Bytes of one request must not count for the next."""

    async def run() -> None:
        listener = httpd.bind_loopback("127.0.0.1:0")
        port = _port(listener)
        async with _serving(listener):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(4):
                writer.write(b"GET /y HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (httpd.HEAD_BYTES // 2) + b"\r\n\r\n")
                assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                await reader.readexactly(len(json.dumps({"path": "/y", "extensions": None})))
            writer.close()

    asyncio.run(run())


def test_stop_lets_an_answer_that_began_end() -> None:
    """SIGTERM during an upload must not lose the answer to it."""

    async def run() -> None:
        began, go = asyncio.Event(), asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            began.set()
            await go.wait()
            await _echo(scope, receive, send)

        listener = httpd.bind_loopback("127.0.0.1:0")
        port = _port(listener)
        async with _serving(listener, app=slow) as server:
            asked = asyncio.create_task(_ask(await asyncio.open_connection("127.0.0.1", port)))
            await began.wait()
            server.stop()
            go.set()
            assert (await asked)["path"] == "/x"

    asyncio.run(run())
