"""The names of published entries, and when two names are the same. Pure functions, no I/O.

Grammar: `<issue date YYYYMMDD>_<contract>_<number>_<nature>[-<k>].<ext>`, of `[A-Za-z0-9._-]`, at most 100
characters. The leading date makes alphabetical order chronological and keeps a name from ever being a Windows
device, hidden, or an option of a command.

A folder may have a template of its own in the place of `{date}_{contract}_{number}_{nature}` (`check_template`).

Two documents can map to one name (`C/1` and `C-1`, or a cut contract number): `k` = 2, 3 … is chosen by the
publishing transaction when the name, compared by `fold`, was ever used in that folder.
"""

import datetime as dt
import re
import unicodedata

from ..errors import Refused
from .states import Nature

MAX_LENGTH = 100
TEMPLATE = "{date}_{contract}_{number}_{nature}"
MAX_LITERALS = 40  # characters of a template outside its fields
_OUTSIDE = re.compile(r"[^A-Za-z0-9.-]")
_PUBLISHED = re.compile(r"[0-9]{8}_[a-z0-9.-]+_[a-z0-9.-]+_(?:orig|copy|data)(?:-[0-9]+)?\.[a-z0-9]+")
_FIELD = re.compile(r"\{(date|contract|number|nature)\}")
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")
_CODES = {Nature.ORIGINAL: "ORIG", Nature.PLATFORM_COPY: "COPY"}


def nature_code(nature: Nature, ext: str) -> str:
    """ORIG or COPY for a document's own file, DATA for the XML extracted from it.

    ValueError for a duplicate: it is never published.
    """
    if nature not in _CODES:
        raise ValueError(f"a {nature} has no entry in a folder")
    return "DATA" if ext == "xml" else _CODES[nature]


def check_template(template: str) -> None:
    """Whether a folder's names may be made so; Refused, with what is wrong.

    Fields `{date}`, `{contract}`, `{number}`, `{nature}`, each once at most, the last two needed; between them
    `[A-Za-z0-9_-]`. It begins with `{date}`, `{nature}`, a letter or a digit, so that no name is hidden or an option.
    """
    literals, fields = _FIELD.split(template)[::2], _FIELD.findall(template)
    if not re.fullmatch(r"[A-Za-z0-9_-]*", "".join(literals)):
        text = "a name template holds {date} {contract} {number} {nature}, letters, digits, _ and -; no ending"
    elif len("".join(literals)) > MAX_LITERALS:
        text = f"a name template holds at most {MAX_LITERALS} characters outside its fields"
    elif len(set(fields)) < len(fields) or not {"number", "nature"} <= set(fields):
        text = "a name template holds {number} and {nature}, and each field once: documents are told apart by them"
    elif not re.match(r"[A-Za-z0-9]|\{(?:date|nature)\}", template):
        text = "a name template begins with {date}, {nature}, a letter or a digit"
    else:
        return
    raise Refused(text, code="name_template")


def entry_name(
    issue_date: dt.date, contract: str, number: str, nature_code: str, k: int, ext: str, template: str = TEMPLATE
) -> str:
    """The published name, e.g. `20260131_CARD-S-0042_FA2026-0001_ORIG.pdf`; `k` = 1 is not written.

    What is over 100 characters is cut from the end of the contract first, then of the number: the number tells
    documents apart. Names that become equal by it are told apart by `k`.
    """
    parts = {"contract": _part(contract), "number": _part(number), "nature": nature_code}
    if template != TEMPLATE:  # no date may lead: `CON.1` would be a device of Windows
        parts = {field: value.replace(".", "-") for field, value in parts.items()}
    parts["date"] = f"{issue_date.year:04d}{issue_date.month:02d}{issue_date.day:02d}"
    end = f"{f'-{k}' if k > 1 else ''}.{ext}"
    fields = _FIELD.findall(template)
    fixed = sum(len(parts[field]) for field in fields if field in ("date", "nature"))
    room = MAX_LENGTH - len("".join(_FIELD.split(template)[::2])) - fixed - len(end)
    parts["number"] = parts["number"][: room - ("contract" in fields)]
    parts["contract"] = parts["contract"][: room - len(parts["number"])]
    return _FIELD.sub(lambda field: parts[field[1]], template) + end


def directory_name(contract: str) -> str:
    """The folder of a contract where a layout has one; empty for none. At most 61 characters, no device, not hidden."""
    name = _part(contract).replace(".", "-")[:60] if contract else ""
    return f"C{name}" if name and (not name[0].isalnum() or _DEVICE.fullmatch(name.lower())) else name


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
