"""Files that other people made, read by a command: regular ones, whole, and not larger than is meant."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ..errors import Refused


def content(path: Path, limit: int, *, follow: bool = True, private: bool = False) -> bytes:
    """The bytes of a regular file. OSError for anything else, and for more than `limit` bytes.

    `follow`: through links too. `private`: Refused when others than its owner can read it.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(None, "not a regular file")
        if private and facts.st_mode & 0o077:
            raise Refused("others than its owner can read it: chmod 600, and ask yourself who has")
        found = file.read(limit + 1)
    if len(found) > limit:
        raise OSError(None, f"more than {limit} bytes")
    return found


def open_below(root: int, parts: Sequence[str]) -> int:
    """A descriptor of a file or directory below an open one, reached without following any link; OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    here = os.dup(root)
    try:
        for part in parts[:-1]:
            below = os.open(part, flags | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        return os.open(parts[-1], flags, dir_fd=here)
    finally:
        os.close(here)
