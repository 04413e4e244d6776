"""What runs in a worker process: it begins, then takes one call after the other from its socket and answers it.

A message is four bytes of length and so many bytes. To the worker goes a pickle of a call and its arguments. From it
comes first why it cannot begin (empty: it did), then an answer to each call: DONE and the result in JSON, which is read
as what the call says that it returns; or FAILED and the kind, message, code and facts of our own error, or the name
and the trace of another one.
"""

import contextlib
import fcntl
import gc
import json
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO, get_type_hints

from pydantic import TypeAdapter

from .. import errors
from ..errors import GatewayError

LENGTH = struct.Struct("!I")
DONE, FAILED = b"+", b"-"
NICE = 5  # clients and the event loop go first
_TRACE = 4000  # characters


def work(end: socket.socket, initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
    """End when the daemon ends, leave Ctrl-C to the daemon, begin as the pool wants it, then work call by call."""
    _end_with_the_daemon()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # where a service may not
        os.nice(NICE)
    reason = _reason_not_to_begin(initializer, initargs)
    gc.freeze()  # what was loaded stays: no collection walks it, and its pages stay shared
    end.sendall(message(reason.encode()))
    with end.makefile("rb") as calls, contextlib.suppress(EOFError, ConnectionError):
        while not reason:
            call, arguments = pickle.loads(read(calls))  # noqa: S301 -- the daemon is not the one that may be hostile
            end.sendall(message(_answer(call, arguments)))


def message(content: bytes) -> bytes:
    """What `read` reads."""
    return LENGTH.pack(len(content)) + content


def read(file: BinaryIO) -> bytes:
    """The next message; EOFError when the other end is closed."""
    length = file.read(LENGTH.size)
    if len(length) < LENGTH.size:
        raise EOFError("it ended")
    return file.read(LENGTH.unpack(length)[0])


@cache
def result_of(call: Callable[..., Any]) -> TypeAdapter[Any]:
    """Writes and reads what a call returns, by its annotation."""
    return TypeAdapter(get_type_hints(call)["return"])


def _reason_not_to_begin(initializer: Callable[..., None], arguments: tuple[Any, ...]) -> str:
    try:
        initializer(*arguments)
    except GatewayError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 -- raised here, it would look as if the first document had killed us
        traceback.print_exc()
        return type(error).__name__
    return ""


def _answer(call: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    try:
        return DONE + result_of(call).dump_json(call(*arguments))
    except GatewayError as error:
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        failed = [kind.__name__, error.message, error.code, error.facts]
    except Exception as error:  # noqa: BLE001 -- told in the daemon
        failed = [type(error).__name__, traceback.format_exc()[-_TRACE:]]
    return FAILED + json.dumps(failed, default=str).encode()


def _end_with_the_daemon() -> None:
    """Let the kernel end this process (SIGIO) as soon as the daemon, however it ends, no longer holds its pipe to us.

    PR_SET_PDEATHSIG would watch the wrong process: a worker's parent is the fork server, which lives as long as one
    of its workers does.
    """
    daemon = multiprocessing.parent_process()
    assert daemon is not None
    pipe: int = daemon.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if not daemon.is_alive():  # it ended before we asked
        os._exit(1)
