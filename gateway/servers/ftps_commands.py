"""What FTP commands do to a drop folder (RFC 959, 3659): lists, reads, renames, removes, on the session's Visit.

There is no file system behind it: `Home` knows paths only, so no method of pyftpdlib can reach the host's disk. Bytes
are never converted (TYPE A changes nothing), since they are sealed. Changes of metadata are accepted and ignored, as
ERPs send them after each transfer. Questions that memory answers are answered at once; everything else is an errand,
and the session waits for it (`FtpsSession.wait_for`). Errors of the folder become replies in ftps_control.py.
"""

import fnmatch
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pyftpdlib.ioloop  # noqa: F401 -- first: it imports asyncore without its warning
from pyftpdlib.handlers import TLS_FTPHandler

from .. import clock
from ..dropfolder import paths
from ..dropfolder.nodes import File, Listing, Node
from ..dropfolder.uploads import RESUMED, Upload
from ..dropfolder.visit import Visit
from ..errors import Conflict, Denied
from .ftps_cargo import Cargo, Download, Incoming, Lines
from .long_name import long_name

if TYPE_CHECKING:
    from .ftps_control import FtpsSession

T = TypeVar("T")
FACTS = ["type", "size", "modify", "perm", "unique"]
_MAGIC = re.compile(r"[*?\[]")
DONE = "250 Done."


class Home:
    """Paths inside the client's home, as pyftpdlib asks for them. Nothing else: it has no file system."""

    def __init__(self, session: "FtpsSession", visit: Visit) -> None:
        self._visit = visit
        self.cwd = "/"
        self.root = "/"
        self.cmd_channel: FtpsSession | None = session

    def ftp2fs(self, path: str) -> str:
        """What a client wrote, absolute."""
        whole = path if path.startswith("/") else paths.join(self.cwd, path)
        return self._visit.place(whole.encode("utf-8", "surrogateescape"))

    def fs2ftp(self, path: str) -> str:
        """The same: the home is the root."""
        return path

    def realpath(self, path: str) -> str:
        """There are no links."""
        return path

    def validpath(self, _path: str) -> bool:
        """`ftp2fs` makes no others."""
        return True


class FolderCommands(TLS_FTPHandler, ABC):  # type: ignore[misc]
    """The commands of a session that has logged in."""

    _visit: Visit | None
    _restart_position: int
    _rnfr: str | None

    @abstractmethod
    def wait_for(
        self,
        call: Callable[[], T],
        then: Callable[[T], None],
        unwanted: Callable[[T], object] = lambda _: None,
        failed: Callable[[Exception], None] | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        """See FtpsSession."""

    @abstractmethod
    def transfer(self, cargo: Cargo) -> None:
        """See Transfers."""

    @property
    @abstractmethod
    def can_transfer(self) -> bool:
        """See Transfers."""

    @abstractmethod
    def refuse_transfer(self) -> None:
        """See Transfers."""

    def _ask(self, path: str, question: Callable[[str], T], then: Callable[[T], None]) -> None:
        """`then` with the answer to a question about a path."""
        visit = self._here
        if visit.is_at_hand(path):
            then(question(path))
        else:
            self.wait_for(lambda: visit.ask(question, path), then)

    def _do(self, call: Callable[[], None], answer: str = DONE) -> None:
        self.wait_for(call, lambda _: self.respond(answer))

    @property
    def _here(self) -> Visit:
        assert self._visit is not None
        return self._visit

    # -- listings

    def _list(self, path: str, line: Callable[[Node], str]) -> None:
        """What a listing of `path` shows: a folder's content, one file, or what matches a pattern in its last part."""
        parent, name = paths.split(path)
        if _MAGIC.search(name):
            matches = re.compile(fnmatch.translate(name[:255])).match
            self._ask(
                parent,
                self._here.listing,
                lambda listing: self.transfer(Lines(listing, line, lambda node: matches(node.name))),
            )
        else:
            self._ask(path, self._content, lambda listing: self.transfer(Lines(listing, line, _every)))

    def _content(self, path: str) -> Listing:
        node = self._here.stat(path)
        return self._here.listing(path) if node.is_directory else Listing([node])

    def ftp_LIST(self, path: str) -> None:
        """As `ls -l`, in UTC."""
        now = clock.now().timestamp()
        self._list(path, lambda node: long_name(node, now))

    def ftp_NLST(self, path: str) -> None:
        """Names alone."""
        self._list(path, lambda node: node.name)

    def ftp_MLSD(self, path: str) -> None:
        """Facts of a folder's content (RFC 3659 7)."""
        self._ask(path, self._content_of_folder, lambda listing: self._send_facts(path, listing))

    def _content_of_folder(self, path: str) -> Listing | None:
        return self._here.listing(path) if self._here.stat(path).is_directory else None

    def _send_facts(self, path: str, listing: Listing | None) -> None:
        if listing is None:
            self.respond("501 This is a file: MLSD lists folders.")
        else:
            self.transfer(Lines(listing, lambda node: f"{self._facts(node, path)} {node.name}", _every))

    def ftp_MLST(self, path: str) -> None:
        """Facts of one name, on the control connection."""
        parent = paths.split(path)[0]
        self._ask(
            path,
            self._here.stat,
            lambda node: self.respond_lines(f"250-Listing {path}", f" {self._facts(node, parent)} {path}", "250 End."),
        )

    @abstractmethod
    def respond_lines(self, *lines: str) -> None:
        """See FtpsSession."""

    def _facts(self, node: Node, parent: str) -> str:
        is_ours = not self._here.is_writable(paths.join(parent, node.name))
        values = {
            "type": "dir" if node.is_directory else "file",
            "size": str(node.size),
            "modify": _moment(node),
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
        visit = self._here
        if not self.can_transfer:  # the file stays shut: clients without end ask so
            self._ask(path, self._file, lambda _: self.refuse_transfer())
        elif visit.is_open_at_hand(path):
            self._send_file(visit.open(path), offset)
        else:
            self.wait_for(lambda: visit.ask(visit.open, path), lambda file: self._send_file(file, offset), File.release)

    def _send_file(self, file: File, offset: int) -> None:
        if offset > file.size:
            self.wait_for(
                lambda: self._here.abandon([file]), lambda _: self.respond(f"554 The file has {file.size} bytes.")
            )
        else:
            self.transfer(Download(self._here, file, offset))

    def ftp_REST(self, line: str) -> None:
        """Where the next RETR begins."""
        if not re.fullmatch(r"[0-9]{1,18}", line):
            self.respond("501 REST takes a number of bytes.")
            return
        self._restart_position = int(line)
        self.respond(f"350 The next RETR begins at {self._restart_position}.")

    def _file(self, path: str) -> Node:
        node = self._here.stat(path)
        if node.is_directory:
            raise Conflict("this is a folder")
        return node

    def ftp_SIZE(self, path: str) -> None:
        """In bytes, whatever TYPE says: nothing is converted."""
        self._ask(path, self._file, lambda node: self.respond(f"213 {node.size}"))

    def ftp_MDTM(self, path: str) -> None:
        """The moment of publication, UTC."""
        self._ask(path, self._file, lambda node: self.respond(f"213 {_moment(node)}"))

    def ftp_HASH(self, path: str) -> None:
        """The SHA-256 under which it was published (draft-bryan-ftpext-hash)."""
        self._ask(
            path,
            lambda asked: (self._here.digest(asked), self._file(asked).size),
            lambda answer: self.respond(f"213 SHA-256 0-{answer[1]} {answer[0]} {path}"),
        )

    def ftp_DELE(self, path: str) -> None:
        """A receipt, once it was read in full."""
        self._do(lambda: self._here.remove(path))

    def ftp_RNFR(self, path: str) -> None:
        """What RNTO renames."""
        self._ask(path, self._here.stat, lambda _: self._rename_next(path))

    def _rename_next(self, path: str) -> None:
        self._rnfr = path
        self.respond("350 And its new name?")

    def ftp_RNTO(self, path: str) -> None:
        """Any name inside the home that is free."""
        source, self._rnfr = self._rnfr, None
        if source is None:
            self.respond("503 Send RNFR first.")
            return
        self._do(lambda: self._here.rename(source, path))

    def ftp_STOR(self, path: str, mode: str = "w") -> None:
        """A file, from its first byte to its last, as they are; APPE (mode `a`) and REST would resume one."""
        offset, self._restart_position = self._restart_position, 0
        if offset or mode != "w":
            raise Denied(RESUMED)
        self.wait_for(lambda: self._here.create(path), lambda upload: self.transfer(Incoming(upload)), Upload.release)

    def ftp_STOU(self, line: str) -> None:
        """Names are the client's to choose."""
        raise Denied("send a file under a name of its own, with STOR")

    # -- folders

    def ftp_CWD(self, path: str) -> None:
        """The folder that relative paths begin in."""
        self._ask(path, self._here.stat, lambda node: self._go_to(path, node))

    def _go_to(self, path: str, node: Node) -> None:
        if not node.is_directory:
            raise Conflict("this is a file")
        self.fs.cwd = path
        self.respond(DONE)

    def ftp_MKD(self, path: str) -> None:
        """Under inbox/ and sandbox/."""
        quoted = path.replace('"', '""')
        self._do(lambda: self._here.make_directory(path), f'257 "{quoted}" made.')

    def ftp_RMD(self, path: str) -> None:
        """One that the client made."""
        self._do(lambda: self._here.remove_directory(path))

    # -- metadata: accepted, ignored

    def ftp_MFMT(self, path: str, timeval: str) -> None:
        """The time of publication stays; a refusal would mark the whole transfer as failed."""
        self._ask(path, self._file, lambda node: self.respond(f"213 Modify={_moment(node)}; {path}"))

    def ftp_SITE_CHMOD(self, path: str, mode: str) -> None:
        """As MFMT."""
        self._ask(path, self._here.stat, lambda _: self.respond("200 Noted."))

    def ftp_STAT(self, path: str) -> None:
        """Of the session, once it has logged in; listings go over data connections."""
        if not self.authenticated:
            self.respond("530 Log in first.")
        elif path:
            self.respond("502 Use LIST, or MLST for one name.")
        else:
            state = "open" if self.data_channel is not None else "closed"
            self.respond_lines(
                "211-Of this session:", f" Logged in as {self.username}.", f" Data connection {state}.", "211 End."
            )


def _every(_node: Node) -> bool:
    return True


def _moment(node: Node) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(node.mtime))
