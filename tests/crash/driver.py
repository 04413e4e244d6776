"""Run the daemon and let it kill itself at a chosen point: `driver.py CONFIG KIND AT WHEN`.

KIND is what counts: `fsync` (of a blob), `commit` (of the database), or `either`. At number AT, counted from the
process's start, it sends itself SIGKILL, WHEN says on which side of the call: `before` or `after`. AT 0 never kills.
The daemon's own code is not touched: the counting wraps os.fsync and the engine's commit. One line on standard
output, once it is ready: host and port of SFTP.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gateway import daemon


class _Countdown:
    """Calls of any thread, counted together."""

    def __init__(self, kill_at: int, when: str) -> None:
        self._kill_at = kill_at
        self._when = when
        self._count = 0
        self._lock = threading.Lock()

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            with self._lock:
                self._count += 1
                is_last = self._count == self._kill_at
            if is_last and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


def main(config: Path, kind: str, kill_at: int, when: str) -> None:
    """Run until killed, or until SIGTERM."""
    countdown = _Countdown(kill_at, when)
    if kind in ("fsync", "either"):
        os.fsync = countdown.around(os.fsync)
    if kind in ("commit", "either"):
        dialect = sa.engine.default.DefaultDialect
        dialect.do_commit = countdown.around(dialect.do_commit)  # type: ignore[method-assign]
    asyncio.run(daemon.serve(config, _say))


def _say(addresses: daemon.Addresses) -> None:
    assert addresses.sftp is not None
    print(*addresses.sftp, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
