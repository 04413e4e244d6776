"""What FTP commands do to a drop folder (RFC 959, 3659): lists, reads, renames, removes, on the session's Visit.

There is no file system behind it: `Home` knows paths only, so no method of pyftpdlib can reach the host's disk. Bytes
are never converted (TYPE A changes nothing), since they are sealed. Changes of metadata are accepted and ignored, as
ERPs send them after each transfer. Errors of the folder become replies in ftps_control.py.
"""

import fnmatch
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pyftpdlib.ioloop  # noqa: F401 -- first: it imports asyncore without its warning
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.handlers.ftp.producers import BufferedIteratorProducer, FileProducer

from .. import clock
from ..dropfolder import paths
from ..dropfolder.nodes import Listing, Node
from ..dropfolder.uploads import RESUMED
from ..dropfolder.visit import Visit
from ..errors import Conflict, Denied
from .ftps_data import Download, Incoming
from .long_name import long_name

if TYPE_CHECKING:
    from .ftps_control import FtpsSession

T = TypeVar("T")
FACTS = ["type", "size", "modify", "perm", "unique"]
_MAGIC = re.compile(r"[*?\[]")


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


class FolderCommands(TLS_FTPHandler):  # type: ignore[misc]
    """The commands of a session that has logged in."""

    _visit: Visit | None
    _restart_position: int
    _rnfr: str | None

    def _ask(self, question: Callable[[str], T], path: str) -> T:
        assert self._visit is not None
        return self._visit.ask(question, path)

    @property
    def _here(self) -> Visit:
        assert self._visit is not None
        return self._visit

    # -- listings

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
        is_ours = not self._here.is_writable(paths.join(parent, node.name))
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
        if offset > reading.size:
            self._here.abandon([reading])
            self.respond(f"554 The file has {reading.size} bytes.")
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
        """A file, from its first byte to its last, as they are; APPE (mode `a`) and REST would resume one."""
        offset, self._restart_position = self._restart_position, 0
        if offset or mode != "w":
            raise Denied(RESUMED)
        self.take_dtp_data(Incoming(self._here.create(path)))

    def ftp_STOU(self, line: str) -> None:
        """Names are the client's to choose."""
        raise Denied("send a file under a name of its own, with STOR")

    # -- folders

    def ftp_CWD(self, path: str) -> None:
        """The folder that relative paths begin in."""
        if not self._ask(self._here.stat, path).is_directory:
            raise Conflict("this is a file")
        self.fs.cwd = path
        self.respond("250 Done.")

    def ftp_MKD(self, path: str) -> None:
        """Under inbox/ and sandbox/."""
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
        """Of the session, once it has logged in; listings go over data connections."""
        if not self.authenticated:
            self.respond("530 Log in first.")
        elif path:
            self.respond("502 Use LIST, or MLST for one name.")
        else:
            super().ftp_STAT("")


def _all(listing: Listing) -> Iterator[Node]:
    while nodes := listing.take(500):
        yield from nodes
