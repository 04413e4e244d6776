"""Files of the server before move into the archives of folders (history.py), and out again those that should not.

A line names a file, its date and its bytes, which are in the store before it is taken. The lines of a call are one
transaction, with one record for each folder, which holds who, how many, and the digest of the list. A line that is
there already, the same, changes nothing, so an import can be killed and repeated. What is there never changes: an
entry, or other bytes under that name in that month, are said, and a person gives the file another name. What should not
be there is withdrawn by the same lines, with a reason; its bytes stay in the store, and its name is free again.

Refused is a line alone: a log-in that nobody has, a name that a client could not use, a date that cannot be.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from .. import clock, evidence
from ..access import Actor, Permission
from ..domain import names
from ..domain.tables import metadata
from ..errors import Refused
from ..evidence import Fact
from ..store import database
from ..store.blobs import Blobs, size_of
from ..store.database import Database, Transaction
from . import paths
from .history import HISTORY, place_of

ENTRY = metadata.tables["folder_entry"]
FOLDER = metadata.tables["folder"]
MAX_LINES = 500  # of one call
MAX_NAME = 255  # bytes: NAME_MAX
MAX_REASON = 500  # characters
Place = tuple[str, str, str]  # folder, month, folded name
Sizes = dict[str, int | None]  # by digest; None: the store does not have these bytes


@dataclass(frozen=True)
class Line:
    """One file of the server before."""

    user_name: str
    name: str
    mtime: int  # Unix seconds: its date there
    sha256: str  # 64 hexadecimal digits
    size: int  # bytes


@dataclass(frozen=True)
class Report:
    """What came of a line: created, same, differs, refused; or withdrawn, missing.

    What differs or is refused made nothing, for `reason`, in `column`.
    """

    outcome: str
    place: str = ""  # in the client's home; empty where there is none
    column: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Rules:
    """What a line is held to."""

    zone: ZoneInfo  # the issuer's: a month begins there
    max_bytes: int


@dataclass(frozen=True)
class _There:
    """What has a place already."""

    id: str
    name: str
    sha256: str
    is_entry: bool


def rehearse(db: Database, lines: Sequence[Line], rules: Rules) -> list[Report]:
    """What `take` would report of these lines, once their bytes are in the store; it writes nothing."""
    return db.read(lambda tx: _judged(tx, lines, rules)[0])


def take(db: Database, blobs: Blobs, actor: Actor, lines: Sequence[Line], rules: Rules) -> list[Report]:
    """Import at most MAX_LINES lines whose bytes are in the store; what came of each."""
    actor.require(Permission.PARTIES_MANAGE)
    sizes = {sha256: size_of(blobs, sha256) for sha256 in {line.sha256 for line in lines}}
    return db.write(lambda tx: _take(tx, actor, lines, rules, sizes))


def _take(tx: Transaction, actor: Actor, lines: Sequence[Line], rules: Rules, sizes: Sizes) -> list[Report]:
    _hold(tx, lines)
    reports, rows = _judged(tx, lines, rules, sizes)
    for folder_id in sorted({row["folder_id"] for row in rows}):
        _insert(tx, actor, folder_id, [row for row in rows if row["folder_id"] == folder_id])
    return reports


def _hold(tx: Transaction, lines: Sequence[Line]) -> None:
    """Until the commit nothing is published into these folders, and no other import names anything in them."""
    held = sa.select(FOLDER.c.id).where(FOLDER.c.user_name.in_(_asked(line.user_name for line in lines)))
    tx.execute(held.order_by(FOLDER.c.id).with_for_update()).all()


def _judged(
    tx: Transaction, lines: Sequence[Line], rules: Rules, sizes: Sizes | None = None
) -> tuple[list[Report], list[dict[str, Any]]]:
    """What comes of each line after those before it, and the rows to insert. `sizes`: None asks for no bytes."""
    now = database.now(tx)
    folders = _folders(tx, lines)
    there = _there(tx, [row.id for row in folders.values()], lines)
    reports, rows = [], []
    for line in lines:
        try:
            row = _row(line, folders, rules, now)
            report = _compared(row, there)
            if report.outcome == "created" and sizes is not None:
                _require_bytes(line, sizes[line.sha256])
        except Refused as error:
            report = _refused(error)
        if report.outcome == "created":
            rows.append(row)
            there[_place(row)] = _There(row["id"], row["name"], row["sha256"], is_entry=False)
        reports.append(report)
    return reports, rows


def _require_bytes(line: Line, size: int | None) -> None:
    if size is None:
        raise Refused("its bytes are not in the store: send them first", column="sha256")
    if size != line.size:
        raise Refused(f"its bytes are {size}", column="size")


def _refused(error: Refused) -> Report:
    return Report("refused", "", str(error.facts.get("column", "name")), error.message)


def _folders(tx: Transaction, lines: Sequence[Line]) -> dict[str, Any]:
    wanted = _asked(line.user_name for line in lines)
    query = sa.select(FOLDER.c.id, FOLDER.c.user_name, FOLDER.c.is_intake).where(FOLDER.c.user_name.in_(wanted))
    return {row.user_name: row for row in tx.execute(query)}


def _asked(texts: Iterable[str]) -> set[str]:
    """Those that a database can be asked for: NUL and halves of characters are in none of its columns."""
    return {text for text in texts if "\0" not in text and text.encode(errors="ignore").decode() == text}


def _there(tx: Transaction, folder_ids: Sequence[str], lines: Sequence[Line]) -> dict[Place, _There]:
    """What these folders have under the names of the lines, in whatever month."""
    wanted = _asked(names.fold(line.name) for line in lines)
    found = {}
    for table in (HISTORY, ENTRY):  # an entry, if there were both, is what counts
        columns = [table.c[one] for one in ("id", "folder_id", "month", "name_folded", "name", "sha256")]
        query = sa.select(*columns).where(table.c.folder_id.in_(folder_ids), table.c.name_folded.in_(wanted))
        for row in tx.execute(query):
            found[row.folder_id, row.month, row.name_folded] = _There(row.id, row.name, row.sha256, table is ENTRY)
    return found


def _row(line: Line, folders: dict[str, Any], rules: Rules, now: dt.datetime) -> dict[str, Any]:
    """The row of a line; Refused, with the column at fault."""
    folder = folders.get(line.user_name)
    if folder is None:
        raise Refused("no client has this log-in name: import the clients first", column="user_name")
    if folder.is_intake:
        raise Refused("this log-in hands documents in: it has no archive", column="user_name")
    if not 0 <= line.mtime <= now.timestamp():
        raise Refused("its date lies before 1970 or in the future: say which it is in the column date", column="date")
    if line.size > rules.max_bytes:
        text = f"it has more than {rules.max_bytes} bytes: raise [http] max_upload_megabytes for the import"
        raise Refused(text, column="file")
    month = f"{dt.datetime.fromtimestamp(line.mtime, rules.zone):%Y-%m}"
    check_name(line.name)
    return {
        "id": clock.new_id("hst"),
        "folder_id": folder.id,
        "month": month,
        "name": line.name,
        "name_folded": names.fold(line.name),
        "sha256": line.sha256,
        "size": line.size,
        "mtime": line.mtime,
        "imported_at": now,
    }


def check_name(name: str) -> None:
    """Whether a file in the archive may have this name; Refused."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise Refused("its name is not UTF-8: say another in the column name of a list", column="name") from None
    if name in ("", ".", "..") or "/" in name:
        raise Refused("a name is not empty, . or .., and holds no slash", column="name")
    if len(encoded) > MAX_NAME:
        raise Refused(f"a name has at most {MAX_NAME} bytes", column="name")
    paths.check_form(f"/{place_of('YYYY-MM', name)}")


def _place(row: dict[str, Any]) -> Place:
    return row["folder_id"], row["month"], row["name_folded"]


def _compared(row: dict[str, Any], there: dict[Place, _There]) -> Report:
    """A row beside what has its place: what the gateway published stays what it is, as does what was imported."""
    place, known = place_of(row["month"], row["name"]), there.get(_place(row))
    if known is None:
        return Report("created", place)
    if (known.name, known.sha256) == (row["name"], row["sha256"]):
        return Report("same", place)
    if known.is_entry:
        text = "the gateway published other bytes under this name in that month"
    elif known.name != row["name"]:
        text = f"{known.name} is there: for some systems the two names are one"
    else:
        text = "other bytes are there under this name"
    return Report("differs", place, "name", f"{text}: give the file another name in the column name of a list")


def _insert(tx: Transaction, actor: Actor, folder_id: str, rows: list[dict[str, Any]]) -> None:
    """The rows of one folder, with the record of their import; the folder's listing has changed."""
    import_id = clock.new_id("imp")
    tx.execute(sa.insert(HISTORY), [row | {"import_id": import_id} for row in rows])
    _count_change(tx, folder_id)
    size = sum(row["size"] for row in rows)
    listed = {"import": import_id, "files": len(rows), "bytes": size, "list_sha256": list_digest(rows)}
    evidence.record_all(tx, [Fact("history.imported", folder_id, None, {"actor": actor.id} | listed)])


def _count_change(tx: Transaction, folder_id: str) -> None:
    """Its sessions look again."""
    values = {"version": FOLDER.c.version + 1, "imports": FOLDER.c.imports + 1}
    tx.execute(sa.update(FOLDER).where(FOLDER.c.id == folder_id).values(**values))


def list_digest(rows: Iterable[dict[str, Any]]) -> str:
    """SHA-256 of the list of files, a line each."""
    return hashlib.sha256("".join(f"{line}\n" for line in _list(rows)).encode()).hexdigest()


def _list(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Files as `sha256sum` lists them, `archive/YYYY/MM/name`, in the order of their paths."""
    lines = sorted((place_of(row["month"], row["name"]), row["sha256"]) for row in rows)
    return [f"{sha256}  {place}" for place, sha256 in lines]


# -- taken out again


def withdraw(
    db: Database, actor: Actor, lines: Sequence[Line], rules: Rules, reason: str, *, dry_run: bool = False
) -> list[Report]:
    """Take these files out of the archives, as of now; what came, or in a dry run would come, of each line.

    For what was imported by mistake, into another client's folder say. Refused: no reason, or a long one.
    """
    actor.require(Permission.PARTIES_MANAGE)
    if not 0 < len(reason := reason.strip()) <= MAX_REASON:
        raise Refused(f"a withdrawal says why in 1 to {MAX_REASON} characters", code="reason")
    if dry_run:
        return db.read(lambda tx: _to_withdraw(tx, lines, rules)[0])
    return db.write(lambda tx: _withdraw(tx, actor, lines, rules, reason))


def _withdraw(tx: Transaction, actor: Actor, lines: Sequence[Line], rules: Rules, reason: str) -> list[Report]:
    _hold(tx, lines)
    reports, rows = _to_withdraw(tx, lines, rules)
    for folder_id in sorted({row["folder_id"] for row in rows}):
        gone = [row for row in rows if row["folder_id"] == folder_id]
        tx.execute(sa.delete(HISTORY).where(HISTORY.c.id.in_([row["id"] for row in gone])))
        _count_change(tx, folder_id)
        facts = {"actor": actor.id, "reason": reason, "files": len(gone), "list": _list(gone)}
        evidence.record_all(tx, [Fact("history.withdrawn", folder_id, None, facts)])
    return reports


def _to_withdraw(tx: Transaction, lines: Sequence[Line], rules: Rules) -> tuple[list[Report], list[dict[str, Any]]]:
    now = database.now(tx)
    folders = _folders(tx, lines)
    there = _there(tx, [row.id for row in folders.values()], lines)
    reports, rows = [], []
    for line in lines:
        try:
            row = _row(line, folders, rules, now)
        except Refused as error:
            reports.append(_refused(error))
            continue
        place, known = place_of(row["month"], row["name"]), there.get(_place(row))
        if known is None:
            reports.append(Report("missing", place))
        elif known.is_entry:
            text = "the gateway published what is there: withdraw its document"
            reports.append(Report("differs", place, "name", text))
        elif (known.name, known.sha256) != (row["name"], row["sha256"]):
            reports.append(Report("differs", place, "name", "other bytes are there under this name: they stay"))
        else:
            del there[_place(row)]
            rows.append(row | {"id": known.id})
            reports.append(Report("withdrawn", place))
    return reports, rows
