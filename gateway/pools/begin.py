"""What runs in a worker process: it begins, then takes one call after the other from its socket and answers it.

A message is four bytes of length and a pickle. The first one says why the process cannot begin (empty: it did);
each one after it answers a call: (True, result), or (False, our own error, or the name and the trace of another one).
"""

import contextlib
import fcntl
import gc
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from ..errors import GatewayError

LENGTH = struct.Struct("!I")
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
    end.sendall(message(reason))
    with end.makefile("rb") as calls, contextlib.suppress(EOFError, ConnectionError):
        while not reason:
            call, arguments = read(calls)
            end.sendall(_answer(call, arguments))


def message(content: object) -> bytes:
    """What `read` reads."""
    pickled = pickle.dumps(content)
    return LENGTH.pack(len(pickled)) + pickled


def read(file: BinaryIO) -> Any:
    """The next message; EOFError when the other end is closed."""
    length = file.read(LENGTH.size)
    if len(length) < LENGTH.size:
        raise EOFError("it ended")
    return pickle.loads(file.read(LENGTH.unpack(length)[0]))  # noqa: S301 -- both ends run our own code


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
        return message((True, call(*arguments)))
    except GatewayError as error:
        return message((False, error))
    except Exception as error:  # noqa: BLE001 -- told in the daemon
        return message((False, (type(error).__name__, traceback.format_exc()[-_TRACE:])))


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
