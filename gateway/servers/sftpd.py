"""The SFTP listener: drop folders for ERPs, by SSH public key, and by password where the settings allow it.

SSH (RFC 4251 to 4254) is asyncssh's; what is offered and what is refused is decided here and in ssh_keys.py. No shell,
no commands, no terminal, no forwarding of anything. Every limit is a setting ([sftp]). A sweep closes sessions that
are idle, and those whose key, folder or client was taken away, within a few seconds.
"""

import asyncio
import resource
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import asyncssh
import structlog

from .. import clock
from ..config import SftpSettings
from ..dropfolder.folders import DropFolders
from ..errors import ConfigError, GatewayError
from ..pools import ThreadPool
from . import ssh_keys
from .limits import ConnectionLimits, Handles
from .penalties import Penalties
from .sftp_connection import SftpConnection

log = structlog.get_logger(__name__)

KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 60, 3  # a half-open connection behind a NAT ends after three minutes
SWEEP_SECONDS = 5.0
WINDOW = 256 * 1024  # bytes that a client may send ahead; requests are small
BACKLOG = 1024
PASSWORDS_AT_ONCE = 2  # each takes a core for a while: other calls of the folder must not wait for them


class SftpServer:
    """One listener. `start` it, `drain` and `close` it."""

    def __init__(self, settings: SftpSettings, folders: DropFolders, pool: ThreadPool, directory: Path) -> None:
        """`directory` holds the host keys when the settings name none."""
        self.settings = settings
        self.folders = folders
        self.pool = pool
        # What clients hold open must leave descriptors to the database, the blobs and the other listeners.
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.handles = Handles(descriptors // 2)
        self.limits = ConnectionLimits(
            before_login=settings.connections_before_login,
            before_login_per_source=settings.connections_before_login_per_source,
            total=min(settings.connections, descriptors // 4),
            per_client=settings.connections_per_client,
        )
        self.penalties = Penalties(
            per_minute=settings.failures_per_minute,
            ban_after=settings.ban_after,
            ban_minutes=settings.ban_minutes,
            safe=settings.safe_sources,
        )
        self.passwords = ThreadPool("passwords", PASSWORDS_AT_ONCE, 100)
        self.is_draining = False
        self.connections: set[SftpConnection] = set()
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()
        self._acceptor: asyncssh.SSHAcceptor
        self._sweeper: asyncio.Task[None]
        self._host_keys: list[asyncssh.SSHKeyPair] = []

    @property
    def host_key(self) -> str:
        """The first host key, as a line of known_hosts without the host."""
        return ssh_keys.public_line(self._host_keys[0])

    async def start(self) -> tuple[str, int]:
        """Listen; the address. ConfigError when a host key or the address cannot be used."""
        self._host_keys = await self.pool.run(ssh_keys.host_keys, self.settings.host_keys, self._directory)
        host, _, port = self.settings.listen.rpartition(":")
        try:
            self._acceptor = await asyncssh.listen(host.strip("[]"), int(port), **self._options())
        except (OSError, ValueError) as error:
            raise ConfigError(f"[sftp.listen] {self.settings.listen}: {error}", where="[sftp.listen]") from None
        self._sweeper = asyncio.create_task(self._sweep_for_ever(), name="sftp-sweep")
        address = self._acceptor.get_addresses()[0]
        log.info("sftp.listening", host=address[0], port=address[1])
        return str(address[0]), int(address[1])

    def _options(self) -> dict[str, Any]:
        return {
            "server_factory": lambda: SftpConnection(self),
            "server_host_keys": self._host_keys,
            "kex_algs": ssh_keys.KEY_EXCHANGE,
            "encryption_algs": ssh_keys.CIPHERS,
            "mac_algs": ssh_keys.MACS,
            "signature_algs": ssh_keys.SIGNATURES,
            "compression_algs": None,
            "server_version": "gateway",
            "public_key_auth": True,
            "password_auth": self.settings.passwords,
            "kbdint_auth": self.settings.passwords,
            "host_based_auth": False,
            "gss_host": None,
            "allow_pty": False,
            "line_editor": False,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "allow_scp": False,
            "encoding": None,
            "window": WINDOW,
            "login_timeout": self.settings.login_seconds,
            "keepalive_interval": KEEPALIVE_SECONDS,
            "keepalive_count_max": KEEPALIVE_COUNT,
            "backlog": BACKLOG,
            "config": None,
        }

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that outlives its connection; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except GatewayError as error:
                log.warning("sftp.sweep_failed", cause=error.message)

    async def sweep(self) -> None:
        """End the sessions that are idle or no longer allowed."""
        oldest = clock.monotonic() - self.settings.idle_minutes * 60
        logged_in = [c for c in self.connections if c.login is not None]
        for connection in logged_in:
            if connection.last_request < oldest:
                log.info("session.idle", user=connection.login.user_name if connection.login else "")
                connection.disconnect("idle for too long")
        credentials = {c.login.credential_id for c in logged_in if c.login is not None}
        refused = await self.pool.run(self.folders.no_longer_allowed, credentials)
        for connection in list(self.connections):
            if connection.login is not None and (reason := refused.get(connection.login.credential_id)):
                log.warning("session.revoked", user=connection.login.user_name, reason=reason)
                connection.disconnect("this access has ended")

    async def drain(self, grace_seconds: float) -> None:
        """Take no new connections or sessions; end those that transfer nothing, the others when they have finished."""
        self.is_draining = True
        self._acceptor.close()
        deadline = clock.monotonic() + grace_seconds
        while self.connections and clock.monotonic() < deadline:
            for connection in [c for c in self.connections if not c.is_transferring]:
                connection.disconnect("the gateway is stopping; try again in a moment")
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Stop at once; what clients did is recorded when it returns."""
        self.is_draining = True
        self._sweeper.cancel()
        self._acceptor.close()
        for connection in list(self.connections):
            connection.disconnect("the gateway is stopping; try again in a moment")
        while self.connections or self._tasks:
            await asyncio.sleep(0.01)
        await self._acceptor.wait_closed()
        self.passwords.close()
