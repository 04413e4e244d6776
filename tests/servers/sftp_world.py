"""A running SFTP listener with one client's folder behind it, and clients of it."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncssh

from gateway.config import SftpLegacySettings, SftpSettings
from gateway.domain.folders import SshKey
from gateway.pools import ThreadPool
from gateway.servers import sftp_packets as wire
from gateway.servers.sftpd import SftpServer
from tests.dropfolder.world import World


class Listener:
    """The server, where it listens, and the key of the client `acme`."""

    def __init__(self, server: SftpServer, world: World, ports: list[int], key: asyncssh.SSHKey) -> None:
        self.server = server
        self.world = world
        self.port, self.legacy_port = ports
        self.key = key

    def connect(self, port: int = 0, **options: Any) -> Any:
        """An SSH connection to the main listener, as acme, unless the options say otherwise."""
        defaults: dict[str, Any] = {
            "username": "acme",
            "client_keys": [self.key],
            "known_hosts": None,
            "agent_path": None,
            "config": None,
        }
        return asyncssh.connect("127.0.0.1", port or self.port, **{**defaults, **options})

    @contextlib.asynccontextmanager
    async def sftp(self, **options: Any) -> AsyncIterator[asyncssh.SFTPClient]:
        """asyncssh's SFTP client."""
        async with self.connect(**options) as connection, connection.start_sftp_client() as client:
            yield client

    def publish(self, *contents: bytes) -> list[str]:
        """Publish, and wait until the names are listed; all names there are."""
        self.world.publish(*contents)
        newest = max(entry.mtime for entry in self.world.entries())
        time.sleep(max(0.0, newest + 1.05 - time.time()))
        return [entry.name for entry in self.world.entries()]


@functools.cache
def _host_keys() -> dict[str, bytes]:
    """Made once for all listeners of this process: an RSA key takes seconds."""
    made = {"ssh_ed25519": asyncssh.generate_private_key("ssh-ed25519")}
    made["ssh_rsa"] = asyncssh.generate_private_key("ssh-rsa", key_size=3072)
    return {f"{name}_host_key": key.export_private_key() for name, key in made.items()}


@contextlib.asynccontextmanager
async def listening(world: World, directory: Path, **settings: Any) -> AsyncIterator[Listener]:
    """The listeners on free ports, the legacy one too."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    world.set(SshKey, world.key.id, fingerprint=key.get_fingerprint())
    pool = ThreadPool("folder", 4)
    for name, content in _host_keys().items():
        if not (directory / name).exists():
            (directory / name).write_bytes(content)
            (directory / name).chmod(0o600)
    legacy = SftpLegacySettings(enabled=True, listen="127.0.0.1:0")
    server = SftpServer(SftpSettings(listen="127.0.0.1:0", **settings), world.folders, pool, directory, legacy)
    ports = [port for _, port in await server.start()]
    try:
        yield Listener(server, world, ports, key)
    finally:
        await server.close()
        pool.close()


class Raw:
    """An SFTP channel without a client library: packets as bytes."""

    def __init__(self, writer: asyncssh.SSHWriter[bytes], reader: asyncssh.SSHReader[bytes]) -> None:
        self._writer = writer
        self._reader = reader

    @classmethod
    async def open(cls, connection: asyncssh.SSHClientConnection, *, init: bool = True, **options: Any) -> "Raw":
        writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None, **options)
        raw = cls(writer, reader)
        if init:
            raw.send(wire.packet(wire.Type.INIT, (3).to_bytes(4, "big")))
            assert (await raw.receive())[0] == wire.Type.VERSION
        return raw

    def send(self, *packets: bytes) -> None:
        self._writer.write(b"".join(packets))

    def pause(self) -> None:
        """Take nothing any more: the window stays as it is."""
        self._writer.channel.pause_reading()

    async def receive(self) -> bytes:
        """The next packet, from its type on."""
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        return await self._reader.readexactly(length)

    async def ask(self, kind: int, *parts: bytes, request_id: int = 7) -> bytes:
        """One request, its answer."""
        self.send(request(kind, *parts, request_id=request_id))
        return await self.receive()


def request(kind: int, *parts: bytes, request_id: int = 7) -> bytes:
    """A request's packet."""
    return wire.packet(wire.Type(kind) if kind in list(wire.Type) else kind, request_id.to_bytes(4, "big"), *parts)  # type: ignore[arg-type]


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def status(answer: bytes) -> int:
    """The code of a STATUS."""
    assert answer[0] == wire.Type.STATUS, answer
    return int.from_bytes(answer[5:9], "big")


def handle(answer: bytes) -> bytes:
    """The handle of a HANDLE, as a string field."""
    assert answer[0] == wire.Type.HANDLE, answer
    return answer[5:]


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.02)
