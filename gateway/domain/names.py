"""The names of published entries, and when two names are the same. Pure functions, no I/O.

Grammar: `<issue date YYYYMMDD>_<contract>_<number>_<nature>[-<k>].<ext>`, of `[A-Za-z0-9._-]`, at most 100
characters. The leading date makes alphabetical order chronological and keeps a name from ever being a Windows
device, hidden, or an option of a command.

Two documents can map to one name (`C/1` and `C-1`, or a cut contract number): `k` = 2, 3 … is chosen by the
publishing transaction when the name, compared by `fold`, was ever used in that folder.
"""

import datetime as dt
import re
import unicodedata

from .states import Nature

MAX_LENGTH = 100
_OUTSIDE = re.compile(r"[^A-Za-z0-9.-]")
_PUBLISHED = re.compile(r"[0-9]{8}_[a-z0-9.-]+_[a-z0-9.-]+_(?:orig|copy|data)(?:-[0-9]+)?\.[a-z0-9]+")
_CODES = {Nature.ORIGINAL: "ORIG", Nature.PLATFORM_COPY: "COPY"}


def nature_code(nature: Nature, ext: str) -> str:
    """ORIG or COPY for a document's own file, DATA for the XML extracted from it.

    ValueError for a duplicate: it is never published.
    """
    if nature not in _CODES:
        raise ValueError(f"a {nature} has no entry in a folder")
    return "DATA" if ext == "xml" else _CODES[nature]


def entry_name(issue_date: dt.date, contract: str, number: str, nature_code: str, k: int, ext: str) -> str:
    """The published name, e.g. `20260131_CARD-S-0042_FA2026-0001_ORIG.pdf`; `k` = 1 is not written.

    What is over 100 characters is cut from the end of the contract first, then of the number: the number tells
    documents apart. Names that become equal by it are told apart by `k`.
    """
    date = f"{issue_date.year:04d}{issue_date.month:02d}{issue_date.day:02d}"
    end = f"_{nature_code}{f'-{k}' if k > 1 else ''}.{ext}"
    contract, number = _part(contract), _part(number)
    room = MAX_LENGTH - len(date) - len(end) - 2
    number = number[: room - 1]
    contract = contract[: room - len(number)]
    return f"{date}_{contract}_{number}{end}"


def _part(text: str) -> str:
    return _OUTSIDE.sub("-", text) or "-"


def fold(name: str) -> str:
    """What two names have in common when a client's file system could take one for the other.

    Caseless and canonical (Unicode 3.13, D145), composed: `É` as one or two code points is the same.
    """
    decomposed = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", decomposed))


def is_published_form(name: str) -> bool:
    """Whether `entry_name` could ever give this name, in any case: such names in an inbox are the gateway's alone."""
    return _PUBLISHED.fullmatch(fold(name)) is not None
