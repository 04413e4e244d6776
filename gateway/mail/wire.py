"""The bytes to and from a relay: one TCP connection, later with TLS over it.

`send` returns when the kernel has taken every byte, so that the caller knows what may have left and what has
not; asyncio's streams only promise to try. OSError (ssl.SSLError among them) when the connection fails.
"""

import asyncio
import ipaddress
import socket
import ssl
from contextlib import suppress
from typing import Any, Self

from ..pools import ThreadPool

_RECEIVE = 65_536
_names = ThreadPool("relay-names", threads=2, queue=100)  # getaddrinfo blocks and takes no deadline


class Wire:
    """A connected socket; `tls` is protocol and cipher, empty in clear."""

    def __init__(self, connected: socket.socket) -> None:
        self.tls = ""
        self._loop = asyncio.get_running_loop()
        self._socket = connected
        self._session: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        """The first address of `host` that answers; OSError of the last one when none does."""
        failure = OSError("no address")
        for family, address in await _addresses(host, port):
            connecting = socket.socket(family, socket.SOCK_STREAM)
            try:
                connecting.setblocking(False)
                connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.get_running_loop().sock_connect(connecting, address)
            except OSError as error:
                connecting.close()
                failure = error
            except BaseException:
                connecting.close()
                raise
            else:
                return cls(connecting)
        raise failure

    async def send(self, data: bytes) -> None:
        """Every byte of `data`, given to the kernel."""
        if self._session is not None:
            data = self._encrypted(self._session, data)
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        """Whatever has arrived; empty at the end of the connection, announced (close_notify) or not."""
        if self._session is None:
            return await self._loop.sock_recv(self._socket, _RECEIVE)
        while True:
            try:
                return self._session.read(_RECEIVE)
            except ssl.SSLWantReadError:
                arrived = await self._loop.sock_recv(self._socket, _RECEIVE)
            except ssl.SSLZeroReturnError:
                return b""
            if not arrived:
                return b""
            self._incoming.write(arrived)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """The handshake, as client, with `context`'s checks of the certificate for `host`."""
        session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        while True:
            try:
                session.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                arrived = await self._loop.sock_recv(self._socket, _RECEIVE)
                if not arrived:
                    raise ConnectionResetError("closed during the handshake") from None
                self._incoming.write(arrived)
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()  # the alert, so that the relay's log says why too
                raise
            else:
                break
        await self._flush()
        cipher = session.cipher()
        self._session, self.tls = session, f"{session.version()} {cipher[0] if cipher else ''}"

    def close(self, last_words: bytes = b"") -> None:
        """Close at once; `last_words` go out if the kernel takes them without waiting."""
        with suppress(OSError):
            if last_words:
                self._socket.send(last_words if self._session is None else self._encrypted(self._session, last_words))
        self._socket.close()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._loop.sock_sendall(self._socket, data)

    def _encrypted(self, session: ssl.SSLObject, data: bytes) -> bytes:
        rest = memoryview(data)
        while rest:
            rest = rest[session.write(rest) :]  # a record at a time
        return self._outgoing.read()


async def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        try:
            found = await _names.run(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
        except UnicodeError:  # a label over 63 characters, or empty
            raise OSError("not a host name") from None
        return [(family, address) for family, _, _, _, address in found]
    return [(socket.AF_INET if literal.version == 4 else socket.AF_INET6, (host, port))]
