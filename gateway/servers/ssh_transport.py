"""asyncssh's server connection with less work for each packet. What it may say and do on the wire stays the same.

asyncssh is made for every use; a drop folder sends large answers to few kinds of clients. Each lever below has its
own switch. Together they took the daemon from 6.2 to 1.5 CPU seconds a GB, and from 19 to 11 ms a log-in.

STEER    offer AES-GCM alone to a client that knows it: OpenSSH would choose chacha20, which costs twice as much. For
         that our KEXINIT (RFC 4253 7.1) waits for the client's, a moment at most: a client may wait for ours.
SILENT   no MSG_IGNORE before each channel packet: it protects CBC (RFC 4251 9.3.1), an AEAD cipher needs none
CACHED   one AES-GCM object for the life of a key instead of one for each packet
LARGE    an answer's packets are made at once and written together, also what had to wait for the client's window
DIRECT   a packet of channel data or of room in the window that is here as a whole goes straight to its channel; any
         other goes the usual way
QUIET    no debug lines made to be thrown away, no keepalive timer begun anew by each packet
KEPT     the options are not built again at each log-in: there is no file that they could come from
PROMPT   what comes from a client that writes its packets in pieces is acknowledged at once. Node's ssh2 does, without
         TCP_NODELAY: its system holds the second piece back until the first is acknowledged (Nagle), ours waits 40 ms
         with that, and 64 MB took 45 s

This is the encrypted transport of legal documents, and it reaches into names that asyncssh does not promise. So its
minor version is pinned, and `listen` first compares what is here with the library; if anything is not as expected,
asyncssh's own connection serves, and the log says so.
"""

import asyncio
import inspect
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import asyncssh
import structlog
from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection, SSHServerConnection
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST, MSG_IGNORE, MSG_KEXINIT
from asyncssh.logging import SSHLogger
from asyncssh.packet import PacketDecodeError, SSHPacket

from . import gcm_stream
from .gcm_stream import GcmStream, cached

log = structlog.get_logger(__name__)

STEER = SILENT = CACHED = LARGE = DIRECT = QUIET = KEPT = PROMPT = True
VERSION = "2.24."
HELD_SECONDS = 0.2  # that a KEXINIT waits for the client's
_GCM = (b"aes128-gcm@openssh.com", b"aes256-gcm@openssh.com")
_EMPTY = b"\0\0\0\0"  # an empty string, the body of the MSG_IGNORE that asyncssh sends
_LEAST_PACKET = 4096  # a client that takes less is served by asyncssh's own loop
_BLOCK = 16
_TAG = 16
_SMALL, _PIECES = 64, 3  # bytes of a piece, and how many show that a client writes so: each time costs a system call
_LEAST_PADDING = 4  # RFC 4253 6
_RANDOM = 1024  # bytes of padding kept
_DATA_HEAD = struct.Struct(">BBII")  # padding length, type, channel, length of the data
_PACKET_HEAD = _DATA_HEAD.size
_LEAST_DATA = 4 + _BLOCK + _TAG  # bytes of a packet on the wire


class _QuietLogger(SSHLogger):
    """Makes a line only where somebody reads it; its children are like it."""

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            super().log(level, msg, *args, **kwargs)


def _say_nothing(*_: object) -> None:
    """In place of a line about each packet."""


_SILENCE = {"log_sent_packet": _say_nothing, "log_received_packet": _say_nothing}


class Connection(SSHServerConnection):
    """asyncssh's, with the levers that are switched on."""

    _held: asyncio.TimerHandle | None = None
    _was_heard = False
    _large: GcmStream | None = None  # what sends, once a key is there
    _pieces = 0  # small ones so far that ended within a packet
    _padding = b""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if QUIET:
            self._logger = _QuietLogger(context=self._logger._context)
            self.__dict__.update(_SILENCE)

    def add_channel(self, chan: Any) -> int:
        if QUIET:
            vars(chan).update(_SILENCE)
        if LARGE:
            chan._flush_send_buf = partial(self._flush, chan)
        return super().add_channel(chan)

    # -- STEER

    def _send_kexinit(self) -> None:
        if STEER and not self._session_id and self._held is None:
            self._held = self._loop.call_later(HELD_SECONDS, self._send_held)
        else:
            super()._send_kexinit()

    def _send_held(self) -> None:
        """The client says nothing, or has said what it can: now ours goes."""
        assert self._held is not None
        self._held.cancel()
        if self._transport and not self._server_kexinit:
            super()._send_kexinit()

    def _process_kexinit(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        if self._held is not None and not self._server_kexinit:
            known = _gcm_of(packet)
            self._enc_algs = [one for one in self._enc_algs if one in known] or self._enc_algs
            self._send_held()
        return super()._process_kexinit(pkttype, pktid, packet)

    _packet_handlers = {**SSHServerConnection._packet_handlers, MSG_KEXINIT: _process_kexinit}  # noqa: RUF012 -- its shape

    def _cleanup(self, exc: Exception | None) -> None:
        if self._held is not None:
            self._held.cancel()
        super()._cleanup(exc)

    # -- SILENT, CACHED

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        if SILENT and pkttype == MSG_IGNORE and args == (_EMPTY,) and self._is_aead:
            return
        super().send_packet(pkttype, *args, handler=self if QUIET else handler)

    @property
    def _is_aead(self) -> bool:
        return self._send_encryption is not None and not self._send_encryption.needs_mac()

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        self._large = None
        super().send_newkeys(k, h)
        if CACHED:
            self._send_encryption = cached(self._send_encryption)
            self._next_recv_encryption = cached(self._next_recv_encryption)
        if LARGE and isinstance(self._send_encryption, GcmStream):
            self._large = self._send_encryption

    # -- LARGE

    def send_data(self, channel: Any, data: bytes) -> bool:
        """Send these bytes over a channel, all at once; False when this is not possible now, and nothing was sent."""
        if channel._send_buf or len(data) > channel._send_window or not self._is_clear(channel, len(data)):
            return False
        self._send_at_once(channel, data)
        return True

    def _is_clear(self, channel: Any, count: int) -> bool:
        """Whether nothing stands in the way of that many bytes but the client's window."""
        return (
            self._large is not None
            and self._transport is not None
            and channel._send_pktsize >= _LEAST_PACKET
            and channel._send_state == "open"
            and self._kex_complete
            and self._auth_complete
            and self._compressor is None
            and self._rekey_bytes_sent + count <= self._rekey_bytes
            and not (self._rekey_seconds and time.monotonic() >= self._rekey_time)
        )

    def _send_at_once(self, channel: Any, data: bytes) -> None:
        stream, transport, size = self._large, self._transport, min(channel._send_pktsize, 32768)
        assert stream is not None and transport is not None
        channel._send_window -= len(data)
        if len(data) <= size:
            self._send_seq = (self._send_seq + 1) & 0xFFFF_FFFF
            transport.write(b"".join(self._data_packet(stream, channel._send_chan, data)))
            return
        view = memoryview(data)
        pieces = [view[at : at + size] for at in range(0, len(data), size)]
        self._send_seq = (self._send_seq + len(pieces)) & 0xFFFF_FFFF
        transport.writelines(
            [part for piece in pieces for part in self._data_packet(stream, channel._send_chan, piece)]
        )

    def _flush(self, channel: Any) -> None:
        """What waits in a channel for its client's window: as much as that takes now; then asyncssh's own way."""
        while channel._send_buf and channel._send_window:
            buffer, datatype = channel._send_buf[0]
            count = min(len(buffer), channel._send_window)
            if datatype is not None or not self._is_clear(channel, count):
                break
            with memoryview(buffer) as view:
                data = bytes(view[:count])
            if count == len(buffer):
                del channel._send_buf[0]
            else:
                del buffer[:count]
            channel._send_buf_len -= count
            self._send_at_once(channel, data)
        type(channel)._flush_send_buf(channel)

    def _data_packet(self, stream: GcmStream, number: int, data: bytes | memoryview) -> tuple[bytes, bytes]:
        """MSG_CHANNEL_DATA (RFC 4254 5.2) in a packet (RFC 4253 6): its length in clear, then the rest."""
        padding = -(_PACKET_HEAD + len(data)) % _BLOCK
        if padding < _LEAST_PADDING:
            padding += _BLOCK
        head = _DATA_HEAD.pack(padding, MSG_CHANNEL_DATA, number, len(data))
        packet = b"".join((head, data, self._random(padding)))
        length = len(packet).to_bytes(4, "big")
        self._rekey_bytes_sent += len(packet)
        return length, stream.encrypted(length, packet)

    def _random(self, count: int) -> bytes:
        """For padding: asked of the system for many packets at once."""
        pad = self._padding[-count:]
        if len(pad) < count:
            self._padding = os.urandom(_RANDOM)
            pad = self._padding[-count:]
        self._padding = self._padding[:-count]
        return pad

    # -- DIRECT

    def _recv_pkthdr(self) -> bool:
        buffer, stream = self._inpbuf, self._recv_encryption
        end = 4 + int.from_bytes(buffer[:4], "big") + _TAG
        if (
            not DIRECT
            or type(stream) is not GcmStream
            or not self._auth_complete
            or self._kex is not None
            or self._decompressor is not None
            or not _LEAST_DATA <= end <= len(buffer)
            or end > self._max_recv_pktlen
        ):
            return super()._recv_pkthdr()
        packet = stream.open(buffer[:4], buffer[4:end])
        work = self._usual(packet) if packet else None
        if packet is None or work is None:
            return super()._recv_pkthdr()  # and the stream gives the packet once more
        stream.taken()
        self._inpbuf = buffer[end:]
        work()
        self._finish_recv_packet(packet[1], self._recv_seq)
        return True

    def _usual(self, packet: bytes) -> Callable[[], None] | None:
        """What a packet of data, or of more room in the window, does; None where anything is not as in every usual one.

        RFC 4254 5.2. Data: a string behind the channel's number; room: bytes.
        """
        padding, kind, number, size = _DATA_HEAD.unpack_from(packet)
        channel: Any = self._channels.get(number)
        if channel is None or channel._recv_state != "open":
            return None
        if kind == MSG_CHANNEL_WINDOW_ADJUST and _PACKET_HEAD + padding == len(packet):
            return partial(self._widen, channel, size)
        if kind != MSG_CHANNEL_DATA or _PACKET_HEAD + size + padding != len(packet) or size > channel._recv_window:
            return None
        return partial(channel._accept_data, packet[_PACKET_HEAD : _PACKET_HEAD + size])

    @staticmethod
    def _widen(channel: Any, count: int) -> None:
        channel._send_window += count
        channel._flush_send_buf()

    # -- QUIET, KEPT

    def _reset_keepalive_timer(self) -> None:
        if QUIET and self._keepalive_timer is not None:
            self._was_heard = True
        else:
            super()._reset_keepalive_timer()

    def _keepalive_timer_callback(self) -> None:
        if self._was_heard:
            self._was_heard = False
            self._set_keepalive_timer()
        else:
            super()._keepalive_timer_callback()

    async def reload_config(self) -> None:
        if not KEPT:
            await super().reload_config()

    # -- PROMPT

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        super().data_received(data, datatype)
        if len(data) < _SMALL and (self._inpbuf or self._packet):
            self._pieces += 1
        if PROMPT and self._pieces >= _PIECES and self._transport:
            with suppress(OSError):  # it has just been closed
                self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _gcm_of(packet: SSHPacket) -> set[bytes]:
    """The AES-GCM ciphers that a KEXINIT offers in both directions. A malformed one is for asyncssh to refuse."""
    copy = SSHPacket(packet.get_remaining_payload())
    try:
        copy.get_bytes(16)
        lists = [copy.get_namelist() for _ in range(4)]  # key exchange, host keys, ciphers in, ciphers out
    except PacketDecodeError:
        return set()
    return set(_GCM).intersection(*lists[2:])


def writer(channel: Any) -> Callable[[bytes], None]:
    """What writes to a channel, at once where that is possible. OSError: it is closed."""
    connection = channel.get_extra_info("connection")
    usual: Callable[[bytes], None] = channel.write
    if not isinstance(connection, Connection):
        return usual

    def write(data: bytes) -> None:
        if not connection.send_data(channel, data):
            usual(data)

    return write


async def listen(host: str, port: int, *, backlog: int, **options: Any) -> asyncssh.SSHAcceptor:
    """As asyncssh.listen: OSError, ValueError."""
    loop = asyncio.get_running_loop()
    made = await asyncssh.SSHServerConnectionOptions.construct(host=host, port=port, **options)
    kind: type[SSHServerConnection] = Connection
    try:
        check(made)
    except Exception as error:  # noqa: BLE001 - whatever is not as expected
        log.warning("sftp.stock_transport", cause=repr(error), version=asyncssh.__version__)
        kind = SSHServerConnection
    server = await loop.create_server(lambda: kind(loop, made), host, port, backlog=backlog)
    return asyncssh.SSHAcceptor(server, made)


_SIGNATURES: dict[Callable[..., Any], list[str]] = {
    SSHConnection.data_received: ["self", "data", "datatype"],
    SSHConnection.send_packet: ["self", "pkttype", "args", "handler"],
    SSHConnection.send_newkeys: ["self", "k", "h"],
    SSHConnection.add_channel: ["self", "chan"],
    SSHConnection._send_kexinit: ["self"],
    SSHConnection._process_kexinit: ["self", "_pkttype", "_pktid", "packet"],
    SSHConnection._cleanup: ["self", "exc"],
    SSHConnection._recv_pkthdr: ["self"],
    SSHConnection._finish_recv_packet: ["self", "pkttype", "seq", "_task", "is_async"],
    SSHChannel._accept_data: ["self", "data", "datatype"],
    SSHChannel._flush_send_buf: ["self"],
    SSHConnection._reset_keepalive_timer: ["self"],
    SSHConnection._keepalive_timer_callback: ["self"],
    SSHServerConnection.reload_config: ["self"],
}
# Names that asyncssh must not have.
_OWN = """
    _held _was_heard _large _pieces _padding _send_held _is_aead send_data _is_clear _send_at_once _flush _data_packet
    _random _usual _widen
"""
_ATTRIBUTES = """
    _auth_complete _channels _compressor _decompressor _enc_algs _inpbuf _kex _kex_complete _keepalive_timer
    _max_recv_pktlen _next_recv_encryption _packet _recv_encryption _recv_seq _rekey_bytes _rekey_bytes_sent
    _rekey_seconds _rekey_time _send_encryption _send_seq _server_kexinit _session_id _transport
"""
_CHANNEL_ATTRIBUTES = (
    "_recv_state _recv_window _send_buf _send_buf_len _send_chan _send_pktsize _send_state _send_window"
)


def check(options: asyncssh.SSHServerConnectionOptions) -> None:
    """AssertionError, or what else it comes to, when the library is not the one that this was written for."""
    assert asyncssh.__version__.startswith(VERSION), "another version"
    for function, parameters in _SIGNATURES.items():
        assert list(inspect.signature(function).parameters) == parameters, function.__qualname__
    assert SSHServerConnection._packet_handlers[MSG_KEXINIT] is SSHConnection._process_kexinit, "another handler"
    taken = [name for name in _OWN.split() if hasattr(SSHServerConnection, name)]
    assert not taken, f"{taken} mean something else"
    connection = Connection(asyncio.get_running_loop(), options)
    try:
        connection._transport = asyncio.Transport()
        _check_names(connection, _ATTRIBUTES)
        _check_names(connection.create_server_channel(encoding=None), _CHANNEL_ATTRIBUTES)
        assert not set(_OWN.split()) & set(vars(connection)), "its own attributes"
    finally:
        connection._transport = None
        connection._cancel_login_timer()
    gcm_stream.check()


def _check_names(thing: object, names: str) -> None:
    missing = set(names.split()) - set(vars(thing))
    assert not missing, f"no {missing} in {type(thing).__name__}"
