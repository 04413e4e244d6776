"""Figures of the rounds: the gateway's, the peer's, and their ratio within each round."""

import statistics
from collections import defaultdict


class Report:
    """Collects, then prints `BENCH name value unit ratio=R peer=NAME` lines."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._units: dict[str, str] = {}
        self._rounds: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, name: str, unit: str, own: float, peer: float) -> None:
        """One round of a figure."""
        self._units[name] = unit
        self._rounds[name].append((own, peer))
        print(f"{name}: {own:.4g} {unit}, {self._peer} {peer:.4g} {unit}, x{own / peer:.3f}", flush=True)

    def show(self) -> None:
        """The medians."""
        for name, rounds in self._rounds.items():
            value = statistics.median(own for own, _ in rounds)
            ratio = statistics.median(own / peer for own, peer in rounds)
            print(f"BENCH {name} {value:.4g} {self._units[name]} ratio={ratio:.3f} peer={self._peer}", flush=True)


def absolute(name: str, value: float, unit: str, limit: float) -> None:
    """A figure beside a limit instead of a peer."""
    print(f"BENCH {name} {value:.4g} {unit} ratio={value / limit:.3f} peer=limit_of_{limit:g}_{unit}", flush=True)
