"""One FTPS session (RFC 959, 2228, 2389, 2428, 3659, 4217): commands in, replies out, in a thread of its own.

pyftpdlib keeps the protocol; log-in, TLS, data connections and replies are decided here, what a command does to the
folder in ftps_commands.py. PORT and EPRT do not exist: nobody is called back.
"""

import contextlib
import ipaddress
import re
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import pyftpdlib.ioloop  # noqa: F401 -- first: it imports asyncore without its warning
import structlog
from OpenSSL import SSL
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler

from .. import clock
from ..dropfolder.sessions import Login, Session
from ..dropfolder.visit import Visit
from ..errors import Conflict, Denied, GatewayError, NotFound, Refused, Unavailable
from . import causes
from .ftps_commands import FACTS, FolderCommands, Home
from .ftps_data import NO_ROOM, DataConnection, Incoming, NoPassivePort, PassiveListener
from .limits import Ticket

if TYPE_CHECKING:
    from .ftpsd import Listener

log = structlog.get_logger(__name__)

REPLY: dict[type[GatewayError], str] = {
    NotFound: "550",
    Denied: "550",
    Refused: "553",
    Conflict: "553",
    Unavailable: "451",
}
MOST_LINE = 2048  # bytes of a command, but for the path that may be in it after the log-in
MOST_WAITING = 1000  # replies that a client has not taken
LEAST_DELAY = 1.0  # seconds until a wrong password is answered
MOST_ATTEMPTS = 5  # log-ins of one connection
NOT_RESUMED = "522 A data connection must resume the TLS session of its control connection."
ABORTED = "426 The transfer is aborted."
NO_CONNECTION = "425 There is no data connection for this: send PASV first, and one transfer at a time."
_COMMANDS = """
    ABOR ALLO APPE AUTH CDUP CWD DELE EPSV FEAT HELP LIST MDTM MFMT MKD MLSD MLST MODE NLST NOOP OPTS PASS PASV PBSZ
    PROT PWD QUIT REST RETR RMD RNFR RNTO SIZE STAT STOR STOU STRU SYST TYPE USER XCUP XCWD XMKD XPWD XRMD
"""
_OPTIONS = re.compile(r"^(-[A-Za-z]+\s*)+")  # of ls, which some clients send with LIST and NLST
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class _Everything:
    """pyftpdlib's authorizer: who logged in may use every command that there is."""

    def has_perm(self, _user: str, _permission: str, _path: str | None = None) -> bool:
        return True

    def get_perms(self, _user: str) -> str:
        return "elr"

    def get_msg_quit(self, _user: str) -> str:
        return "Goodbye."


class FtpsSession(FolderCommands):
    """A control connection."""

    authorizer = _Everything()
    dtp_handler = DataConnection
    passive_dtp = PassiveListener
    proto_cmds: ClassVar[dict[str, dict[str, Any]]] = {
        **{name: TLS_FTPHandler.proto_cmds[name] for name in [*_COMMANDS.split(), "SITE CHMOD"]},
        "HASH": {"perm": "r", "auth": True, "arg": True, "help": "Syntax: HASH <SP> path (SHA-256 of a file)."},
        "CLNT": {"perm": None, "auth": False, "arg": True, "help": "Syntax: CLNT <SP> name (what the client is)."},
    }
    tls_control_required = tls_data_required = True
    timeout = 0  # idle sessions are the listener's
    use_sendfile = False
    banner = "gateway ready"
    encoding = "utf-8"
    unicode_errors = "surrogateescape"
    is_implicit = False
    username: str
    _in_buffer: list[bytes]
    _in_buffer_len: int
    _dtp_acceptor: Any
    _restart_position: int
    _quit_pending: bool
    _out_dtp_queue: tuple[Any, bool, Any, str | None] | None
    _in_dtp_queue: tuple[Incoming, str] | None
    _rnfr: str | None

    def __init__(self, conn: socket.socket, server: Any, ioloop: Any = None) -> None:
        self.listener: Listener = server.listener
        self.ticket: Ticket = server.ticket
        self.login: Login | None = None
        self.began = self.last_request = clock.monotonic()
        self._visit = None
        self._client = ""
        self._attempts = 0
        self._has_left = False
        self._is_refusing = False  # a wrong password waits for its answer
        self._is_data_refused = False
        self._is_too_long = False
        self.listener.sessions.add(self)
        super().__init__(conn, server, ioloop)
        self.ssl_context = self.listener.identity.context()  # only its own data connections can resume its session
        self.passive_ports = self.listener.passive_ports
        self.masquerade_address = self.listener.settings.public_address or None
        self._extra_feats = ["AUTH TLS", "PBSZ", "PROT", "HASH SHA-256*", "CLNT"]
        self._available_facts, self._current_facts = FACTS[:], FACTS[:]

    # -- the connection

    @classmethod
    def get_ssl_context(cls) -> None:
        """None for all of them: each session has its own."""

    def handle(self) -> None:
        """Greet; with implicit TLS, once it is there."""
        if self.is_implicit:
            self.secure_connection(self.ssl_context)
        else:
            super().handle()

    def handle_ssl_established(self) -> None:
        """With implicit TLS, data connections are private from the start."""
        if self.is_implicit:
            self._pbsz = self._prot = True
            super().handle()

    @property
    def is_transferring(self) -> bool:
        """Whether a data connection is open."""
        return getattr(self, "data_channel", None) is not None

    def end(self) -> None:
        """Another thread's way to end the session: its own sees the end of its socket."""
        with contextlib.suppress(OSError, SSL.Error, AttributeError):
            connection = self.socket
            if isinstance(connection, SSL.Connection):
                connection.sock_shutdown(socket.SHUT_RDWR)
            else:
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The end, whoever wanted it; transfers under way are recorded first."""
        try:
            super().close()
        finally:
            if self._closed and not self._has_left:
                self._has_left = True
                self.listener.left(self)
                if self._visit is not None:
                    self._record_end(self._visit)

    def _record_end(self, visit: Visit) -> None:
        try:
            visit.end()
        except GatewayError as error:
            log.error("session.not_recorded", what="session", address=self.remote_ip, cause=error.message)

    def handle_error(self) -> None:
        """TLS that the client broke; or what nobody foresaw: pyftpdlib's own would close behind our back."""
        self._error = True  # no close_notify
        error = sys.exc_info()[1]
        if isinstance(error, SSL.Error):
            log.info("ftps.tls_broken", address=self.remote_ip, cause=str(error)[:200])
            self.close()
        else:
            FTPHandler.handle_error(self)

    def collect_incoming_data(self, data: bytes) -> None:
        """Of a line that is too long nothing is kept, and its end alone is answered."""
        most = MOST_LINE if self._visit is None else MOST_LINE + self._visit.path_bytes
        self._is_too_long = self._is_too_long or self._in_buffer_len + len(data) > most
        if self._is_too_long:
            self._in_buffer, self._in_buffer_len = [], 0
        else:
            self._in_buffer.append(data)
            self._in_buffer_len += len(data)

    def found_terminator(self) -> None:
        """A command is whole. Behind QUIT none is heard, nor while a wrong password waits for its answer: guesses could
        all be sent at once. A client that takes no replies gets no more of them.
        """
        if self._closed or self._quit_pending or self._is_refusing:
            self._in_buffer, self._in_buffer_len = [], 0
            return
        self.last_request = clock.monotonic()
        if len(self.producer_fifo) > MOST_WAITING:
            log.warning("connection.refused", address=self.remote_ip, limit="replies")
            self.close()
            return
        if self._is_too_long:
            self._is_too_long = False
            self.respond("500 Command too long.")
            return
        super().found_terminator()

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        """Paths are read before anything else; what is wrong with one is said as of any command."""
        if cmd in ("LIST", "NLST", "STAT"):
            arg = _OPTIONS.sub("", arg)
        try:
            super().pre_process_command(line, cmd, arg)
        except GatewayError as error:
            self._say_no(error)

    def _say_no(self, error: GatewayError) -> None:
        code = NO_ROOM.get(error.code) or next(code for kind in type(error).__mro__ if (code := REPLY.get(kind)))
        self.respond(f"{code} {error.message.capitalize()}.")

    # -- log-in and TLS

    def ftp_AUTH(self, line: str) -> None:
        """What was sent in clear behind AUTH is not executed inside TLS."""
        super().ftp_AUTH(line)
        self.ac_in_buffer = b""
        self._in_buffer, self._in_buffer_len = [], 0

    def ftp_PROT(self, line: str) -> None:
        """Private always (RFC 4217 9): clear after PASV would otherwise deliver in clear."""
        if line.upper() == "C":
            self.respond("536 Data connections are private here.")
        else:
            super().ftp_PROT(line)

    def ftp_CLNT(self, line: str) -> None:
        """What the client calls itself."""
        self._client = _printable(line)[:255]
        self.respond("200 Noted.")

    def ftp_USER(self, line: str) -> None:
        """Once: a session is one client's."""
        if self.authenticated:
            self.respond("503 You are logged in; connect again for another user.")
        else:
            super().ftp_USER(line)

    def ftp_PASS(self, line: str) -> None:
        """Log in; a wrong password is answered late, and tells nothing of the name."""
        if self.authenticated or not self.username:
            self.respond("503 Send USER first." if not self.authenticated else "503 You are logged in.")
            return
        try:
            self._log_in(line)
        except Denied as refusal:
            self._refuse(refusal.code)
        except Unavailable as error:
            log.warning("connection.refused", address=self.remote_ip, user=self.username, limit=error.code)
            self._note(error.code, causes.CAUSES.get(error.code, error.message))
            self.respond(f"421 {error.message.capitalize()}.")
            self.close_when_done()
        else:
            self.respond("230 You are in.")

    def _log_in(self, password: str) -> None:
        folders = self.listener.folders
        login = folders.log_in_with_password(self.username, password, self.remote_ip)
        self.listener.limits.log_in(self.ticket, login.client_id)
        tls = f"{self.socket.get_protocol_version_name()} {self.socket.get_cipher_name()}"
        visit = folders.visit(Session(clock.new_id("ses"), login, "ftps", self.remote_ip, self._client, tls))
        visit.begin()
        self.listener.penalties.succeeded(self.remote_ip)
        self.login, self._visit = login, visit
        self.authenticated, self.fs = True, Home(self, visit)

    def _refuse(self, reason: str) -> None:
        self._attempts += 1
        user = _printable(self.username[:64])
        log.info("login.failed", address=self.remote_ip, user=user, reasons=[reason], banner=self._client)
        self._note(reason, causes.CAUSES.get(reason, reason))
        self._is_refusing = True
        self.del_channel()  # nothing is read until it is answered
        delay = max(LEAST_DELAY, self.listener.penalties.failed(self.remote_ip))
        left = self.last_request + delay - clock.monotonic()  # how many hashes were checked is not to be seen
        self.ioloop.call_later(max(0.0, left), self._say_refused, _errback=self.handle_error)
        self.username = ""

    def _say_refused(self) -> None:
        if self._closed:
            return
        self._is_refusing = False
        self.add_channel()
        self.respond("530 User name or password is wrong, or this access has ended.")
        if self._attempts >= MOST_ATTEMPTS:
            self.close_when_done()

    def _note(self, code: str, cause: str) -> None:
        """Keep why this client could not log in."""
        self.listener.failures.note("ftps", self.remote_ip, self.username, code, cause, self._client)

    def process_command(self, cmd: str, *args: Any, **kwargs: Any) -> None:
        """A user name in clear is refused by pyftpdlib; who chose plain FTP must hear why somewhere."""
        if cmd == "USER" and not self._ssl_established and args:
            self._note("tls_required", causes.CAUSES["tls_required"])
        super().process_command(cmd, *args, **kwargs)

    def handle_failed_ssl_handshake(self) -> None:
        self._note(*causes.of_tls(str(sys.exc_info()[1])))
        super().handle_failed_ssl_handshake()

    # -- data connections

    def refuse_data(self, *, is_awaited: bool) -> None:
        """The one that was made is not taken: said at once, or when something is to be sent over it."""
        if is_awaited:
            self.respond(NOT_RESUMED)
        else:
            self._is_data_refused = True

    def push_dtp_data(self, data: Any, isproducer: bool = False, file: Any = None, cmd: str | None = None) -> None:
        """What goes out over the data connection, which is made already or awaited."""
        if self._is_data_refused or not self._is_data_free:
            if file is not None:
                file.close()
            self.respond(NOT_RESUMED if self._is_data_refused else NO_CONNECTION)
            self._is_data_refused = False
            return
        with self._unless_it_is_gone(file):
            super().push_dtp_data(data, isproducer, file, cmd)

    @contextlib.contextmanager
    def _unless_it_is_gone(self, file: Any) -> Iterator[None]:
        """That a client is gone shows when it is answered: then the session has ended, and the file is nobody's."""
        try:
            yield
        except AttributeError:
            if not self._closed:
                raise
        finally:
            if self._closed and file is not None and not file.closed:
                file.close()

    def _make_epasv(self, extmode: bool = False) -> None:
        try:
            super()._make_epasv(extmode)
        except NoPassivePort:
            self._dtp_acceptor = None
            self.respond("425 Every port for data connections is in use: try again.")

    def take_dtp_data(self, file: Incoming) -> None:
        """What comes in over the data connection, which is made already or awaited."""
        if self._is_data_refused or not self._is_data_free:
            file.close()
            self.respond(NOT_RESUMED if self._is_data_refused else NO_CONNECTION)
            self._is_data_refused = False
            return
        with self._unless_it_is_gone(file):
            if self.data_channel is not None:
                self.respond("125 Send it.")
                self.data_channel.file_obj = file
                self.data_channel.enable_receiving("i", "STOR")
            else:
                self.respond("150 Connect and send it.")
                self._in_dtp_queue = (file, "STOR")

    @property
    def _is_data_free(self) -> bool:
        if self.data_channel is not None:
            return not self.data_channel._initialized
        is_awaited = self._dtp_acceptor is not None and not self._dtp_acceptor._closed
        return is_awaited and self._out_dtp_queue is None and self._in_dtp_queue is None

    def _shutdown_connecting_dtp(self) -> None:
        """What waited for that data connection must not come over the next one, which is for something else."""
        coming, self._in_dtp_queue = self._in_dtp_queue, None
        super()._shutdown_connecting_dtp()
        self._is_data_refused = False
        if coming is not None:
            coming[0].close()
        waiting, self._out_dtp_queue = self._out_dtp_queue, None
        if waiting is not None and waiting[2] is not None:
            waiting[2].close()

    def ftp_ABOR(self, line: str) -> None:
        """RFC 959 4.1.3: 426 for what is under way, even if its data connection is not made yet, then 226.

        What was sent whole is answered as that, once; there is nothing to abort any more.
        """
        channel = self.data_channel
        if channel is not None and channel.transfer_finished:
            channel.close()
            self.respond("225 The transfer was over.")
            return
        is_waiting = self._out_dtp_queue is not None or self._in_dtp_queue is not None
        is_under_way = is_waiting or (channel is not None and channel._initialized)
        self._shutdown_connecting_dtp()
        if is_waiting:
            self.respond(ABORTED)
        if channel is not None:
            channel.abort(ABORTED if is_under_way else "")
        self.respond("226 It is aborted." if is_under_way else "225 There is nothing to abort.")

    def ftp_PASV(self, line: str) -> None:
        """Its answer has room for an IPv4 address alone (RFC 2428 3: EPSV is for both)."""
        address = ipaddress.ip_address(self.socket.getsockname()[0].partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None and not self.masquerade_address:
            self.respond("425 This connection is over IPv6: use EPSV.")
        else:
            super().ftp_PASV(line)

    # -- pyftpdlib's own log

    def __repr__(self) -> str:
        """Short: pyftpdlib makes one at each step, for a log that is not written."""
        return f"<session of {self.remote_ip}>"

    def log_cmd(self, cmd: str, arg: str, respcode: int, respstr: str) -> None:
        """Ours says what matters."""

    def log_transfer(self, *_: Any, **_facts: Any) -> None:
        """The ledger has it."""

    def log(self, msg: str, logfun: Any = None) -> None:
        """Ours says what matters."""

    def log_exception(self, instance: Any) -> None:
        """A defect, with its trace; TLS that cannot be read is the client's."""
        error = sys.exc_info()[1]
        if isinstance(error, SSL.Error):
            log.info("ftps.broken_off", address=self.remote_ip, cause=repr(error))
            if self.login is None:
                self._note(*causes.of_tls(str(error)))
        else:
            log.error("ftps.failed", address=self.remote_ip, exc_info=error)

    def respond(self, resp: str, logfun: Any = None) -> None:
        """Control characters in a name would begin a reply of their own."""
        super().respond(_printable(resp), logfun=lambda *_: None)


class ImplicitFtpsSession(FtpsSession):
    """TLS from the first byte."""

    is_implicit = True


def _printable(text: str) -> str:
    """What a client wrote, as text that can be kept and shown."""
    return _CONTROL.sub("?", text.encode("utf-8", "backslashreplace").decode())
