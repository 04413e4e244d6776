"""The SFTP listeners: drop folders for ERPs, by SSH public key, and by password where the settings allow it.

SSH (RFC 4251 to 4254) is asyncssh's; what is offered and what is refused is decided here and in ssh_algorithms.py. No
shell, no commands, no terminal, no forwarding of anything. Every limit is a setting ([sftp]). A sweep closes sessions
that are idle, and those whose key, permit, folder or client was taken away, within a few seconds. SSH fixes its
algorithms before it knows a name: so old ones have a listener of their own ([sftp_legacy]), off by default, which lets
in who has a permit; it shares the limits, penalties and pools of the main one.
"""

import asyncio
import resource
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import asyncssh
import structlog

from .. import clock
from ..config import SftpLegacySettings, SftpSettings
from ..dropfolder.folders import DropFolders
from ..errors import ConfigError, GatewayError
from ..pools import ThreadPool
from . import ssh_keys, ssh_transport
from .failures import Failures
from .limits import ConnectionLimits, Handles
from .penalties import Penalties
from .sftp_channel import MOST_BYTES
from .sftp_connection import CHANNELS, SftpConnection
from .ssh_algorithms import LEGACY, MODERN, Offer

log = structlog.get_logger(__name__)

KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 60, 3  # a half-open connection behind a NAT ends after three minutes
SWEEP_SECONDS = 5.0
BACKLOG = 1024
PASSWORDS_AT_ONCE = 2  # each takes a core for a while: other calls of the folder must not wait for them


class SftpServer:
    """The listeners. `start` them, `drain` and `close` them."""

    def __init__(
        self,
        settings: SftpSettings,
        folders: DropFolders,
        pool: ThreadPool,
        directory: Path,
        legacy: SftpLegacySettings | None = None,
    ) -> None:
        """`directory` holds the host keys when the settings name none."""
        self.settings = settings
        self.legacy = legacy or SftpLegacySettings()
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
            longest_delay=settings.longest_delay_seconds,
            safe=settings.safe_sources,
        )
        self.failures = Failures(folders.keep_failures, settings.failures_kept_per_source)
        self.passwords = ThreadPool("passwords", PASSWORDS_AT_ONCE, 100)
        self.is_draining = False
        self.connections: set[SftpConnection] = set()
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()
        self._acceptors: list[asyncssh.SSHAcceptor] = []
        self._sweeper: asyncio.Task[None]
        self.host_keys = ssh_keys.HostKeys([], [])

    @property
    def host_key(self) -> str:
        """The first host key, as a line of known_hosts without the host."""
        return ssh_keys.public_line(self.host_keys.serving[0])

    async def start(self) -> list[tuple[str, int]]:
        """Listen; the addresses, the main one first. ConfigError when a host key or an address cannot be used."""
        self.host_keys = await self.pool.run(ssh_keys.load, self.settings.host_keys, self._directory)
        addresses = [await self._listen("[sftp.listen]", self.settings.listen, MODERN)]
        if self.legacy.enabled:
            addresses.append(await self._listen("[sftp_legacy.listen]", self.legacy.listen, LEGACY))
        self._sweeper = asyncio.create_task(self._sweep_for_ever(), name="sftp-sweep")
        return addresses

    async def _listen(self, where: str, listen: str, offer: Offer) -> tuple[str, int]:
        host, _, port = listen.rpartition(":")
        try:
            acceptor = await ssh_transport.listen(host.strip("[]"), int(port), **self._options(offer))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{where} {listen}: {error}", where=where) from None
        self._acceptors.append(acceptor)
        address = acceptor.get_addresses()[0]
        log.info("sftp.listening", host=address[0], port=address[1], legacy=offer.is_legacy)
        return str(address[0]), int(address[1])

    def _options(self, offer: Offer) -> dict[str, Any]:
        return {
            "server_factory": lambda: SftpConnection(self, offer),
            "server_host_keys": self.host_keys.pairs(offer.rsa),
            "send_server_host_keys": True,
            "kex_algs": offer.key_exchange,
            "encryption_algs": offer.ciphers,
            "mac_algs": offer.macs,
            "signature_algs": offer.signatures,
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
            # With what a channel holds of it, no more than the session's share is in memory unwritten.
            "window": int(self.settings.write_buffer_megabytes * 1_000_000) // CHANNELS - MOST_BYTES,
            "login_timeout": self.settings.login_seconds,
            "keepalive_interval": KEEPALIVE_SECONDS,
            "keepalive_count_max": KEEPALIVE_COUNT,
            "backlog": BACKLOG,
            "config": None,
        }

    def channels_of(self, client_id: str) -> int:
        """The SFTP channels that a client has open, over all of its connections."""
        return sum(c.channel_count for c in self.connections if c.login is not None and c.login.client_id == client_id)

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
            except Exception:  # without it no idle session ends, and no revoked one
                log.exception("sftp.sweep_failed")

    async def sweep(self) -> None:
        """End the sessions that are idle or no longer allowed; write down who could not log in."""
        await self.failures.flush(self.pool)
        oldest = clock.monotonic() - self.settings.idle_minutes * 60
        logged_in = [c for c in self.connections if c.login is not None]
        for connection in logged_in:
            if connection.last_request < oldest:
                log.info("session.idle", user=connection.user_name)
                connection.disconnect("idle for too long")
        refused = await self.pool.run(self.folders.no_longer_allowed, {one for c in logged_in for one in c.stands_on})
        for connection in list(self.connections):
            if reason := next((refused[one] for one in connection.stands_on if one in refused), ""):
                log.warning(
                    "session.revoked", user=connection.login.user_name if connection.login else "", reason=reason
                )
                connection.disconnect("this access has ended")

    async def drain(self, grace_seconds: float) -> None:
        """Take no new connections or sessions; end those that transfer nothing, the others when they have finished."""
        self._stop_listening()
        deadline = clock.monotonic() + grace_seconds
        while self.connections and clock.monotonic() < deadline:
            for connection in [c for c in self.connections if not c.is_transferring]:
                connection.disconnect("the gateway is stopping; try again in a moment")
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Stop at once; what clients did is recorded when it returns."""
        self._stop_listening()
        self._sweeper.cancel()
        for connection in list(self.connections):
            connection.disconnect("the gateway is stopping; try again in a moment")
        while self.connections or self._tasks:
            await asyncio.sleep(0.01)
        for acceptor in self._acceptors:
            await acceptor.wait_closed()
        await self.failures.flush(self.pool)
        self.passwords.close()

    def _stop_listening(self) -> None:
        self.is_draining = True
        for acceptor in self._acceptors:
            acceptor.close()
