"""What runs in a reading worker: `start` once, then `read_file` for each document.

A worker opens no database and no socket; it gets paths and returns facts. Its memory is limited for good, its CPU time
anew for each document: a document that exceeds one of them ends the process (pools.WorkerDied), and nothing else.
"""

import datetime as dt
import os
import resource
import stat

from ..errors import NotFound, Refused, TooLarge, Unavailable
from . import read, sidecar
from .read import Reading, ReadLimits

_limits: ReadLimits | None = None


def start(limits: ReadLimits) -> None:
    """Limit this process, and load what every document needs."""
    global _limits
    _limits = limits
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    read.prepare()


def read_file(path: str, sidecar_json: bytes | None, xml_target: str, today: dt.date) -> Reading:
    """Read the document at `path`; the XML inside is written to `xml_target`, a new file, if there is one.

    Refused and TooLarge say why not; NotFound: it is gone; Unavailable: it changed while it was read, or another
    process began to read it before.
    """
    assert _limits is not None, "start comes first"
    _limit_cpu(_limits.cpu_seconds)
    beside = None if sidecar_json is None else sidecar.parse(sidecar_json)
    reading, xml = read.read(_regular_file(path, _limits.max_bytes), beside, _limits, today)
    if xml is not None:
        _write_new(xml_target, xml)
    return reading


def _write_new(path: str, content: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Unavailable("its reading was begun before; try again", code="begun_before") from None
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _limit_cpu(seconds: float) -> None:
    """SIGXCPU ends the process once this document took that long, wherever it is: no library's loop can ignore it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def _regular_file(path: str, limit: int) -> bytes:
    """The bytes of a regular file, at most `limit`; a link, FIFO or device is neither followed nor waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("the file is gone") from None
    except OSError as error:
        raise Refused(f"not a readable regular file ({error.strerror})", code="not_regular") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise Refused("not a regular file", code="not_regular")
    with os.fdopen(fd, "rb") as file:
        if status.st_size > limit:
            raise TooLarge(f"the document has {status.st_size} bytes, over the limit of {limit / 1_000_000:g} MB")
        content = file.read(limit + 1)
    if len(content) != status.st_size:
        raise Unavailable("the file changed while it was read; try again", code="file_changed")
    return content
