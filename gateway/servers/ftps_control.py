"""One FTPS session (RFC 959, 2228, 2389, 2428, 3659, 4217): commands in, replies out, on the loop of all of them.

pyftpdlib keeps the protocol. What is decided here: how commands are heard and answered. Log-in and TLS are in
ftps_login.py, data connections in ftps_transfers.py, what a command does to the folder in ftps_commands.py.

A command that may wait is an errand (ftps_loop.py): until it is over the connection is off the loop, and the commands
behind it are kept. So replies come in the order of their commands, and a client that sends more is not read.
"""

import collections
import re
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pyftpdlib.ioloop  # noqa: F401 -- first: it imports asyncore without its warning
import structlog
from OpenSSL import SSL
from pyftpdlib.exceptions import _RetryError
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler

from .. import clock
from ..errors import Conflict, Denied, GatewayError, NotFound, Refused, Unavailable
from . import causes
from .ftps_commands import FACTS
from .ftps_data import NO_ROOM
from .ftps_login import LogIn
from .ftps_loop import Errands
from .ftps_tls import write

if TYPE_CHECKING:
    from .ftpsd import Acceptor

log = structlog.get_logger(__name__)
T = TypeVar("T")

REPLY: dict[type[GatewayError], str] = {
    NotFound: "550",
    Denied: "550",
    Refused: "553",
    Conflict: "553",
    Unavailable: "451",
}
MOST_LINE = 2048  # bytes of a command, but for the path that may be in it after the log-in
MOST_WAITING = 1000  # replies that a client has not taken
TURN = 16  # commands that are answered before other sessions get the loop
_RECORD = 16 * 1024  # bytes of TLS at most: what is decrypted and not taken wakes no loop
_TOO_LONG = "500 Command too long."
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


class FtpsSession(LogIn):
    """A control connection."""

    authorizer = _Everything()
    proto_cmds: ClassVar[dict[str, dict[str, Any]]] = {
        **{name: TLS_FTPHandler.proto_cmds[name] for name in [*_COMMANDS.split(), "SITE CHMOD"]},
        "HASH": {"perm": "r", "auth": True, "arg": True, "help": "Syntax: HASH <SP> path (SHA-256 of a file)."},
        "CLNT": {"perm": None, "auth": False, "arg": True, "help": "Syntax: CLNT <SP> name (what the client is)."},
    }
    tls_control_required = tls_data_required = True
    timeout = 0  # idle sessions are the listener's
    banner = "gateway ready"
    encoding = "utf-8"
    unicode_errors = "surrogateescape"
    is_implicit = False

    def __init__(self, conn: socket.socket, server: "Acceptor", ioloop: Any = None) -> None:
        self.listener = server.listener
        self.ticket = server.ticket
        self.began = self.last_request = clock.monotonic()
        self.errands = Errands(server.ioloop)
        self._lines: collections.deque[bytes | None] = collections.deque()  # commands; None: one that was too long
        self._tail = b""  # of what came, a command without its end
        self._is_too_long = False
        self._is_suspended = False
        self._has_left = False
        self.begin_log_in()
        self.begin_transfers(conn)
        self.listener.sessions.add(self)
        super().__init__(conn, server, ioloop)
        self.ssl_context = self.listener.identity.context()  # only its own data connections can resume its session
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
        """Whether a data connection is open, or a command under way."""
        return self.data_channel is not None or not self.errands.are_over

    def end(self, *, only_if_idle: bool = False) -> None:
        """From any thread: close it. An errand that is under way ends by itself, and is recorded."""
        self.ioloop.call_soon(lambda: None if only_if_idle and self.is_transferring else self.close())

    def end_after_errands(self) -> None:
        """Close it once what is under way is recorded and answered."""
        self.errands.run(lambda: None, lambda _: self.close_when_done())

    def close(self) -> None:
        """The end, whoever wanted it; transfers under way are recorded first, and its place is given back last."""
        try:
            super().close()
        finally:
            if self._closed and not self._has_left:
                self._has_left = True
                self.end_transfers()
                self.errands.run(self._record_end, lambda _: self.listener.left(self))

    def _record_end(self) -> None:
        try:
            if self._visit is not None:
                self._visit.end()
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

    # -- commands in

    def handle_read_event(self) -> None:
        """Without pyftpdlib's look at what OpenSSL waits for, once the handshake is over."""
        if self._ssl_established and not self._ssl_closing:
            self.handle_read()
        else:
            super().handle_read_event()

    def handle_read(self) -> None:
        """What has come, at most a record of it."""
        try:
            data = self.recv(_RECORD)
        except _RetryError:
            if self._ssl_want_write:
                self.modify_ioloop_events(self.ioloop.WRITE)
            self._ssl_want_read = False
            return
        if data:
            self._split(data)
            self._hear()

    def _split(self, data: bytes) -> None:
        """Of a line that is too long nothing is kept, and its end alone is answered."""
        most = MOST_LINE if self._visit is None else MOST_LINE + self._visit.path_bytes
        *lines, self._tail = (self._tail + data).split(b"\r\n")
        for line in lines:
            self._lines.append(None if self._is_too_long or len(line) > most else line)
            self._is_too_long = False
        if len(self._tail) > most:
            self._is_too_long = True
            self._tail = self._tail[-1:]  # perhaps half of its end

    def _hear(self) -> None:
        """Do what waits, a turn of it."""
        for _ in range(TURN):
            if not self._lines or self._is_suspended or self._closed:
                return
            line = self._lines.popleft()
            try:
                self._do_command(line)
            except Exception:  # noqa: BLE001 - as the loop does
                self.handle_error()
        if self._lines and not self._is_suspended and not self._closed:
            self.suspend()
            self.ioloop.call_later(0, self.resume, _errback=self.handle_error)

    def drop_commands(self) -> None:
        """What the client sent ahead is not heard."""
        self._lines.clear()
        self._tail, self._is_too_long = b"", False

    def _do_command(self, line: bytes | None) -> None:
        """A command is whole. Behind QUIT none is heard. A client that takes no replies gets no more of them."""
        if self._quit_pending or self._closing:
            return
        self.last_request = clock.monotonic()
        if len(self.producer_fifo) > MOST_WAITING:
            log.warning("connection.refused", address=self.remote_ip, limit="replies")
            self.close()
        elif line is None:
            self.respond(_TOO_LONG)
        else:
            text = line.decode(self.encoding, self.unicode_errors)
            command, _, argument = text.partition(" ")
            self.pre_process_command(text, command.upper(), argument)

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        """Paths are read before anything else; what is wrong with one is said as of any command."""
        if cmd in ("LIST", "NLST", "STAT"):
            arg = _OPTIONS.sub("", arg)
        try:
            super().pre_process_command(line, cmd, arg)
        except GatewayError as error:
            self._say_no(error)

    def _say_no(self, error: Exception) -> None:
        if not isinstance(error, GatewayError):
            raise error
        code = NO_ROOM.get(error.code) or next(code for kind in type(error).__mro__ if (code := REPLY.get(kind)))
        self.respond(f"{code} {error.message.capitalize()}.")

    # -- commands that wait

    def wait_for(
        self,
        call: Callable[[], T],
        then: Callable[[T], None],
        unwanted: Callable[[T], object] = lambda _: None,
        failed: Callable[[Exception], None] | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        """Run `call` where it may wait, then `then` with its result; the commands behind this one wait.

        `failed` is told its error; without it the error is the reply. `unwanted` gets the result if the session has
        ended meanwhile; it may wait.
        """
        self.suspend()

        def over(done: "Future[T]") -> None:
            if not self._closed:
                self._go_on(done, then, failed or self._say_no)
            elif done.exception() is None:
                self.errands.run(lambda: unwanted(done.result()), lambda _: None)

        self.errands.run(call, over, pool)

    def _go_on(self, done: "Future[T]", then: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self._is_suspended = False
        error = done.exception()
        try:
            if error is None:
                self._answered(done.result(), then)
            else:
                failed(error)  # type: ignore[arg-type]  # no errand exits
        except Exception:  # noqa: BLE001 - as the loop does
            self.handle_error()
        if not self._is_suspended:
            self.resume()

    def _answered(self, result: T, then: Callable[[T], None]) -> None:
        try:
            then(result)
        except GatewayError as error:
            self._say_no(error)

    def suspend(self) -> None:
        """Hear nothing for now."""
        self._is_suspended = True
        if not self._closed:
            self.del_channel()

    def resume(self) -> None:
        """Go on with what waits, and listen again."""
        self._is_suspended = False
        if self._closed or self._quit_pending:
            return
        self.add_channel(events=self.ioloop.READ | (self.ioloop.WRITE if self.producer_fifo else 0))
        self._hear()

    # -- replies out

    def respond(self, resp: str, logfun: Any = None) -> None:
        """Control characters in a name would begin a reply of their own."""
        self._last_response = resp
        self._say(_printable(resp).encode() + b"\r\n")

    def respond_lines(self, *lines: str) -> None:
        """A reply of several lines."""
        self._last_response = lines[-1]
        self._say(b"".join(_printable(line).encode() + b"\r\n" for line in lines))

    def push(self, data: str) -> None:
        """pyftpdlib's way to begin a reply of several lines."""
        self._say(data.encode(self.encoding, self.unicode_errors))

    def _say(self, data: bytes) -> None:
        """At once, as far as the client takes it; the rest waits in its order."""
        if not self.producer_fifo and self.connected:
            data = data[self._write(data) :]
        if data and not self._closed:
            self.producer_fifo.append(data)
            if self._fileno in self.ioloop.socket_map:
                self._wanted_io_events = self.ioloop.READ | self.ioloop.WRITE
                self.modify_ioloop_events(self._wanted_io_events)

    def _write(self, data: bytes) -> int:
        """How much of it the socket took. Who is gone is closed: a command goes on behind its reply."""
        try:
            return write(self.socket, data) if self._ssl_established else self.send(data)
        except (SSL.WantReadError, SSL.WantWriteError):
            return 0
        except SSL.Error:
            self._error = True  # no close_notify
            self.close()
            return len(data)

    # -- pyftpdlib's own log

    def __repr__(self) -> str:
        """Short: pyftpdlib makes one at each step, for a log that is not written."""
        return f"<session of {self.remote_ip}>"

    def log_cmd(self, cmd: str, arg: str, respcode: int, respstr: str) -> None:
        """Ours says what matters."""

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


class ImplicitFtpsSession(FtpsSession):
    """TLS from the first byte."""

    is_implicit = True


def _printable(text: str) -> str:
    """What a client wrote, as text that can be kept and shown."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("?", text.encode("utf-8", "backslashreplace").decode())
