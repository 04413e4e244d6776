"""Unions of byte ranges: sorted, disjoint, non-empty `[start, end)` pairs. Pure functions.

At most MAX pairs are kept, the longest: a client that reads single bytes far apart costs no memory and only
claims less than it read.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter

Ranges = list[list[int]]
MAX = 1000
MOST_UNSAID = 256 * 1024  # bytes that a client may have taken and not said so: OpenSSH says it every 96 KB


def add(ranges: Ranges, start: int, end: int) -> None:
    """Add one range in place; reading on where the last one ended costs no search, reading anywhere a short one."""
    if ranges and ranges[-1][0] <= start <= ranges[-1][1]:
        ranges[-1][1] = max(ranges[-1][1], end)
    elif start < end:
        first, behind = bisect_left(ranges, start, key=itemgetter(1)), bisect_right(ranges, end, key=itemgetter(0))
        if first < behind:
            start, end = min(start, ranges[first][0]), max(end, ranges[behind - 1][1])
        ranges[first:behind] = [[start, end]]
        if len(ranges) > MAX:
            del ranges[min(range(len(ranges) - 1, -1, -1), key=lambda at: ranges[at][1] - ranges[at][0])]


def union(*many: Iterable[Sequence[int]]) -> Ranges:
    """All ranges of all arguments, merged."""
    some = [ranges for ranges in many if ranges]
    if len(some) == 1 and isinstance(some[0], list) and len(some[0]) == 1:  # a file that was read in one go
        ((start, end),) = some[0]
        return [[start, end]] if start < end else []
    merged: Ranges = []
    for start, end in sorted((pair[0], pair[1]) for ranges in many for pair in ranges if pair[0] < pair[1]):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    if len(merged) > MAX:
        merged = sorted(sorted(merged, key=lambda pair: pair[0] - pair[1])[:MAX])
    return merged


def without(ranges: Ranges, start: int, end: int) -> Ranges:
    """What is left when `[start, end)` is taken out."""
    left = [[a, min(b, start)] for a, b in ranges] + [[max(a, end), b] for a, b in ranges]
    return union(left)


def resumed(doubtful: Sequence[Sequence[int]], first: int) -> Ranges:
    """What of the bytes that may have arrived did: a client that goes on reading at `first` has those before it.

    `doubtful`: as they were given out, a pair for each answer. Not if that would be more than a client leaves unsaid:
    then it reads a part for another reason. Nor, of a client that never said to have taken anything, at a place where
    no answer began: it may look at the end of a file that is smaller than that.
    """
    begins = {start for start, _ in doubtful}
    return [
        [start, first]
        for start, end in union(doubtful)
        if start < first <= end and first - start <= MOST_UNSAID and (start > 0 or first in begins)
    ]


def covers(ranges: Ranges, size: int) -> bool:
    """Whether nothing of `[0, size)` is missing."""
    return any(start == 0 and end >= size for start, end in ranges)


def total(ranges: Ranges) -> int:
    """Bytes covered."""
    return sum(end - start for start, end in ranges)
