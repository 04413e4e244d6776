"""The bytes of SFTP version 3 (draft-ietf-secsh-filexfer-02): packets to take apart and to build. No I/O.

A packet is its length (uint32), its type (byte), and, but for INIT and VERSION, the request's id (uint32). What
cannot be taken apart raises Malformed; a packet over MAX_PACKET is skipped without being kept.
"""

import datetime as dt
import functools
import stat
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from ..dropfolder.nodes import Encoder, Node
from .long_name import long_name

VERSION = 3
MAX_PACKET = 256 * 1024  # as OpenSSH
MAX_NAMES = 32 * 1024  # of a NAME: what every client takes (section 3: 34,000), and one packet of its channel
MAX_SKIPPED = 16 * 1024 * 1024  # a "length" beyond it is no SFTP at all

FILE_MODE = stat.S_IFREG | 0o440
DIRECTORY_MODE = stat.S_IFDIR | 0o750
_ATTRS = struct.Struct(">IQIIIII")
_ATTRS_FLAGS = 0x1 | 0x2 | 0x4 | 0x8  # size, uid and gid, permissions, times
_LAST_MTIME = 0xFFFF_FFFF
_NAMES_HEAD = 13  # bytes of NAME before its names: length, type, id, count
_DAY = 86_400
_U32 = struct.Struct(">I")
_HEAD = struct.Struct(">IB")
_U64 = struct.Struct(">Q")


class Type(IntEnum):
    """Packet types, section 3."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Status(IntEnum):
    """Status codes, section 7."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    OP_UNSUPPORTED = 8


class Malformed(Exception):
    """A packet whose fields do not fit its length."""


class Fields:
    """The fields of one packet, taken one after the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def u32(self) -> int:
        """A uint32."""
        return int(self._unpack(_U32))

    def u64(self) -> int:
        """A uint64."""
        return int(self._unpack(_U64))

    def string(self) -> bytes:
        """A string: uint32 length, bytes."""
        length = self.u32()
        end = self._position + length
        if end > len(self._data):
            raise Malformed
        value, self._position = self._data[self._position : end], end
        return value

    def _unpack(self, form: struct.Struct) -> int:
        try:
            (value,) = form.unpack_from(self._data, self._position)
        except struct.error:
            raise Malformed from None
        self._position += form.size
        return int(value)


class Request(NamedTuple):
    """One packet: `body` begins with the type; `is_whole` is False for one that was too long to keep."""

    body: bytes
    is_whole: bool = True


class Splitter:
    """Cuts the stream of a channel into packets."""

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0

    @property
    def held(self) -> int:
        """Bytes of a packet that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Request]:
        """The packets that are complete with these bytes. Malformed: this is not SFTP."""
        size = len(data) - 4
        if not self._skip and not self._buffer and 1 <= size <= MAX_PACKET and int.from_bytes(data[:4], "big") == size:
            return iter((Request(data[4:]),))  # one packet as a whole: a client that waits for each answer
        return self._feed(data)

    def _feed(self, data: bytes) -> Iterator[Request]:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        buffer = self._buffer + data if self._buffer else data
        start = 0
        while (request := self._cut(buffer, start)) is not None:
            body, start = request
            yield body
        self._buffer = buffer[start:]

    def _cut(self, buffer: bytes, start: int) -> tuple[Request, int] | None:
        if len(buffer) - start < 4:
            return None
        (length,) = _U32.unpack_from(buffer, start)
        end = start + 4 + length
        if not 1 <= length <= MAX_SKIPPED:
            raise Malformed
        if length > MAX_PACKET and len(buffer) - start >= 9:
            # Kept is what an answer needs: type and id. The rest is counted away.
            self._skip = max(end - len(buffer), 0)
            return Request(buffer[start + 4 : start + 9], is_whole=False), min(end, len(buffer))
        if end > len(buffer):
            return None
        return Request(buffer[start + 4 : end]), end


def packet(kind: Type, *parts: bytes) -> bytes:
    """A whole packet of these parts."""
    return b"".join((_HEAD.pack(1 + sum(map(len, parts)), kind), *parts))


def string(value: bytes) -> bytes:
    """A string field."""
    return _U32.pack(len(value)) + value


def version(extensions: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The answer to INIT."""
    pairs = (string(name) + string(value) for name, value in extensions)
    return packet(Type.VERSION, _U32.pack(VERSION), *pairs)


def status(request_id: bytes, code: Status, message: str = "") -> bytes:
    """A status with its text, in no language in particular."""
    return packet(Type.STATUS, request_id, _U32.pack(code), string(message.encode()), string(b""))


def attrs(node: Node) -> bytes:
    """Size, owner (0), permissions with the file's type, times. A folder has size 0."""
    _, is_directory, size, mtime, _ = node
    if mtime > _LAST_MTIME:
        mtime = _LAST_MTIME
    return _ATTRS.pack(_ATTRS_FLAGS, size, 0, 0, DIRECTORY_MODE if is_directory else FILE_MODE, mtime, mtime)


def names_on(now: dt.datetime) -> Encoder:
    """Pages of NAME: file name, long name and attrs of each, as many as MAX_NAMES bytes hold with all before them.

    They say the same for a whole day: a long name passes from time to year with the day.
    """
    day = int(now.timestamp()) // _DAY
    return Encoder(functools.partial(_names, now=(day + 1) * _DAY - 1), day)


def _names(nodes: Iterator[Node], now: int) -> tuple[int, bytes]:
    names: list[bytes] = []
    room = MAX_NAMES - _NAMES_HEAD
    u32 = _U32.pack
    for node in nodes:
        name, line = node.name.encode(), long_name(node, now).encode()
        one = b"".join((u32(len(name)), name, u32(len(line)), line, attrs(node)))
        room -= len(one)
        if room < 0 and names:
            break
        names.append(one)
    return len(names), b"".join(names)


def path_name(path: str) -> bytes:
    """The body of the NAME that answers REALPATH: one name, no attributes."""
    value = string(path.encode())
    return _U32.pack(1) + value + value + _U32.pack(0)
