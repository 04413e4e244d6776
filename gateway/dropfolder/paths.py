"""The one normaliser of paths: whatever bytes a client sends become a path inside its home, or Refused.

A path is text such as `/inbox/a.pdf`, absolute from the client's home, without `.`, `..`, empty parts or a slash at
the end; the home itself is `/`. There are no links, so `..` is resolved by text alone and stops at the home.
"""

import unicodedata

from ..domain import names
from ..domain.path_map import OURS
from ..errors import Conflict, Denied, Refused

MAX_BYTES = 4096  # unless a setting says otherwise; keeps one request from holding the loop
MAX_NEW = 300  # characters of a path that a client makes up itself: the width of its column
INBOX = "/inbox"
ARCHIVE = "/archive"
SANDBOX = "/sandbox"
INTAKE = "/intake"


def normalise(raw: bytes, most: int = MAX_BYTES) -> str:
    """The path inside the home; relative ones start there. Refused: over `most` bytes, NUL, not UTF-8."""
    if len(raw) > most:
        raise Refused(f"a path has at most {most} bytes", code="path_too_long")
    if b"\0" in raw:
        raise Refused("a path holds no NUL", code="path_nul")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Refused("a path is UTF-8", code="path_encoding") from None
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def split(path: str) -> tuple[str, str]:
    """Parent and name; the home's own name is empty."""
    parent, _, name = path.rpartition("/")
    return parent or "/", name


def join(parent: str, name: str) -> str:
    """The path of `name` in `parent`."""
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def ancestors(path: str) -> list[str]:
    """The folders above a path, nearest first, without the home."""
    above = []
    while (path := split(path)[0]) != "/":
        above.append(path)
    return above


def is_archive(path: str) -> bool:
    """Whether it lies in the archive, or is it."""
    return path == ARCHIVE or path.startswith(ARCHIVE + "/")


def check_new_file(path: str) -> None:
    """Whether a client may give an entry this place.

    Denied: a part of the home that is the gateway's. Conflict: a name that publishing may want. Refused: form.
    """
    parent, name = split(path)
    first = path.split("/")[1]
    if names.fold(first) in OURS and not (first == "inbox" and parent != "/"):
        raise Denied("this place is the gateway's own")
    if parent == INBOX and names.is_published_form(name):
        raise Conflict("names of this form are the gateway's own", code="name_reserved")
    check_form(path)


def check_new_directory(path: str) -> None:
    """Whether a client may make a folder here: under its inbox only. Errors as for a file."""
    if not path.startswith(INBOX + "/"):
        raise Denied("folders can be made under inbox/ only")
    check_new_file(path)


def area(path: str) -> str:
    """The first folder of a path: `/inbox` of `/inbox/a.pdf`; the home's is `/`."""
    return "/" + path.split("/", 2)[1]


def check_form(path: str) -> None:
    """Whether a client may make such a name; Refused."""
    if len(path) > MAX_NEW or len(names.fold(path)) > MAX_NEW:
        raise Refused(f"a path that you make has at most {MAX_NEW} characters", code="path_too_long")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in path):
        raise Refused("a name holds no control characters", code="name_characters")
