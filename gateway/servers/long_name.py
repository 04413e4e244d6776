"""A line as of `ls -l`, for SFTP and FTP: in UTC, owned by the gateway, never by one of the host's users."""

import time

from ..dropfolder.nodes import Node

_HALF_A_YEAR = 183 * 86_400


def long_name(node: Node, now: float) -> str:
    """The line of a node; `now` (Unix seconds) decides between time and year."""
    mode = "drwxr-x---" if node.is_directory else "-r--r-----"
    at = time.gmtime(node.mtime)
    form = "%b %d %H:%M" if 0 <= now - node.mtime < _HALF_A_YEAR else "%b %d  %Y"
    return f"{mode}    1 gateway  gateway  {node.size:>12d} {time.strftime(form, at)} {node.name}"
