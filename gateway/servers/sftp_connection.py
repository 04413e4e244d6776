"""One SSH connection to the drop folders: log-in by public key or password, then nothing but the sftp subsystem.

The user name and the key's fingerprint are looked up through the folder pool; the answer is kept for the
connection, since a client asks about a key before it signs with it. Why a log-in was refused is in the log, one line a
connection; the client is told nothing that it does not know.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import asyncssh
import structlog

from .. import clock
from ..dropfolder.nodes import File
from ..dropfolder.sessions import Login, Session
from ..dropfolder.visit import Visit
from ..errors import Denied, GatewayError, Unavailable
from . import causes
from .failures import printable
from .host_key_proofs import Proofs
from .limits import Handles, Ticket
from .sftp_channel import SftpChannel
from .sftp_engine import Engine
from .ssh_algorithms import Offer, allow_only, offered

if TYPE_CHECKING:
    from .sftpd import SftpServer

log = structlog.get_logger(__name__)

CHANNELS = 10  # SFTP channels of one connection, as OpenSSH's MaxSessions
PASSWORDS_TRIED = 5
NO_PERMIT = "this port is for old programs with a permit, from the addresses agreed: use the other port, or ask for one"
LEAST_DELAY = 1.0  # seconds until a wrong password is answered
KEYS_TRIED = 20  # agents offer what they hold; sshd's six burn out before the right one
_PAGES_OF_OPENSSH = 3  # of a listing in an answer: sshfs, which calls OpenSSH, takes 128 KB, its own sftp 256 KB
_GUESSES = {"unknown_user", "user_name_format", "unknown_key", "address", "signature", "too_many_keys"}
_RETIRED = {"key_expired", "key_revoked", "folder_disabled", "client_disabled"}


class SftpConnection(asyncssh.SSHServer):
    """What asyncssh asks about one connection."""

    def __init__(self, server: "SftpServer", offer: Offer) -> None:
        self.login: Login | None = None
        self.last_request = clock.monotonic()
        self._server = server
        self._offer = offer
        self._permits: dict[str, str] = {}  # on the legacy listener: of the credentials that were looked up
        self._conn: asyncssh.SSHServerConnection
        self._ticket: Ticket | None = None
        self._address = ""
        self._known: dict[tuple[str, str], Login | None] = {}
        self._reasons: list[str] = []
        self.user_name = ""
        self._passwords_tried = 0
        self._visit: Visit | None = None
        self._handles = Handles(server.settings.handles_per_session, server.handles)
        self._channels: set[SftpChannel] = set()
        self._abandoned: list[File] = []
        self._is_lost = False

    # -- the connection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._address = str((conn.get_extra_info("peername") or ("",))[0])
        try:
            self._server.penalties.check(self._address)
            self._ticket = self._server.limits.enter(self._address)
        except Unavailable as error:
            log.warning("connection.refused", address=self._address, limit=error.code)
            self._note(error.code, causes.CAUSES[error.code])
            conn.abort()
            return
        self._server.connections.add(self)
        # asyncssh takes no notice of a full transport: a client with a huge window that reads nothing would fill
        # memory with its answers.
        conn.pause_writing = self._congested  # type: ignore[method-assign]
        conn.resume_writing = self._has_room  # type: ignore[method-assign]
        keys = self._server.host_keys
        proofs = Proofs([*keys.serving, *keys.announced], conn, self._knows)
        conn._all_server_host_keys = proofs  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ticket is None:
            return
        self._server.limits.leave(self._ticket)
        if self._visit is None and not self._passwords_tried and self._is_a_guess:
            self._server.penalties.failed(self._address)  # once a connection: agents try what they hold
        self._server.connections.discard(self)
        self._is_lost = True
        self._channels = {channel for channel in self._channels if channel.is_open}
        if self._visit is not None:
            self._end_if_left()
        elif self.user_name or exc is not None:
            log.info(
                "login.failed",
                address=self._address,
                user=self.user_name[:64],
                reasons=self._reasons,
                banner=str(self._conn.get_extra_info("client_version", ""))[:100],
                cause=str(exc or "")[:500],
            )
            self._note_failure(exc)

    @property
    def _is_a_guess(self) -> bool:
        """A key that the folder knows, though it is over, is none: it is being exchanged. Nor is our own failure."""
        codes = {reason.partition(" ")[0] for reason in self._reasons}
        return bool(codes & _GUESSES) and not codes & _RETIRED

    def _note_failure(self, exc: Exception | None) -> None:
        """Keep why it failed. One that connects, says nothing and goes is a probe: not kept."""
        if isinstance(exc, asyncssh.KeyExchangeFailed):
            self._note("negotiation", causes.of_negotiation(offered(self._conn), self._offer))
        elif self.user_name:
            self._note(*causes.of_login(self._reasons))
        elif not isinstance(exc, asyncssh.ConnectionLost | OSError):
            self._note("protocol", f"it does not speak SSH as it should: {exc}")

    def _note(self, code: str, cause: str) -> None:
        protocol = "sftp_legacy" if self._offer.is_legacy else "sftp"
        banner = str(self._conn.get_extra_info("client_version", ""))
        self._server.failures.note(protocol, self._address, self.user_name, code, cause, banner)

    def _congested(self) -> None:
        for channel in list(self._channels):
            channel.congested(is_congested=True)

    def _has_room(self) -> None:
        for channel in list(self._channels):
            channel.congested(is_congested=False)

    @property
    def stands_on(self) -> list[str]:
        """The ids of what lets it stay: key or password, and the permit on the legacy listener."""
        if self.login is None:
            return []
        credential = self.login.credential_id
        return [one for one in (credential, self._permits.get(credential)) if one]

    @property
    def is_transferring(self) -> bool:
        """Whether any of its channels is."""
        return any(channel.is_transferring for channel in self._channels)

    def disconnect(self, reason: str, code: int = asyncssh.DISC_BY_APPLICATION) -> None:
        """End it; the client is told why."""
        self._conn.disconnect(code, reason)

    # -- the log-in

    def begin_auth(self, username: str) -> bool:
        self.user_name = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        allow_only(key, self._offer, self._signed_with)
        asked = (username, key.get_fingerprint())
        if asked not in self._known:
            if len(self._known) >= KEYS_TRIED:
                self._reasons.append("too_many_keys")
                self.disconnect("too many keys tried", asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE)
                return False
            try:
                self._known[asked] = await self._look_up(*asked)
            except Unavailable:
                self._reasons.append("unavailable")
                self.disconnect("log-in is not possible at the moment; try again", asyncssh.DISC_SERVICE_NOT_AVAILABLE)
                return False
        # A client that signs has asked about this key in the same request: the last one known is the one that counts.
        self.login = self._known[asked]
        return self.login is not None

    async def _look_up(self, user_name: str, fingerprint: str) -> Login | None:
        folders = self._server.folders
        try:
            login = await self._server.pool.run(folders.log_in, user_name, fingerprint, self._address)
            await self._look_for_a_permit(login)
            return login
        except Denied as refusal:
            self._reasons.append(f"{refusal.code} {fingerprint}")
            await asyncio.sleep(self._server.penalties.delay(self._address))
            return None

    async def _look_for_a_permit(self, login: Login) -> None:
        """On the legacy listener. Whoever has none hears so after the log-in, when nobody else can be asking."""
        if self._offer.is_legacy:
            with contextlib.suppress(Denied):
                permit = await self._server.pool.run(self._server.folders.permit_for, login, self._address)
                self._permits[login.credential_id] = permit

    def _signed_with(self, algorithm: str) -> None:
        """A signature that is not taken here: the client is told no more than that its log-in failed."""
        self._reasons.append(f"signature {algorithm[:64]}")

    def password_auth_supported(self) -> bool:
        """Keyboard-interactive comes with it: one prompt for the same password."""
        return self._server.settings.passwords

    async def validate_password(self, username: str, password: str) -> bool:
        """Each wrong one counts against the source at once, unlike keys, of which agents try what they hold."""
        self.login = None
        self._passwords_tried += 1
        try:
            self.login = await self._server.passwords.run(
                self._server.folders.log_in_with_password, username, password, self._address
            )
            await self._look_for_a_permit(self.login)
        except Denied as refusal:
            self._reasons.append(refusal.code)
            await asyncio.sleep(max(LEAST_DELAY, self._server.penalties.failed(self._address)))
            if self._passwords_tried >= PASSWORDS_TRIED:
                self.disconnect("too many passwords tried", asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE)
        except Unavailable:
            self._reasons.append("unavailable")
            self.disconnect("log-in is not possible at the moment; try again", asyncssh.DISC_SERVICE_NOT_AVAILABLE)
        return self.login is not None

    def auth_completed(self) -> None:
        assert self.login is not None and self._ticket is not None
        if self._offer.is_legacy and self.login.credential_id not in self._permits:
            self._reasons.append("no_permit")
            self.disconnect(NO_PERMIT)
            return
        try:
            self._server.limits.log_in(self._ticket, self.login.client_id)
        except Unavailable as error:
            log.warning("connection.refused", address=self._address, user=self.login.user_name, limit=error.code)
            self._reasons.append(error.code)
            self.disconnect(error.message, asyncssh.DISC_TOO_MANY_CONNECTIONS)
            return
        self._server.penalties.succeeded(self._address)
        self.last_request = clock.monotonic()
        self._visit = self._server.folders.visit(self._session(self.login))
        self._saw_host_keys()

    def _saw_host_keys(self) -> None:
        """Which key served, and of which the client is told now."""
        served = self._conn.get_server_host_key()
        keys = [*self._server.host_keys.serving, *self._server.host_keys.announced]
        seen = [(key.get_fingerprint(), "announced") for key in keys]
        seen += [(k.get_fingerprint(), "used") for k in keys if served and k.public_data == served.public_data]
        self._note_host_keys(seen)

    def _knows(self, fingerprint: str) -> None:
        self._note_host_keys([(fingerprint, "proven")])

    def _note_host_keys(self, seen: list[tuple[str, str]]) -> None:
        if self.login is not None:
            folder, folders = self.login.folder_id, self._server.folders
            if not folders.has_recorded(folder, seen):
                self.spawn(self._record("host keys", lambda: folders.saw_host_keys(folder, seen)))

    def _session(self, login: Login) -> Session:
        info = self._conn.get_extra_info
        algorithms = f"{info('recv_cipher')} {info('recv_mac')} / {info('send_cipher')} {info('send_mac')}"
        banner = printable(str(info("client_version", "")).removeprefix("SSH-2.0-"))
        return Session(clock.new_id("ses"), login, "sftp", self._address, banner, algorithms)

    # -- channels

    @property
    def channel_count(self) -> int:
        """Its SFTP channels."""
        return len(self._channels)

    def session_requested(self) -> "SftpChannel | bool":
        if self._visit is None or self.login is None or self._server.is_draining or len(self._channels) >= CHANNELS:
            return False
        if self._server.channels_of(self.login.client_id) >= self._server.settings.sessions_per_client:
            log.warning("connection.refused", address=self._address, user=self.user_name, limit="sessions_per_client")
            message = "too many sessions of this client: close those that are left open"
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, message)
        pages = _PAGES_OF_OPENSSH if self._visit.session.banner.startswith("OpenSSH") else 1
        engine = Engine(self._visit, self._handles, pages=pages)
        channel = SftpChannel(engine, self)
        self._channels.add(channel)
        return channel

    def touch(self) -> None:
        """The client asked something."""
        self.last_request = clock.monotonic()

    def run(self, call: Callable[[], Any]) -> Awaitable[Any]:
        """Run what may wait, in the folder pool."""
        return self._server.pool.run(call)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that outlives the channel."""
        self._server.spawn(work)

    def left(self, channel: SftpChannel, readings: list[File]) -> None:
        """A channel ended with these files open."""
        self._channels.discard(channel)
        self._abandoned += readings
        self._end_if_left()

    def _end_if_left(self) -> None:
        """Record what was left open and, after the last channel of a lost connection, the session's end."""
        visit, readings = self._visit, self._abandoned
        assert visit is not None
        if self._is_lost and not self._channels:
            self.spawn(self._record("session", lambda: _end(visit, readings)))
            self._abandoned = []
        elif readings:
            self.spawn(self._record("partial read", lambda: visit.abandon(readings)))
            self._abandoned = []

    async def _record(self, what: str, call: Callable[[], None]) -> None:
        try:
            await self.run(call)
        except GatewayError as error:
            log.error("session.not_recorded", what=what, address=self._address, cause=error.message)


def _end(visit: Visit, readings: list[File]) -> None:
    try:
        if readings:
            visit.abandon(readings)
    finally:
        visit.end()
