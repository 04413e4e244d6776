"""The FTPS listeners: the drop folders over FTP with TLS, explicit and implicit, by password.

FTP is pyftpdlib's, on one loop in a thread of its own (ftps_loop.py). The asyncio side starts and stops it, and closes
what is idle, not logged in in time, or no longer allowed.
"""

import asyncio
import logging
import socket
import sys
from typing import Any

import structlog
from pyftpdlib.servers import FTPServer

from .. import clock
from ..config import FtpsSettings, SftpSettings
from ..dropfolder.folders import DropFolders
from ..errors import GatewayError, Unavailable
from ..pools import ThreadPool
from . import httpd
from .causes import CAUSES
from .failures import Failures
from .ftps_control import FtpsSession, ImplicitFtpsSession
from .ftps_loop import Loop
from .ftps_tls import Identity
from .limits import ConnectionLimits, Ticket
from .penalties import Penalties

log = structlog.get_logger(__name__)
SWEEP_SECONDS = 5.0
BACKLOG = 1024
_BREATH_SECONDS = 0.5  # without accepting, after it failed
_pyftpdlib = logging.getLogger("pyftpdlib")
_pyftpdlib.addHandler(logging.NullHandler())  # else it configures logging for itself
_pyftpdlib.setLevel(logging.ERROR)


class Listener:
    """What its sessions are given."""

    def __init__(
        self,
        settings: FtpsSettings,
        folders: DropFolders,
        limits: ConnectionLimits,
        penalties: Penalties,
        failures: Failures,
        identity: Identity,
    ) -> None:
        self.settings = settings
        self.folders = folders
        self.limits = limits
        self.penalties = penalties
        self.failures = failures
        self.identity = identity
        self.needs_session_reuse = settings.session_reuse == "required"
        first, _, last = settings.passive_ports.partition("-")
        self.passive_ports = range(int(first), int(last) + 1) if settings.passive_ports else None
        self.sessions: set[FtpsSession] = set()  # changed on the loop, each call of it atomic

    def left(self, session: FtpsSession) -> None:
        """A session is closed and recorded."""
        self.sessions.discard(session)
        self.limits.leave(session.ticket)


class Acceptor(FTPServer):  # type: ignore[misc]
    """Accepts connections, as far as there are places for them."""

    max_cons = max_cons_per_ip = 0  # the limits are ours

    def __init__(self, sock: socket.socket, kind: type[FtpsSession], listener: Listener, loop: Loop) -> None:
        self.listener = listener
        self.ticket: Ticket  # of the connection that is being accepted
        self.is_draining = False
        super().__init__(sock, kind, ioloop=loop, backlog=BACKLOG)

    def handle_accepted(self, sock: socket.socket, addr: Any) -> None:
        """One that cannot be served costs itself only."""
        try:
            if self.is_draining:
                raise Unavailable("the gateway is stopping", code="stopping")
            self.listener.penalties.check(addr[0])
            self.ticket = self.listener.limits.enter(addr[0])
        except Unavailable as error:
            log.warning("connection.refused", address=addr[0], limit=error.code, protocol="ftps")
            if error.code in CAUSES:
                self.listener.failures.note("ftps", addr[0], "", error.code, CAUSES[error.code])
            sock.close()
            return
        try:
            session = self.handler(sock, self, ioloop=self.ioloop)
            if session.connected:
                session.handle()
        except Exception:
            log.exception("ftps.not_accepted", address=addr[0])
            self._give_back(sock)

    def _give_back(self, sock: socket.socket) -> None:
        """The place, which a session has only if it got far enough to be closed."""
        begun = [one for one in self.listener.sessions if one.ticket is self.ticket]
        for session in begun:
            session.close()
        if not begun:
            self.listener.limits.leave(self.ticket)
        sock.close()

    def handle_error(self) -> None:
        """Out of descriptors, most likely; pyftpdlib's own would stop listening for good."""
        log.error("ftps.accept_failed", exc_info=sys.exc_info()[1])
        self.del_channel()
        self.ioloop.call_later(_BREATH_SECONDS, self._listen_again)

    def _listen_again(self) -> None:
        if not self._closed:
            self.add_channel()


class FtpsServer:
    """The listeners. `start` them, `drain` and `close` them."""

    def __init__(
        self,
        settings: FtpsSettings,
        of_sessions: SftpSettings,
        folders: DropFolders,
        pool: ThreadPool,
        limits: ConnectionLimits,
        penalties: Penalties,
        failures: Failures,
    ) -> None:
        """`of_sessions` gives their times; `limits`, `penalties` and `failures` are shared with the SFTP listeners."""
        self.settings = settings
        self._times = of_sessions
        self._folders = folders
        self._pool = pool
        self._limits = limits
        self._penalties = penalties
        self._failures = failures
        self._listener: Listener
        self._loop: Loop
        self._acceptors: list[Acceptor] = []
        self._sweeper: asyncio.Task[None]

    async def start(self) -> list[tuple[str, int]]:
        """Listen; the addresses, explicit TLS first. ConfigError when certificate or address cannot be used."""
        identity = await self._pool.run(Identity.load, self.settings.certificate, self.settings.key)
        shared = self._limits, self._penalties, self._failures
        self._listener = Listener(self.settings, self._folders, *shared, identity)
        wanted = (
            ("[ftps.listen]", self.settings.listen, FtpsSession),
            ("[ftps.listen_implicit]", self.settings.listen_implicit, ImplicitFtpsSession),
        )
        self._loop = Loop()
        sockets = [
            (httpd.bind(*httpd.resolve(address, where), where), kind) for where, address, kind in wanted if address
        ]
        self._acceptors = [Acceptor(sock, kind, self._listener, self._loop) for sock, kind in sockets]
        self._loop.start()
        self._sweeper = asyncio.create_task(self._sweep_for_ever(), name="ftps-sweep")
        addresses = [(str(sock.getsockname()[0]), int(sock.getsockname()[1])) for sock, _ in sockets]
        log.info("ftps.listening", addresses=addresses)
        return addresses

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except GatewayError as error:
                log.warning("ftps.sweep_failed", cause=error.message)
            except Exception:  # without it no idle session ends, and no revoked one
                log.exception("ftps.sweep_failed")

    async def sweep(self) -> None:
        """End the sessions that are idle, took too long to log in, or are no longer allowed; note who could not."""
        await self._failures.flush(self._pool)
        now = clock.monotonic()
        for session in list(self._listener.sessions):
            if session.login is None and now - session.began > self._times.login_seconds:
                session.end()
            elif now - session.last_request > self._times.idle_minutes * 60 and not session.is_transferring:
                log.info("session.idle", user=session.login.user_name if session.login else "")
                session.end()
        await self._end_those_not_allowed()

    async def _end_those_not_allowed(self) -> None:
        logged_in = [(one, one.login) for one in list(self._listener.sessions) if one.login is not None]
        refused = await self._pool.run(self._folders.no_longer_allowed, {login.credential_id for _, login in logged_in})
        for session, login in logged_in:
            if reason := refused.get(login.credential_id):
                log.warning("session.revoked", user=login.user_name, reason=reason)
                session.end()

    async def drain(self, grace_seconds: float) -> None:
        """Take no new connections; end those that transfer nothing, the others when they have finished."""
        for acceptor in self._acceptors:
            acceptor.is_draining = True
        deadline = clock.monotonic() + grace_seconds
        while self._listener.sessions and clock.monotonic() < deadline:
            for session in list(self._listener.sessions):
                session.end(only_if_idle=True)
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Stop at once; what clients did is recorded when it returns."""
        self._sweeper.cancel()
        self._loop.call_soon(self._close_all)
        await asyncio.to_thread(self._loop.stop)
        await self._failures.flush(self._pool)

    def _close_all(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        for session in list(self._listener.sessions):
            session.close()
