"""TLS and log-in of an FTPS session (RFC 2228, 4217): nothing is said in clear, and who guesses waits."""

import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import structlog

from .. import clock
from ..dropfolder.sessions import Login, Session
from ..dropfolder.visit import Visit
from ..errors import Denied, Unavailable
from . import causes
from .failures import printable
from .ftps_commands import Home
from .ftps_transfers import Transfers
from .limits import Ticket

if TYPE_CHECKING:
    from .ftpsd import Listener

log = structlog.get_logger(__name__)
LEAST_DELAY = 1.0  # seconds until a wrong password is answered
MOST_ATTEMPTS = 5  # log-ins of one connection


class LogIn(Transfers):
    """The part of a session that comes before its folder is open."""

    listener: "Listener"
    ticket: Ticket
    username: str
    last_request: float

    def begin_log_in(self) -> None:
        """Nobody is logged in yet."""
        self.login: Login | None = None
        self.is_refusing = False  # a wrong password waits for its answer
        self._visit: Visit | None = None
        self._client = ""
        self._attempts = 0

    @abstractmethod
    def suspend(self) -> None:
        """See FtpsSession."""

    @abstractmethod
    def resume(self) -> None:
        """See FtpsSession."""

    @abstractmethod
    def drop_commands(self) -> None:
        """See FtpsSession."""

    # -- TLS

    def ftp_AUTH(self, line: str) -> None:
        """What was sent in clear behind AUTH is not executed inside TLS."""
        super().ftp_AUTH(line)
        self.drop_commands()

    def ftp_PROT(self, line: str) -> None:
        """Private always (RFC 4217 9): clear after PASV would otherwise deliver in clear."""
        if line.upper() == "C":
            self.respond("536 Data connections are private here.")
        else:
            super().ftp_PROT(line)

    def handle_failed_ssl_handshake(self) -> None:
        """A row says why, since the client often does not."""
        self._note(*causes.of_tls(str(sys.exc_info()[1])))
        super().handle_failed_ssl_handshake()

    # -- who it is

    def ftp_CLNT(self, line: str) -> None:
        """What the client calls itself."""
        self._client = printable(line)[:255]
        self.respond("200 Noted.")

    def ftp_USER(self, line: str) -> None:
        """Once: a session is one client's."""
        if self.authenticated:
            self.respond("503 You are logged in; connect again for another user.")
        else:
            super().ftp_USER(line)

    def process_command(self, cmd: str, *args: Any, **kwargs: Any) -> None:
        """A user name in clear is refused by pyftpdlib; who chose plain FTP must hear why somewhere."""
        if cmd == "USER" and not self._ssl_established and args:
            self._note("tls_required", causes.CAUSES["tls_required"])
        super().process_command(cmd, *args, **kwargs)

    def ftp_PASS(self, line: str) -> None:
        """Log in; a wrong password is answered late, and tells nothing of the name."""
        if self.authenticated or not self.username:
            self.respond("503 Send USER first." if not self.authenticated else "503 You are logged in.")
            return
        user, client = self.username, self._client
        self.wait_for(
            lambda: self._log_in(user, line, client), self._is_in, Visit.end, self._is_out, self.ioloop.passwords
        )

    def _log_in(self, user: str, password: str, client: str) -> Visit:
        folders = self.listener.folders
        login = folders.log_in_with_password(user, password, self.remote_ip)
        self.listener.limits.log_in(self.ticket, login.client_id)
        visit = folders.visit(Session(clock.new_id("ses"), login, "ftps", self.remote_ip, client, self._algorithms))
        visit.begin()
        self.listener.penalties.succeeded(self.remote_ip)
        return visit

    @property
    def _algorithms(self) -> str:
        return f"{self.socket.get_protocol_version_name()} {self.socket.get_cipher_name()}"

    def _is_in(self, visit: Visit) -> None:
        self.login, self._visit = visit.session.login, visit
        self.authenticated, self.fs = True, Home(self, visit)
        self.respond("230 You are in.")

    def _is_out(self, error: Exception) -> None:
        if isinstance(error, Denied):
            self._refuse(error.code)
        elif isinstance(error, Unavailable):
            log.warning("connection.refused", address=self.remote_ip, user=self.username, limit=error.code)
            self._note(error.code, causes.CAUSES.get(error.code, error.message))
            self.respond(f"421 {error.message.capitalize()}.")
            self.close_when_done()
        else:
            raise error

    def _refuse(self, reason: str) -> None:
        self._attempts += 1
        user = printable(self.username[:64])
        log.info("login.failed", address=self.remote_ip, user=user, reasons=[reason], banner=self._client)
        self._note(reason, causes.CAUSES.get(reason, reason))
        self.is_refusing = True
        self.drop_commands()
        self.suspend()  # nothing is read until it is answered
        delay = max(LEAST_DELAY, self.listener.penalties.failed(self.remote_ip))
        left = self.last_request + delay - clock.monotonic()  # how many hashes were checked is not to be seen
        self.ioloop.call_later(max(0.0, left), self._say_refused, _errback=self.handle_error)
        self.username = ""

    def _say_refused(self) -> None:
        if self._closed:
            return
        self.is_refusing = False
        self.drop_commands()
        self.respond("530 User name or password is wrong, or this access has ended.")
        if self._attempts >= MOST_ATTEMPTS:
            self.close_when_done()
        self.resume()

    def _note(self, code: str, cause: str) -> None:
        """Keep why this client could not log in."""
        self.listener.failures.note("ftps", self.remote_ip, self.username, code, cause, self._client)
