"""A document's upload: multipart/form-data (RFC 7578) streamed to a scratch file, part by part, under limits.

The form has one `file` and at most one `sidecar` (JSON); anything else is refused, so that a misspelt part is not
a document without its sidecar. Bytes go to disk in a pool's thread; the loop never waits for the disk. What was
written is removed again when the upload fails. Failures: Refused (malformed), TooLarge, Unavailable.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ..errors import Refused, TooLarge, Unavailable
from ..intake.sidecar import MAX_BYTES as MAX_SIDECAR
from ..pools import ThreadPool

_HEADER_BYTES = 8 * 1024
_FLUSH_BYTES = 1 << 20


@dataclass(frozen=True)
class Upload:
    """A whole form: the file at `path` is the receiver's to take or remove."""

    path: Path
    size: int
    sha256: str
    sidecar: bytes | None


@dataclass
class _Part:
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    name: str = ""


class _Form:
    """The parser's callbacks: sidecar kept in memory, the file's bytes handed out by `take`."""

    def __init__(self, boundary: bytes, max_file_bytes: int) -> None:
        self.names: list[str] = []
        self.sidecar = bytearray()
        self.file_size = 0
        self.file_digest = hashlib.sha256()
        self.ended = False
        self._max = max_file_bytes
        self._waiting = bytearray()
        self._part = _Part()
        self._headers = 0
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def take(self, at_least: int) -> bytes:
        """The file's bytes that came since the last call, if there are enough to be worth a write."""
        if len(self._waiting) < at_least:
            return b""
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken

    def _part_begins(self) -> None:
        self._part = _Part()
        self._headers = 0

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._part.header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._part.value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._headers += size
        if self._headers > _HEADER_BYTES:
            raise _malformed("a part's header is too long")

    def _header_ends(self) -> None:
        if self._part.header.lower() == b"content-disposition":
            self._part.disposition = bytes(self._part.value)
        self._part.header.clear()
        self._part.value.clear()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in ("file", "sidecar"):
            raise _malformed(f"the form has `file` and `sidecar` only, not {name[:40]!r}")
        if name in self.names:
            raise _malformed(f"the form has two parts named {name!r}: one document a request")
        self.names.append(name)
        self._part.name = name

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == "sidecar":
            self.sidecar += data[start:end]
            if len(self.sidecar) > MAX_SIDECAR:
                raise TooLarge(f"a sidecar may have {MAX_SIDECAR} bytes at most", code="sidecar_too_large")
            return
        self.file_size += end - start
        if self.file_size > self._max:
            raise TooLarge(f"a document may have {self._max} bytes at most")
        self.file_digest.update(data[start:end])
        self._waiting += data[start:end]

    def _end(self) -> None:
        self.ended = True


async def read(
    content_type: str, body: AsyncIterator[bytes], scratch: Callable[[], Path], max_file_bytes: int, pool: ThreadPool
) -> Upload:
    """The form in `body`; `scratch` names the file to write, which exists only when this returns."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise Refused("a document is posted as multipart/form-data with a part named `file`", code="media_type")
    if not options.get(b"boundary"):
        raise _malformed("the Content-Type names no boundary of the form's parts")
    form = _Form(options[b"boundary"], max_file_bytes)
    path = scratch()
    try:
        await pool.run(_append, path, b"", os.O_CREAT | os.O_EXCL)
        async for chunk in body:
            form.parser.write(chunk)
            if waiting := form.take(_FLUSH_BYTES):
                await pool.run(_append, path, waiting)
        if not form.ended:
            raise _malformed("the form ends early")
        if "file" not in form.names:
            raise _malformed("the form has no part named `file`")
        await pool.run(_append, path, form.take(0))
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, FormParserError):
            raise _malformed("the body is not multipart/form-data as its header says") from None
        raise
    sidecar = bytes(form.sidecar) if "sidecar" in form.names else None
    return Upload(path, form.file_size, form.file_digest.hexdigest(), sidecar)


def _append(path: Path, content: bytes, flags: int = 0) -> None:
    """Opened anew each time, never created twice: a write that a cancelled request left behind finds no file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> Unavailable:
    return Unavailable(f"the store could not keep the bytes ({error.strerror}); try again")


def _malformed(message: str) -> Refused:
    return Refused(message, code="form")
