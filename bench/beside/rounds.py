"""Two servers in turn, round for round: each workload once, a figure of each server, their ratio in the report."""

import os
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from .report import Report
from .tree import Cost

ROUNDS = int(os.environ.get("BRUNS", "3"))
FILES, FILE_BYTES = 2000, 80_000
BIG_BYTES = 1 << 30
SESSIONS, FILES_A_SESSION = 50, 100
MB = 1e6
T = TypeVar("T")


class Measured(Protocol):
    """One server, and what it can be made to do."""

    rss: int  # bytes, before anything was done

    def big(self) -> Cost:
        """Fetch one file of BIG_BYTES."""


M = TypeVar("M", bound=Measured)


class Rounds(Generic[M]):
    """`_NAME(number)` of a subclass measures the workload NAME in a round; `prefix` stands before every figure."""

    prefix: str

    def __init__(self, own: M, peer: M, name_of_peer: str) -> None:
        self._pair = (own, peer)
        self._report = Report(name_of_peer)
        self._rss = (own.rss, peer.rss)

    def run(self, workloads: Sequence[str]) -> None:
        """All rounds, then the figures."""
        for number in range(1, ROUNDS + 1):
            print(f"round {number} of {ROUNDS}", flush=True)
            for name in workloads:
                getattr(self, f"_{name}")(number)
        self._report.show()

    def _both(self, work: Callable[[M], T]) -> tuple[T, T]:
        own, peer = (work(one) for one in self._pair)
        return own, peer

    def _big(self, number: int) -> None:
        if number == 1:
            self._both(lambda one: one.big())  # into the page cache; and the gateway checks its digest once
        own, peer = self._both(lambda one: one.big())
        self._report.add(f"{self.prefix}_big_cpu", "s/GB", own.cpu * 1e9 / BIG_BYTES, peer.cpu * 1e9 / BIG_BYTES)
        self._report.add(f"{self.prefix}_big_rate", "MB/s", BIG_BYTES / MB / own.wall, BIG_BYTES / MB / peer.wall)

    def _add_cpu(self, name: str, files: int, own: Cost, peer: Cost) -> None:
        self._report.add(f"{self.prefix}_{name}_cpu", "s/1000", own.cpu * 1000 / files, peer.cpu * 1000 / files)

    def _add_rate(self, name: str, files: int, own: Cost, peer: Cost) -> None:
        self._report.add(f"{self.prefix}_{name}_rate", "files/s", files / own.wall, files / peer.wall)

    def _add_rss(self, own: Cost, peer: Cost) -> None:
        grown = [(cost.peak - before) / MB for cost, before in zip((own, peer), self._rss, strict=True)]
        self._report.add(f"{self.prefix}_many_rss", "MB", *grown)
