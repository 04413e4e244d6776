"""Running FTPS listeners with one client's folder behind them, and clients of them."""

import asyncio
import contextlib
import ftplib
import ssl
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from gateway import clock
from gateway.config import FtpsSettings, SftpSettings
from gateway.demo.authority import Authority
from gateway.domain.folders import FolderPassword
from gateway.keys import passwords
from gateway.pools import ThreadPool
from gateway.servers.failures import Failures
from gateway.servers.ftpsd import FtpsServer
from gateway.servers.limits import ConnectionLimits
from gateway.servers.penalties import Penalties
from tests.dropfolder.world import World

T = TypeVar("T")
PASSWORD = "correct-horse-battery"


class Listener:
    """The server, its ports, the password of the client `acme`."""

    def __init__(
        self, server: FtpsServer, world: World, ports: list[int], certificate: Path, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.server = server
        self.world = world
        self.port = ports[0]
        self.implicit_port = ports[1]
        self.certificate = certificate
        self.loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """On the server's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    @contextlib.contextmanager
    def session(
        self, *, private: bool = True, user: str = "acme", password: str = PASSWORD
    ) -> Iterator[ftplib.FTP_TLS]:
        """Logged in, by Python's own client."""
        with ftplib.FTP_TLS(context=self.context(), timeout=20) as client:
            client.connect("localhost", self.port)
            client.login(user, password)
            if private:
                client.prot_p()
            yield client
            with contextlib.suppress(ftplib.Error, EOFError, OSError):
                client.quit()

    def publish(self, *contents: bytes) -> list[str]:
        """Publish, and wait until the names are listed; all names there are."""
        self.world.publish(*contents)
        newest = max(entry.mtime for entry in self.world.entries())
        time.sleep(max(0.0, newest + 1.05 - time.time()))
        return [entry.name for entry in self.world.entries()]


def get(client: ftplib.FTP, path: str, rest: int | None = None) -> bytes:
    """A file's bytes."""
    parts: list[bytes] = []
    client.retrbinary(f"RETR {path}", parts.append, rest=rest)
    return b"".join(parts)


def with_password(world: World, password: str = PASSWORD, **values: Any) -> FolderPassword:
    """Let a password open the folder."""
    row = FolderPassword(
        folder_id=world.folder.id,
        label="erp",
        hash=passwords.hashed(password),
        created_by="test",
        created_at=clock.now(),
        **values,
    )
    world.add(row)
    return row


@contextlib.contextmanager
def listening(
    world: World, directory: Path, of_sessions: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Listener]:
    """Listeners on free ports, their asyncio side on a loop of its own."""
    with_password(world)
    authority = Authority.create(directory / "authority")
    certificate, key = authority.tls_certificate, authority.tls_key
    times = SftpSettings(**(of_sessions or {}))
    limits = ConnectionLimits(
        before_login=times.connections_before_login,
        before_login_per_source=times.connections_before_login_per_source,
        total=times.connections,
        per_client=times.connections_per_client,
    )
    penalties = Penalties(
        per_minute=times.failures_per_minute,
        ban_after=times.ban_after,
        ban_minutes=times.ban_minutes,
        longest_delay=times.longest_delay_seconds,
        safe=times.safe_sources,
    )
    failures = Failures(world.folders.keep_failures, times.failures_kept_per_source)
    chosen: dict[str, Any] = {"listen": "127.0.0.1:0", "listen_implicit": "127.0.0.1:0", "confirm_seconds": 2}
    ftps = FtpsSettings(enabled=True, certificate=certificate, key=key, **chosen | settings)
    pool = ThreadPool("folder", 4)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    server = FtpsServer(ftps, times, world.folders, pool, limits, penalties, failures)
    try:
        started = asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        listener = Listener(server, world, [port for _, port in started], authority.root, loop)
        try:
            yield listener
        finally:
            listener.run(server.close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        pool.close()
