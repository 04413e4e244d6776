"""A relay that plays a script over a real socket: it behaves up to a point, and then does what it was told."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.mail.reply import Phase

STEPS = (Phase.BANNER, Phase.EHLO, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT)
ANSWERS = {
    Phase.BANNER: "220 relay.example ESMTP",
    Phase.MAIL: "250 2.1.0 ok",
    Phase.RCPT: "250 2.1.5 ok",
    Phase.DATA: "354 go on",
    Phase.DOT: "250 2.0.0 Ok: queued as 4XyZ12abc",
}
PIPELINING = ("PIPELINING", "SIZE 50000000", "8BITMIME")


class Peer:
    """One connection of the relay. `heard`: the commands; `content`: what came as the last message, dots removed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard: list[str] = []
        self.in_clear: list[str] = []
        self.content = b""
        self.messages: list[bytes] = []
        self.extensions: tuple[str, ...] = PIPELINING

    async def play(self, until: Phase | None = None) -> None:
        """Behave, up to and without the reply of `until`; None: to the end of one message."""
        for phase in STEPS:
            if phase is not Phase.BANNER:
                await self.hear(phase)
            if phase is until:
                return
            await self.say(ANSWERS.get(phase) or self.hello())

    def hello(self) -> str:
        lines = ["relay.example", *self.extensions]
        return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])

    async def hear(self, phase: Phase | None = None) -> str:
        """The next command, or the message up to its final dot. EOFError when the client has gone."""
        if phase is Phase.DOT:
            self.content = (await self._message()).replace(b"\r\n..", b"\r\n.")
            self.messages.append(self.content)
            return "."
        line = (await self.reader.readuntil(b"\r\n")).decode("ascii").rstrip("\r\n")
        self.heard.append(line)
        if self.writer.get_extra_info("sslcontext") is None:
            self.in_clear.append(line)
        return line

    async def _message(self) -> bytes:
        content = b"\r\n"
        while not content.endswith(b"\r\n.\r\n"):
            content += await self.reader.readexactly(1) if len(content) < 5 else await self.reader.read(65_536)
            if self.reader.at_eof() and not content.endswith(b"\r\n.\r\n"):
                self.content = content
                raise EOFError
        return content[2:-3]

    async def say(self, line: str) -> None:
        await self.send(line.encode("latin-1") + b"\r\n")

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def reset(self) -> None:
        """Close with RST, once the client has had time to read what was said before: RST drops what waits."""
        await asyncio.sleep(0.05)
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def cut(self) -> None:
        """Close with FIN."""
        self.writer.close()

    async def hang(self) -> None:
        """Say nothing more until the client has gone."""
        while await self.reader.read(65_536):
            pass

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context)


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script, receive_buffer: int = 0) -> AsyncIterator[tuple[int, list[Peer]]]:
    """Listen on loopback and play `script` to whoever connects: the port, and the connections so far."""
    peers: list[Peer] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer = Peer(reader, writer)
        peers.append(peer)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError, asyncio.IncompleteReadError):
                await script(peer)
        finally:
            writer.close()

    listening = socket.create_server(("127.0.0.1", 0))
    if receive_buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    server = await asyncio.start_server(serve, sock=listening)
    try:
        yield listening.getsockname()[1], peers
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn of the loop
