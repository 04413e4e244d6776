"""Files that other people made, read by a command: regular ones, whole, and not larger than is meant."""

import os
import stat
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
