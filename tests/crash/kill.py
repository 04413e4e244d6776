"""Kill points: count what the daemon and its worker processes do, and send SIGKILL at a chosen number.

All processes of one daemon count in one file, a byte each, so that every number is given once. What counts is wrapped
here (os.fsync, the engine's commit, the wire to the relay, the calls that worker processes are given): the gateway's
code is not touched. `start_reading` and `start_sealing` stand in for the workers' own start.
"""

import inspect
import json
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa

from gateway.intake import process as reading
from gateway.intake.read import ReadLimits
from gateway.mail.wire import Wire
from gateway.sealing import process as sealing
from gateway.sealing.process import SealSetup

_VARIABLE = "CRASH_KILL_POINT"
_start_reading, _start_sealing = reading.start, sealing.start


@dataclass(frozen=True)
class Point:
    """Where to kill: at number `at` of what `kind` counts, `before` or `after` it. `at` 0: never.

    `kind`: `fsync` (of files and folders, in any process), `commit` of the database, `mail` (each exchange with the
    relay), `work` (calls of worker processes, begun or answered, and their fsyncs), `any` of them. `victim`: the
    `daemon` alone, `all` its processes at once, or (of `work` only) the `worker` that came to the number.
    """

    kind: str
    at: int
    when: str
    victim: str

    def environment(self, count: Path) -> dict[str, str]:
        """What the daemon's processes are to be given; they count in the file `count`."""
        return {_VARIABLE: json.dumps(asdict(self) | {"count": str(count)})}

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.at}: {self.victim}"


NEVER = Point("any", 0, "after", "daemon")


class _Counter:
    """This process's way to the common count."""

    def __init__(self) -> None:
        plan = json.loads(os.environ[_VARIABLE])
        # Where a descriptor stands after its write is that write's number.
        self._fd = os.open(plan.pop("count"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._point = Point(**plan)
        self._lock = threading.Lock()

    def counts(self, kind: str) -> bool:
        return self._point.kind in (kind, "any")

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            is_last = self._is_last()
            if is_last and self._point.when == "before":
                self._kill()
            result = call(*arguments)
            if is_last:
                self._kill()
            return result

        return counted

    def around_wait(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any) -> Any:
            is_last = self._is_last()
            if is_last and self._point.when == "before":
                self._kill()
            result = await call(*arguments)
            if is_last:
                self._kill()
            return result

        return counted

    def _is_last(self) -> bool:
        with self._lock:
            os.write(self._fd, b".")
            return os.lseek(self._fd, 0, os.SEEK_CUR) == self._point.at

    def _kill(self) -> None:
        """The daemon leads its session and its group."""
        if self._point.victim == "worker":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._point.victim == "daemon":
            os.kill(os.getsid(0), signal.SIGKILL)
        else:
            os.killpg(os.getsid(0), signal.SIGKILL)


def install() -> None:
    """In the daemon, before it builds its parts."""
    counter = _Counter()
    if counter.counts("fsync"):
        _count_fsyncs(counter)
    if counter.counts("commit"):
        dialect = sa.engine.default.DefaultDialect
        dialect.do_commit = counter.around(dialect.do_commit)  # type: ignore[method-assign]
    if counter.counts("mail"):
        for name in ("send", "receive"):
            setattr(Wire, name, counter.around_wait(getattr(Wire, name)))
    reading.start, sealing.start = start_reading, start_sealing


def start_reading(limits: ReadLimits) -> None:
    """In a worker process that reads."""
    _install_in_worker(reading)
    _start_reading(limits)


def start_sealing(setup: SealSetup) -> None:
    """In a worker process that seals."""
    _install_in_worker(sealing)
    _start_sealing(setup)


def _install_in_worker(module: ModuleType) -> None:
    """The daemon names what it calls, so that what stands under the name here is called."""
    counter = _Counter()
    if counter.counts("fsync") or counter.counts("work"):
        _count_fsyncs(counter)
    if counter.counts("work"):
        for name, call in inspect.getmembers(module, inspect.isfunction):
            if call.__module__ == module.__name__ and not name.startswith(("_", "start")):
                setattr(module, name, counter.around(call))


def _count_fsyncs(counter: _Counter) -> None:
    os.fsync = counter.around(os.fsync)
    os.fdatasync = counter.around(os.fdatasync)
