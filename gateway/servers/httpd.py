"""HTTP listeners: uvicorn in the daemon's own loop, on a loopback socket and on the Unix socket of the admin API.

What the library leaves open is closed here: signals stay with the daemon; a peer that does not get its request's
head across in time, or sends a head without end, is cut off; one connection too many is refused, and only that one,
never on the Unix socket, so that nobody shuts the operator out; on the Unix socket the peer's uid (SO_PEERCRED) is
put into the scope as `extensions["unix_peer"]["uid"]`, for the application to judge. It knows no application.

Failures: ConfigError for an address that cannot be had, or that plain HTTP must not be heard on.
"""

import contextlib
import ipaddress
import json
import os
import socket
import struct
from asyncio import BaseTransport, TimerHandle
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import ConfigError

HEAD_SECONDS = 20.0  # from connect, or from the first byte of a further request, to the end of the head
HEAD_BYTES = 64 * 1024
CONNECTIONS = 500
BACKLOG = 200
_PEERCRED = struct.Struct("3i")  # pid, uid, gid


class HttpServer:
    """One application on bound sockets. After `stop`, answers that began have `grace_seconds` to end."""

    def __init__(self, app: Any, sockets: Sequence[socket.socket], grace_seconds: int = 3) -> None:
        self._sockets = list(sockets)
        for listener in self._sockets:
            listener.listen(BACKLOG)  # from here on a connection waits for `serve` instead of being refused
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=grace_seconds,
        )
        self._server = _Server(config)

    async def serve(self) -> None:
        """Answer until `stop`; the sockets are closed when it returns, however it ends."""
        try:
            await self._server.serve(sockets=self._sockets)
        finally:
            for listener in self._sockets:
                listener.close()

    def stop(self) -> None:
        """Take no new connection and let `serve` return."""
        self._server.should_exit = True


def bind_loopback(listen: str, where: str = "[http.listen]") -> socket.socket:
    """A socket bound to `host:port` (port 0: any). ConfigError unless the host is loopback: HTTP here has no TLS."""
    family, address = resolve(listen, where)
    if not ipaddress.ip_address(address[0]).is_loopback:
        raise ConfigError(f"{where} {listen}: plain HTTP is served on loopback only", where=where)
    return bind(family, address, where)


def bind(family: int, address: tuple[Any, ...], where: str) -> socket.socket:
    """A bound TCP socket; ConfigError when the address is in use or not this machine's."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{where} {address[0]}:{address[1]}: {error.strerror}", where=where) from None
    return listener


def resolve(listen: str, where: str) -> tuple[int, tuple[Any, ...]]:
    """Family and address of `host:port` or `[v6]:port`; ConfigError when it is neither."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{where} {listen!r} is not host:port, the port from 0 to 65535", where=where)
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"{where} {listen}: {error.strerror or error}", where=where) from None
    return family, address


def bind_unix(path: Path) -> socket.socket:
    """The Unix socket, 0600. One left behind is replaced: only who holds the state directory's lock may call this."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(path) as name:
            listener.bind(name)
            os.chmod(path, 0o600)  # before listen(): until then nobody gets in
    except OSError as error:
        listener.close()
        raise ConfigError(f"{path}: {error.strerror or error}", where="[store.directory]") from None
    return listener


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name of the socket that fits into an address (108 bytes, unix(7)), good inside the block."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the daemon."""
        yield


class _Protocol(HttpToolsProtocol):
    """One connection, with the limits on a request's head and the peer's uid."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._peer: dict[str, int] | None = None
        self._in_head = True
        self._head_bytes = 0
        self._deadline: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._peer = _unix_peer(transport.get_extra_info("socket"))
        self._expect_head()
        if self._peer is None and len(self.connections) > CONNECTIONS:
            self._refuse(503, "connections", "too many connections; try again")

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, "head_too_large", f"a request's head may have {HEAD_BYTES} bytes at most")

    def send_400_response(self, msg: str) -> None:
        """The library's answer to what the application is never told of."""
        self._refuse(400, "malformed", "this is no HTTP request")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """A problem (RFC 9457), as all errors here are."""
        title = HTTPStatus(status).phrase
        problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
        body = json.dumps(problem)
        head = f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}"
        self.transport.write(f"{head}\r\nconnection: close\r\n\r\n{body}".encode("ascii"))
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._peer is not None:
            self.scope["extensions"] = {"unix_peer": self._peer}  # type: ignore[dict-item]
        if not self._in_head:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_is_here()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_is_here(self) -> None:
        self._in_head = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _unix_peer(connection: Any) -> dict[str, int] | None:
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    return {"uid": _PEERCRED.unpack(credentials)[1]}
