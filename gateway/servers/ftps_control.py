"""One FTPS session (RFC 959, 2228, 2389, 2428, 3659, 4217): commands in, replies out, in a thread of its own.

pyftpdlib keeps the protocol; what a command does to the folder is decided here, on the session's Visit. There is no
file system behind it: `Home` knows paths only, so no method of pyftpdlib can reach the host's disk. Bytes are never
converted (TYPE A changes nothing), since they are sealed. PORT and EPRT do not exist: nobody is called back.
Changes of metadata are accepted and ignored, as ERPs send them after each transfer.
"""

import contextlib
import fnmatch
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pyftpdlib.ioloop  # noqa: F401 -- first: it imports asyncore without its warning
import structlog
from OpenSSL import SSL
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.handlers.ftp.producers import BufferedIteratorProducer, FileProducer

from .. import clock
from ..dropfolder import paths
from ..dropfolder.nodes import Listing, Node
from ..dropfolder.sessions import Login, Session
from ..dropfolder.visit import Visit
from ..errors import Conflict, Denied, GatewayError, NotFound, Refused, Unavailable
from .ftps_data import DataConnection, Download
from .limits import Ticket
from .long_name import long_name

if TYPE_CHECKING:
    from .ftpsd import Listener

log = structlog.get_logger(__name__)
T = TypeVar("T")

REPLY: dict[type[GatewayError], str] = {
    NotFound: "550",
    Denied: "550",
    Refused: "553",
    Conflict: "553",
    Unavailable: "451",
}
MOST_WAITING = 1000  # replies that a client has not taken
LEAST_DELAY = 1.0  # seconds until a wrong password is answered
MOST_ATTEMPTS = 5  # log-ins of one connection
NOT_RESUMED = "522 A data connection must resume the TLS session of its control connection."
FACTS = ["type", "size", "modify", "perm", "unique"]
_COMMANDS = """
    ABOR ALLO APPE AUTH CDUP CWD DELE EPSV FEAT HELP LIST MDTM MFMT MKD MLSD MLST MODE NLST NOOP OPTS PASS PASV PBSZ
    PROT PWD QUIT REST RETR RMD RNFR RNTO SIZE STAT STOR STOU STRU SYST TYPE USER XCUP XCWD XMKD XPWD XRMD
"""
_OPTIONS = re.compile(r"^(-[A-Za-z]+\s*)+")  # of ls, which some clients send with LIST and NLST
_MAGIC = re.compile(r"[*?\[]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Home:
    """Paths inside the client's home, as pyftpdlib asks for them. Nothing else: it has no file system."""

    def __init__(self, session: "FtpsSession") -> None:
        self.cwd = "/"
        self.root = "/"
        self.cmd_channel: FtpsSession | None = session

    def ftp2fs(self, path: str) -> str:
        """What a client wrote, absolute."""
        whole = path if path.startswith("/") else paths.join(self.cwd, path)
        return paths.normalise(whole.encode("utf-8", "surrogateescape"))

    def fs2ftp(self, path: str) -> str:
        """The same: the home is the root."""
        return path

    def realpath(self, path: str) -> str:
        """There are no links."""
        return path

    def validpath(self, _path: str) -> bool:
        """`ftp2fs` makes no others."""
        return True


class _Everything:
    """pyftpdlib's authorizer: who logged in may use every command that there is."""

    def has_perm(self, _user: str, _permission: str, _path: str | None = None) -> bool:
        return True

    def get_perms(self, _user: str) -> str:
        return "elr"

    def get_msg_quit(self, _user: str) -> str:
        return "Goodbye."


class FtpsSession(TLS_FTPHandler):  # type: ignore[misc]
    """A control connection."""

    authorizer = _Everything()
    dtp_handler = DataConnection
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
    _restart_position: int
    _rnfr: str | None

    def __init__(self, conn: socket.socket, server: Any, ioloop: Any = None) -> None:
        self.listener: Listener = server.listener
        self.ticket: Ticket = server.ticket
        self.login: Login | None = None
        self.began = self.last_request = clock.monotonic()
        self._visit: Visit | None = None
        self._client = ""
        self._attempts = 0
        self._has_left = False
        self._is_data_refused = False
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
        super().close()
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

    def found_terminator(self) -> None:
        """A command is whole. A client that takes no replies gets no more of them."""
        self.last_request = clock.monotonic()
        if len(self.producer_fifo) > MOST_WAITING:
            log.warning("connection.refused", address=self.remote_ip, limit="replies")
            self.close()
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
        code = next(code for kind in type(error).__mro__ if (code := REPLY.get(kind)))
        self.respond(f"{code} {error.message.capitalize()}.")

    def _ask(self, question: Callable[[str], T], path: str) -> T:
        assert self._visit is not None
        return self._visit.ask(question, path)

    @property
    def _here(self) -> Visit:
        assert self._visit is not None
        return self._visit

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
        self._client = line[:255]
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
        self.login, self._visit = login, visit
        self.authenticated, self.fs = True, Home(self)

    def _refuse(self, reason: str) -> None:
        self._attempts += 1
        log.info("login.failed", address=self.remote_ip, user=self.username[:64], reasons=[reason], banner=self._client)
        self.del_channel()  # nothing is read until it is answered
        delay = max(LEAST_DELAY, self.listener.penalties.failed(self.remote_ip))
        self.ioloop.call_later(delay, self._say_refused, _errback=self.handle_error)
        self.username = ""

    def _say_refused(self) -> None:
        if self._closed:
            return
        self.add_channel()
        self.respond("530 User name or password is wrong, or this access has ended.")
        if self._attempts >= MOST_ATTEMPTS:
            self.close_when_done()

    # -- data connections

    def refuse_data(self, *, is_awaited: bool) -> None:
        """The one that was made is not taken: said at once, or when something is to be sent over it."""
        if is_awaited:
            self.respond(NOT_RESUMED)
        else:
            self._is_data_refused = True

    def push_dtp_data(self, data: Any, isproducer: bool = False, file: Any = None, cmd: str | None = None) -> None:
        """What goes out over the data connection."""
        if self._is_data_refused:
            self._is_data_refused = False
            if file is not None:
                file.close()
            self.respond(NOT_RESUMED)
            return
        super().push_dtp_data(data, isproducer, file, cmd)

    def _send_lines(self, command: str, lines: Iterable[str]) -> None:
        encoded = (f"{line}\r\n".encode("utf-8", "surrogateescape") for line in lines)
        self.push_dtp_data(BufferedIteratorProducer(encoded), isproducer=True, cmd=command)

    def _nodes(self, path: str) -> Iterator[Node]:
        """What a listing of `path` shows: a folder's content, one file, or what matches a pattern in its last part."""
        parent, name = paths.split(path)
        if _MAGIC.search(name):
            matches = re.compile(fnmatch.translate(name[:255])).match
            return (node for node in _all(self._ask(self._here.listing, parent)) if matches(node.name))
        node = self._ask(self._here.stat, path)
        return _all(self._ask(self._here.listing, path)) if node.is_directory else iter((node,))

    def ftp_LIST(self, path: str) -> None:
        """As `ls -l`, in UTC."""
        now = clock.now().timestamp()
        self._send_lines("LIST", (long_name(node, now) for node in self._nodes(path)))

    def ftp_NLST(self, path: str) -> None:
        """Names alone; with the folder in front of them where a pattern had one, so that they can be fetched."""
        self._send_lines("NLST", (node.name for node in self._nodes(path)))

    def ftp_MLSD(self, path: str) -> None:
        """Facts of a folder's content (RFC 3659 7)."""
        node = self._ask(self._here.stat, path)
        if not node.is_directory:
            self.respond("501 This is a file: MLSD lists folders.")
            return
        nodes = _all(self._ask(self._here.listing, path))
        self._send_lines("MLSD", (f"{self._facts(one, path)} {one.name}" for one in nodes))

    def ftp_MLST(self, path: str) -> None:
        """Facts of one name, on the control connection."""
        node = self._ask(self._here.stat, path)
        self.push(f"250-Listing {path}\r\n {self._facts(node, paths.split(path)[0])} {path}\r\n")
        self.respond("250 End.")

    def _facts(self, node: Node, parent: str) -> str:
        is_ours = paths.is_archive(parent) or paths.is_archive(paths.join(parent, node.name))
        values = {
            "type": "dir" if node.is_directory else "file",
            "size": str(node.size),
            "modify": time.strftime("%Y%m%d%H%M%S", time.gmtime(node.mtime)),
            "perm": ("el" if is_ours else "celm") if node.is_directory else ("r" if is_ours else "adfr"),
            "unique": f"{node.sequence:x}"
            if node.sequence
            else f"d{paths.join(parent, node.name).encode().hex()[-32:]}",
        }
        return "".join(f"{fact}={values[fact]};" for fact in self._current_facts)

    # -- files

    def ftp_RETR(self, path: str) -> None:
        """The bytes from REST on, as they are, whatever TYPE says."""
        offset, self._restart_position = self._restart_position, 0
        reading = self._ask(self._here.open, path)
        if offset > reading.item.size:
            self._here.abandon([reading])
            self.respond(f"554 The file has {reading.item.size} bytes.")
            return
        file = Download(self._here, reading, path, offset)
        self.push_dtp_data(FileProducer(file, "i"), isproducer=True, file=file, cmd="RETR")

    def ftp_REST(self, line: str) -> None:
        """Where the next RETR begins."""
        if not re.fullmatch(r"[0-9]{1,18}", line):
            self.respond("501 REST takes a number of bytes.")
            return
        self._restart_position = int(line)
        self.respond(f"350 The next RETR begins at {self._restart_position}.")

    def _file(self, path: str) -> Node:
        node = self._ask(self._here.stat, path)
        if node.is_directory:
            raise Conflict("this is a folder")
        return node

    def ftp_SIZE(self, path: str) -> None:
        """In bytes, whatever TYPE says: nothing is converted."""
        self.respond(f"213 {self._file(path).size}")

    def ftp_MDTM(self, path: str) -> None:
        """The moment of publication, UTC."""
        self.respond(time.strftime("213 %Y%m%d%H%M%S", time.gmtime(self._file(path).mtime)))

    def ftp_HASH(self, path: str) -> None:
        """The SHA-256 under which it was published (draft-bryan-ftpext-hash)."""
        digest = self._ask(self._here.digest, path)
        self.respond(f"213 SHA-256 0-{self._file(path).size} {digest} {path}")

    def ftp_DELE(self, path: str) -> None:
        """A receipt, once it was read in full."""
        self._here.remove(path)
        self.respond("250 Done.")

    def ftp_RNFR(self, path: str) -> None:
        """What RNTO renames."""
        self._ask(self._here.stat, path)
        self._rnfr = path
        self.respond("350 And its new name?")

    def ftp_RNTO(self, path: str) -> None:
        """Any name inside the home that is free."""
        source, self._rnfr = self._rnfr, None
        if source is None:
            self.respond("503 Send RNFR first.")
            return
        self._here.rename(source, path)
        self.respond("250 Done.")

    def ftp_STOR(self, path: str, mode: str = "w") -> None:
        """This folder is for reading."""
        raise Denied("this folder is for reading")

    def ftp_STOU(self, line: str) -> None:
        """See STOR."""
        raise Denied("this folder is for reading")

    # -- folders

    def ftp_CWD(self, path: str) -> None:
        """The folder that relative paths begin in."""
        if not self._ask(self._here.stat, path).is_directory:
            raise Conflict("this is a file")
        self.fs.cwd = path
        self.respond("250 Done.")

    def ftp_MKD(self, path: str) -> None:
        """Under inbox/ only."""
        self._here.make_directory(path)
        quoted = path.replace('"', '""')
        self.respond(f'257 "{quoted}" made.')

    def ftp_RMD(self, path: str) -> None:
        """One that the client made."""
        self._here.remove_directory(path)
        self.respond("250 Done.")

    # -- metadata: accepted, ignored

    def ftp_MFMT(self, path: str, timeval: str) -> None:
        """The time of publication stays; a refusal would mark the whole transfer as failed."""
        at = time.strftime("%Y%m%d%H%M%S", time.gmtime(self._file(path).mtime))
        self.respond(f"213 Modify={at}; {path}")

    def ftp_SITE_CHMOD(self, path: str, mode: str) -> None:
        """As MFMT."""
        self._ask(self._here.stat, path)
        self.respond("200 Noted.")

    def ftp_STAT(self, path: str) -> None:
        """Of the session; listings go over data connections."""
        if path and self.authenticated:
            self.respond("502 Use LIST, or MLST for one name.")
        else:
            super().ftp_STAT("")

    # -- pyftpdlib's own log

    def log(self, msg: str, logfun: Any = None) -> None:
        """Ours says what matters."""

    def log_exception(self, instance: Any) -> None:
        """A defect, with its trace."""
        log.error("ftps.failed", address=self.remote_ip, exc_info=sys.exc_info()[1])

    def respond(self, resp: str, logfun: Any = None) -> None:
        """Control characters in a name would begin a reply of their own."""
        shown = _CONTROL.sub("?", resp.encode("utf-8", "backslashreplace").decode())
        super().respond(shown, logfun=lambda *_: None)


class ImplicitFtpsSession(FtpsSession):
    """TLS from the first byte."""

    is_implicit = True


def _all(listing: Listing) -> Iterator[Node]:
    while nodes := listing.take(500):
        yield from nodes
