"""A line as of `ls -l`, for SFTP and FTP: in UTC, owned by the gateway, never by one of the host's users."""

import functools
import time

from ..dropfolder.nodes import Node

_HALF_A_YEAR = 183 * 86_400


def long_name(node: Node, now: float) -> str:
    """The line of a node; `now` (Unix seconds) decides between time and year."""
    name, is_directory, size, mtime, _ = node
    when = _when(mtime // 60, 0 <= now - mtime < _HALF_A_YEAR)
    return f"{'drwxr-x---' if is_directory else '-r--r-----'}    1 gateway  gateway  {size:12d} {when} {name}"


@functools.lru_cache(maxsize=10_000)
def _when(minute: int, is_recent: bool) -> str:
    """What is published together shares its minute: 50,000 lines need few of them."""
    return time.strftime("%b %d %H:%M" if is_recent else "%b %d  %Y", time.gmtime(minute * 60))
