"""Run the daemon and kill it at a chosen point: `driver.py CONFIG KILL_AT`.

Every fsync of a blob and every commit counts one. At number KILL_AT the process sends itself SIGKILL: just before
the call when KILL_AT is odd, just after it when it is even. KILL_AT 0 never kills. The daemon's own code is not
touched: the counting wraps os.fsync and the engine's commit.
"""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import sqlalchemy as sa

from gateway import daemon

_count = 0
_lock = threading.Lock()


def _passing(kill_at: int, *, after: bool) -> None:
    global _count
    with _lock:
        if not after:
            _count += 1
        if kill_at and _count == kill_at and after == (kill_at % 2 == 0):
            os.kill(os.getpid(), signal.SIGKILL)


def main(path: Path, kill_at: int) -> None:
    fsync = os.fsync

    def counted_fsync(fd: int) -> None:
        _passing(kill_at, after=False)
        fsync(fd)
        _passing(kill_at, after=True)

    os.fsync = counted_fsync

    commit = sa.engine.default.DefaultDialect.do_commit

    def counted_commit(self: sa.engine.default.DefaultDialect, connection: object) -> None:
        _passing(kill_at, after=False)
        commit(self, connection)
        _passing(kill_at, after=True)

    sa.engine.default.DefaultDialect.do_commit = counted_commit
    asyncio.run(daemon.serve(path, lambda addresses: print(f"ready {addresses.http[1]}", flush=True)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
