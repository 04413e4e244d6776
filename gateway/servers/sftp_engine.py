"""SFTP version 3 (draft-ietf-secsh-filexfer-02) over a Visit, without I/O: a request in, an answer out.

An answer is bytes, or a Call for what can wait for the database: the channel runs it elsewhere and brings the
outcome to `finish`. The caller answers requests one after the other, in their order; so a READ sees what an
earlier request did, and a CLOSE comes after every byte before it.

Clients read, remove, rename, and make folders under inbox/. Changes of metadata are accepted and ignored, as
ERPs send them after each transfer. What they write goes where the Visit lets it; links do not exist. Names of
OpenSSH's extensions are answered where they mean something here. Every error becomes a status by the one table below.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from .. import clock
from ..dropfolder.nodes import File, Listing, Node
from ..dropfolder.uploads import RESUMED, Upload
from ..dropfolder.visit import Visit
from ..errors import Conflict, Denied, GatewayError, NotFound, Refused, Unavailable
from . import sftp_packets as wire
from .limits import Handles
from .sftp_packets import Fields, Malformed, Request, Status, Type

log = structlog.get_logger(__name__)

MAX_READ = 255 * 1024  # a whole answer stays under what OpenSSH's client accepts
_DATA_HEAD = 13  # bytes of DATA before its data: length, type, id, length
_READ, _WRITE, _APPEND, _CREAT, _TRUNC, _EXCL = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20  # SSH_FXF_…, section 6.3
_SIZE = 0x1  # SSH_FILEXFER_ATTR_SIZE, section 5

STATUS: dict[type[GatewayError], Status] = {
    NotFound: Status.NO_SUCH_FILE,
    Denied: Status.PERMISSION_DENIED,
    Refused: Status.FAILURE,
    Conflict: Status.FAILURE,
    Unavailable: Status.FAILURE,
}
EXTENSIONS = (
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
    (b"copy-data", b"1"),
)


@dataclass(frozen=True)
class Call:
    """Something to run where it may wait; `answer` makes the answer of its result, `failed` is told that it failed."""

    request_id: bytes
    run: Callable[[], Any]
    answer: Callable[[Any], bytes]
    failed: Callable[[], None] = lambda: None


Handle = File | Listing
Answer = bytes | Call


class Engine:
    """The handles of one channel, and what each request does."""

    def __init__(self, visit: Visit, limit: Handles, *, pages: int = 1) -> None:
        """VERSION is answered only once the visit has begun. `limit`: the session's, shared by its channels.

        `pages` of a listing go into one answer: more than one only to clients that are known to take it.
        """
        self._pages = pages
        self._visit = visit
        self._limit = limit
        self._handles: dict[bytes, Handle] = {}
        self._next_handle = 0
        self._is_begun = False
        self.position = 0  # bytes of all answers so far: where the next one begins in the channel's stream

    @property
    def open_files(self) -> int:
        """Files that the client holds open."""
        return sum(isinstance(handle, File) for handle in self._handles.values())

    def taken(self, count: int) -> None:
        """The client has taken so many bytes of the channel's stream."""
        for handle in self._handles.values():
            if isinstance(handle, File):
                handle.arrived(count)

    def leave(self) -> list[File]:
        """The files that were never closed, for `Visit.abandon`; the engine holds nothing any more."""
        readings = [handle for handle in self._handles.values() if isinstance(handle, File)]
        self._limit.take(-len(self._handles))
        self._handles.clear()
        return readings

    def answer(self, request: Request) -> Answer:
        """The answer to one request. Malformed: this client does not speak SFTP."""
        answer = self._answer(request)
        if isinstance(answer, bytes):
            self.position += len(answer)
        return answer

    def _answer(self, request: Request) -> Answer:
        kind = request.body[0]
        if not self._is_begun:
            return self._init(request)
        request_id = request.body[1:5]
        if len(request_id) < 4 or kind == Type.INIT:
            raise Malformed
        try:
            if not request.is_whole:
                raise Refused("this request is too long", code="packet_too_long")
            handler = _HANDLERS.get(kind)
            if handler is None:
                return wire.status(request_id, Status.OP_UNSUPPORTED, "this operation does not exist here")
            return handler(self, request_id, Fields(request.body, 5))
        except Malformed:
            return wire.status(request_id, Status.BAD_MESSAGE, "this request cannot be read")
        except Exception as error:  # noqa: BLE001 - whatever happens, a request has an answer
            return failure(request_id, error)

    def finish(self, call: Call, result: Any) -> bytes:
        """The answer to a Call that returned."""
        try:
            answer = call.answer(result)
        except Exception as error:  # noqa: BLE001 - as above
            answer = failure(call.request_id, error)
        self.position += len(answer)
        return answer

    def _init(self, request: Request) -> Answer:
        if request.body[0] != Type.INIT or Fields(request.body, 1).u32() < wire.VERSION:
            raise Malformed
        self._is_begun = True
        if self._visit.begin_at_once():
            return wire.version(EXTENSIONS)
        return Call(b"", self._visit.begin, lambda _: wire.version(EXTENSIONS))

    # -- questions

    def _ask(
        self, request_id: bytes, path: str, question: Callable[[str], Any], answer: Callable[[Any], bytes]
    ) -> Answer:
        if self._visit.is_at_hand(path):
            return answer(question(path))
        return Call(request_id, lambda: self._visit.ask(question, path), answer)

    def _stat(self, request_id: bytes, fields: Fields) -> Answer:
        path = self._visit.place(fields.string())
        return self._ask(
            request_id, path, self._visit.stat, lambda node: wire.packet(Type.ATTRS, request_id, wire.attrs(node))
        )

    def _fstat(self, request_id: bytes, fields: Fields) -> Answer:
        handle = self._handle(fields)
        is_directory = isinstance(handle, Listing)
        size, mtime = (0, 0) if isinstance(handle, Listing) else (handle.size, handle.mtime)
        return wire.packet(Type.ATTRS, request_id, wire.attrs(Node("", is_directory, size, mtime)))

    def _realpath(self, request_id: bytes, fields: Fields) -> Answer:
        path = self._visit.place(fields.string())
        return wire.packet(Type.NAME, request_id, wire.path_name(path))

    def _open(self, request_id: bytes, fields: Fields) -> Answer:
        path, flags = self._visit.place(fields.string()), fields.u32()
        self._limit.check()
        if flags != _READ:
            return self._create(request_id, path, flags)
        if self._visit.is_open_at_hand(path):
            return self._add(request_id, self._visit.open(path))
        return Call(
            request_id,
            lambda: self._visit.ask(self._visit.open, path),
            lambda reading: self._add(request_id, reading),
        )

    def _create(self, request_id: bytes, path: str, flags: int) -> Answer:
        """A file to be written, from its beginning."""
        if flags & _APPEND:
            raise Denied(RESUMED)
        if not (flags & _WRITE and flags & _CREAT):
            raise Denied("a file is written as a whole: open it to be created")
        is_new, truncates = bool(flags & _EXCL), bool(flags & _TRUNC)
        return Call(
            request_id,
            lambda: self._visit.create(path, is_new=is_new, truncates=truncates),
            lambda upload: self._add(request_id, upload),
        )

    def _opendir(self, request_id: bytes, fields: Fields) -> Answer:
        path = self._visit.place(fields.string())
        self._limit.check()
        return self._ask(request_id, path, self._visit.listing, lambda listing: self._add(request_id, listing))

    # -- handles

    def _add(self, request_id: bytes, handle: Handle) -> bytes:
        self._limit.take()
        self._next_handle += 1
        key = self._next_handle.to_bytes(8, "big")
        self._handles[key] = handle
        return wire.packet(Type.HANDLE, request_id, wire.string(key))

    def _handle(self, fields: Fields) -> Handle:
        return self._handle_of(fields.string())

    def _handle_of(self, key: bytes) -> Handle:
        handle = self._handles.get(key)
        if handle is None:
            raise Refused("no such handle", code="handle")
        return handle

    def _read(self, request_id: bytes, fields: Fields) -> Answer:
        handle, offset, size = self._handle(fields), fields.u64(), fields.u32()
        if not isinstance(handle, File):
            raise Refused("this is a folder", code="handle")
        data = handle.read(offset, min(size, MAX_READ), self.position + _DATA_HEAD)
        if not data:
            return wire.status(request_id, Status.EOF, "end of file")
        return wire.packet(Type.DATA, request_id, len(data).to_bytes(4, "big"), data)

    def _readdir(self, request_id: bytes, fields: Fields) -> Answer:
        handle = self._handle(fields)
        if not isinstance(handle, Listing):
            raise Refused("this is a file", code="handle")
        encoder = wire.names_on(clock.now())
        if handle.is_at_hand:
            return _names(request_id, *handle.pages(encoder, self._pages))
        return Call(request_id, lambda: handle.pages(encoder, 1), lambda page: _names(request_id, *page))

    def _close(self, request_id: bytes, fields: Fields) -> Answer:
        key = fields.string()
        handle = self._handle_of(key)
        if isinstance(handle, Upload):
            # Kept or refused, it is over.
            return Call(request_id, handle.finish, lambda _: self._closed(request_id, key), lambda: self._forget(key))
        if isinstance(handle, File):
            if self._visit.close_at_once(handle):
                return self._closed(request_id, key)
            return Call(request_id, lambda: self._visit.close(handle), lambda _: self._closed(request_id, key))
        if self._visit.has_seen_news:
            return Call(request_id, self._visit.record_shown, lambda _: self._closed(request_id, key))
        return self._closed(request_id, key)

    def _forget(self, key: bytes) -> None:
        del self._handles[key]
        self._limit.take(-1)

    def _closed(self, request_id: bytes, key: bytes) -> bytes:
        self._forget(key)
        return wire.status(request_id, Status.OK)

    # -- what a client does

    def _do(self, request_id: bytes, run: Callable[[], None]) -> Call:
        return Call(request_id, run, lambda _: wire.status(request_id, Status.OK))

    def _remove(self, request_id: bytes, fields: Fields) -> Answer:
        path = self._visit.place(fields.string())
        return self._do(request_id, lambda: self._visit.remove(path))

    def _rename(self, request_id: bytes, fields: Fields) -> Answer:
        path, target = self._visit.place(fields.string()), self._visit.place(fields.string())
        return self._do(request_id, lambda: self._visit.rename(path, target))

    def _mkdir(self, request_id: bytes, fields: Fields) -> Answer:
        path = self._visit.place(fields.string())
        return self._do(request_id, lambda: self._visit.make_directory(path))

    def _rmdir(self, request_id: bytes, fields: Fields) -> Answer:
        path = self._visit.place(fields.string())
        return self._do(request_id, lambda: self._visit.remove_directory(path))

    def _setstat(self, request_id: bytes, fields: Fields) -> Answer:
        path, size = self._visit.place(fields.string()), _wanted_size(fields)
        return self._ask(request_id, path, self._visit.stat, lambda node: _unchanged(request_id, node.size, size))

    def _fsetstat(self, request_id: bytes, fields: Fields) -> Answer:
        handle, size = self._handle(fields), _wanted_size(fields)
        if isinstance(handle, Upload) and size is not None:
            return self._do(request_id, lambda: handle.set_size(size))
        if isinstance(handle, Upload):
            return wire.status(request_id, Status.OK)
        return _unchanged(request_id, 0 if isinstance(handle, Listing) else handle.size, size)

    def _fsync(self, request_id: bytes, fields: Fields) -> Answer:
        self._handle(fields)
        return wire.status(request_id, Status.OK)

    def _write(self, request_id: bytes, fields: Fields) -> Answer:
        """What follows the data in the packet is padding, as rclone sends it (up to 1.60)."""
        handle, offset, data = self._handle(fields), fields.u64(), fields.string()
        if not isinstance(handle, Upload):
            raise Denied("this file is for reading")
        return self._do(request_id, lambda: handle.write(offset, data))

    # -- extensions of OpenSSH (its PROTOCOL file, section 4)

    def _extended(self, request_id: bytes, fields: Fields) -> Answer:
        handler = _EXTENDED.get(fields.string())
        if handler is None:
            return wire.status(request_id, Status.OP_UNSUPPORTED, "this extension does not exist here")
        return handler(self, request_id, fields)

    def _limits(self, request_id: bytes, _fields: Fields) -> Answer:
        limits = struct.pack(">QQQQ", wire.MAX_PACKET, MAX_READ, MAX_READ, self._limit.limit)
        return wire.packet(Type.EXTENDED_REPLY, request_id, limits)

    def _statvfs(self, request_id: bytes, fields: Fields) -> Answer:
        path = self._visit.place(fields.string())
        return self._ask(request_id, path, self._visit.space, lambda space: _space(request_id, *space))

    def _fstatvfs(self, request_id: bytes, fields: Fields) -> Answer:
        handle = self._handle(fields)
        path = handle.path if isinstance(handle, Upload) else "/"
        return self._ask(request_id, path, self._visit.space, lambda space: _space(request_id, *space))

    def _copy_data(self, request_id: bytes, fields: Fields) -> Answer:
        """draft-ietf-secsh-filexfer-extensions-00 section 7, of what is the client's own: no document is read so."""
        source, offset, length = self._handle(fields), fields.u64(), fields.u64()
        target, place = self._handle(fields), fields.u64()
        if not (isinstance(source, File) and source.may_be_copied and isinstance(target, Upload)):
            raise Denied("only a file that you put here can be copied; a document is read")
        return self._do(request_id, lambda: target.copy(source, offset, length, place))


def _names(request_id: bytes, count: int, names: bytes) -> bytes:
    """Some names; none are the end."""
    if not count:
        return wire.status(request_id, Status.EOF, "end of list")
    return wire.packet(Type.NAME, request_id, count.to_bytes(4, "big"), names)


def _wanted_size(fields: Fields) -> int | None:
    """The size that the attributes of a SETSTAT ask for (section 5); None: they ask for none."""
    return fields.u64() if fields.u32() & _SIZE else None


def _unchanged(request_id: bytes, size: int, wanted: int | None) -> bytes:
    """OK to a change of metadata, which is ignored; to say so of a truncation would be a lie."""
    if wanted not in (None, size):
        raise Denied("this folder is for reading")
    return wire.status(request_id, Status.OK)


def _space(request_id: bytes, total: int, free: int) -> bytes:
    """A file system of so many bytes, of which so many can be written."""
    block, name_max, no_set_uid = 4096, 255, 0x2
    blocks, left = total // block, free // block
    values = (block, block, blocks, left, left, blocks, left, left, 0, no_set_uid, name_max)
    return wire.packet(Type.EXTENDED_REPLY, request_id, struct.pack(">11Q", *values))


def failure(request_id: bytes, error: Exception) -> bytes:
    """The status of an error; one that nobody foresaw is logged and told to nobody."""
    for kind in type(error).__mro__:
        if kind in STATUS and isinstance(error, GatewayError):
            return wire.status(request_id, STATUS[kind], error.message)
    log.error("sftp.failed", cause=repr(error), exc_info=error)
    return wire.status(request_id, Status.FAILURE, "the gateway could not do this; it has been noted")


_Handler = Callable[[Engine, bytes, Fields], Answer]
_HANDLERS: dict[int, _Handler] = {
    Type.OPEN: Engine._open,
    Type.CLOSE: Engine._close,
    Type.READ: Engine._read,
    Type.WRITE: Engine._write,
    Type.LSTAT: Engine._stat,
    Type.FSTAT: Engine._fstat,
    Type.SETSTAT: Engine._setstat,
    Type.FSETSTAT: Engine._fsetstat,
    Type.OPENDIR: Engine._opendir,
    Type.READDIR: Engine._readdir,
    Type.REMOVE: Engine._remove,
    Type.MKDIR: Engine._mkdir,
    Type.RMDIR: Engine._rmdir,
    Type.REALPATH: Engine._realpath,
    Type.STAT: Engine._stat,
    Type.RENAME: Engine._rename,
    Type.EXTENDED: Engine._extended,
}
_EXTENDED: dict[bytes, _Handler] = {
    b"posix-rename@openssh.com": Engine._rename,  # overwrites elsewhere; here nothing ever does
    b"statvfs@openssh.com": Engine._statvfs,
    b"fstatvfs@openssh.com": Engine._fstatvfs,
    b"fsync@openssh.com": Engine._fsync,
    b"lsetstat@openssh.com": Engine._setstat,
    b"limits@openssh.com": Engine._limits,
    b"copy-data": Engine._copy_data,
}
