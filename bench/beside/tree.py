"""A server and every process that it starts: CPU seconds, dead ones too, and memory of the living.

The server runs below a process that adopts what the server leaves behind (PR_SET_CHILD_SUBREAPER, prctl(2)) and waits
for it; so the time of a child that nobody else waited for, as of OpenSSH's, is counted like any other's.

    python -m bench.beside.tree COMMAND…
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STILL = 0.003  # CPU seconds between two looks: less is nothing


class Cost(NamedTuple):
    """What something cost a server."""

    cpu: float  # seconds
    wall: float  # seconds
    peak: int  # bytes of RSS


class Tree:
    """A running server. `stop` it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._adopter = subprocess.Popen(
                [sys.executable, "-m", "bench.beside.tree", *command], env=environment, stderr=errors, stdout=errors
            )

    @property
    def is_running(self) -> bool:
        """Whether the server is."""
        return self._adopter.poll() is None

    @property
    def said(self) -> str:
        """The end of what it logged."""
        return self._log.read_text(errors="replace")[-2000:]

    @property
    def server(self) -> int:
        """The process that was started; those that it started are not it."""
        return next(pid for pid, parent, _ in _processes() if parent == self._adopter.pid)

    def cpu(self) -> float:
        """CPU seconds so far, once they stand still."""
        last, deadline = self._cpu(), time.monotonic() + 5
        while time.monotonic() < deadline:
            time.sleep(0.15)
            before, last = last, self._cpu()
            if last - before < _STILL:
                break
        return last

    def _cpu(self) -> float:
        return sum(
            sum(times[2:]) if pid == self._adopter.pid else sum(times) for pid, times in self._members(and_adopter=True)
        )

    def rss(self) -> int:
        """Resident bytes, shared ones counted for each process."""
        total = 0
        for pid, _ in self._members():
            with contextlib.suppress(OSError, ProcessLookupError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        return total

    def pss(self, *, of_server_alone: bool = False) -> int:
        """Resident bytes, shared ones divided by those who share them."""
        members = [self.server] if of_server_alone else [pid for pid, _ in self._members()]
        total = 0
        for pid in members:
            with contextlib.suppress(OSError, ProcessLookupError):
                rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:"))
        return total

    def _members(self, *, and_adopter: bool = False) -> list[tuple[int, list[float]]]:
        """The living, with their times: own in user mode and kernel, then the same of children waited for."""
        living = list(_processes())
        found = {self._adopter.pid}
        while more := {pid for pid, parent, _ in living if parent in found} - found:
            found |= more
        return [(pid, times) for pid, _, times in living if pid in found and (and_adopter or pid != self._adopter.pid)]

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[int]]:
        """Its RSS every tenth of a second meanwhile."""
        sizes, ended = [self.rss()], threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                sizes.append(self.rss())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield sizes
        finally:
            ended.set()
            thread.join()

    def cost(self, work: Callable[[], Any]) -> Cost:
        """Do something that makes it work."""
        before = self.cpu()
        with self.watched() as sizes:
            start = time.perf_counter()
            work()
            wall = time.perf_counter() - start
        return Cost(self.cpu() - before, wall, max(sizes))

    def stop(self) -> None:
        """End it and all of its processes."""
        self._adopter.terminate()
        try:
            self._adopter.wait(30)
        finally:
            self._adopter.kill()


def _processes() -> Iterator[tuple[int, int, list[float]]]:
    """(pid, parent, times), proc_pid_stat(5)."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            yield int(path.name), int(fields[1]), [int(ticks) / _TICKS for ticks in fields[11:15]]


def main(command: Sequence[str]) -> None:
    """Run the command; end it on SIGTERM, and with it whoever it left behind."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)
    server = subprocess.Popen(command)

    def end(_number: int, _frame: FrameType | None) -> None:
        server.terminate()
        for pid, parent, _ in list(_processes()):
            if parent == os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
