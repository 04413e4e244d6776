"""`gateway import`: move in from an existing SFTP server.

`import clients` reads a CSV file (UTF-8, `;` or `,`, a header with the names of parties/moving_in.COLUMNS) and each
account's keys from a directory: NAME, NAME.pub, NAME/authorized_keys or NAME/.ssh/authorized_keys. Links are not
followed: the files are other people's. What is wrong with a line is said of that line; what is wrong with the file as
a whole is Refused before anything is sent.
"""

import csv
import dataclasses
import difflib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import Refused
from . import host_keys, show
from .files import content
from .options import AsJson, call
from .reach import Api

app = typer.Typer(no_args_is_help=True, help="Move in from an existing SFTP server.")

MAX_BYTES, MAX_KEY_BYTES = 10_000_000, 64_000
_MAX_LINES = 2000  # of one call of the API
_AT_ONCE = 50
_PLACES = ("{0}", "{0}.pub", "{0}/authorized_keys", "{0}/.ssh/authorized_keys")
app.command("host-keys")(host_keys.import_host_keys)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would come of it, and change nothing.")]


@dataclasses.dataclass
class _Row:
    """A line of the file: what is sent of it, or what is wrong with it; then what came of it."""

    number: int
    cells: dict[str, str]
    report: dict[str, Any] | None = None

    def refuse(self, column: str, reason: str) -> None:
        self.report = {"outcome": "refused", "made": [], "column": column, "reason": reason, "keys": []}


@app.command("clients")
def import_clients(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV: client, user_name, and what else is known of each.")],
    keys: Annotated[
        Path | None, typer.Option("--authorized-keys", help="Directory with a file of keys for each user name.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make clients, folders and keys from a list; 1 if a line or a key was not taken. Again, it changes nothing."""
    rows = read(file)
    if keys is not None:
        _add_keys(rows, keys)

    async def act(api: Api) -> None:
        wanted = [row for row in rows if row.report is None]
        size = _MAX_LINES if dry_run else _AT_ONCE
        with show.progress("importing", len(wanted)) as advance:
            for start in range(0, len(wanted), size):
                part = wanted[start : start + size]
                answer = await api.put("/imports/clients", {"dry_run": dry_run, "lines": [row.cells for row in part]})
                for row, report in zip(part, answer["items"], strict=True):
                    row.report = report
                    advance()

    call(context, act)
    _show(rows, dry_run, as_json)


def read(file: Path) -> list[_Row]:
    """The lines of a list. Refused: no such file, no text, no header, a column that nobody knows."""
    try:
        text = content(file, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(f"{file}: not UTF-8: save it as CSV UTF-8") from None
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from None
    first = text.split("\n", 1)[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
    try:
        rows = list(_rows(lines, file))
    except csv.Error as error:
        raise Refused(f"{file}, line {lines.line_num}: not CSV ({error})") from None
    if len(rows) > _MAX_LINES:
        raise Refused(f"{file}: {len(rows)} lines, at most {_MAX_LINES} at once: split it")
    return rows


def _rows(lines: Any, file: Path) -> Iterator[_Row]:
    header = [name.strip().lower() for name in next(lines, [])]
    _check_header(header, file)
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        row = _Row(lines.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=False)})
        if len(cells) != len(header):
            row.refuse("", f"the line has {len(cells)} cells, the header {len(header)}")
        yield row


def _check_header(header: Sequence[str], file: Path) -> None:
    from ..parties.moving_in import COLUMNS, REQUIRED

    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1)
            meant = f"; {near[0]} was meant?" if near else f": the columns are {', '.join(COLUMNS)}"
            raise Refused(f"{file}: no column is named {name!r}{meant}")
        if header.count(name) > 1:
            raise Refused(f"{file}: the column {name} is there twice")
    for name in REQUIRED:
        if name not in header:
            raise Refused(f"{file}: the column {name} is missing")


def _add_keys(rows: list[_Row], directory: Path) -> None:
    from ..domain import identifiers

    if not directory.is_dir():
        raise Refused(f"{directory}: no such directory")
    for row in rows:
        name = row.cells.get("user_name", "")
        if row.report is not None or not identifiers.USER_NAME.fullmatch(name) or not name.strip("."):
            continue  # a name that is none is refused for that
        try:
            row.cells["authorized_keys"] = "\n".join(_found(directory, name))
        except UnicodeDecodeError:
            row.refuse("authorized_keys", "its keys are no text")
        except OSError as error:
            row.refuse("authorized_keys", f"its keys cannot be read: {error.strerror}")


def _found(directory: Path, name: str) -> Iterator[str]:
    for place in _PLACES:
        path = directory / place.format(name)
        if path.is_symlink() or path.is_file():
            yield content(path, MAX_KEY_BYTES, follow=False).decode()


def _show(rows: list[_Row], dry_run: bool, as_json: bool) -> None:
    reports: list[dict[str, Any]] = [
        {"line": row.number, "client": row.cells.get("client", ""), "user_name": row.cells.get("user_name", "")}
        | (row.report or {})
        for row in rows
    ]
    if as_json:
        show.as_json(reports)
    else:
        _table(reports, dry_run)
    taken = all(r["outcome"] in ("created", "same") for r in reports)
    raise typer.Exit(int(not taken or any(key["outcome"] == "refused" for r in reports for key in r["keys"])))


def _table(reports: list[dict[str, Any]], dry_run: bool) -> None:
    shown = []
    for report in reports:
        shown.append(report | {"what": ", ".join(report["made"]) or report["reason"]})
        shown += [
            {"line": "", "outcome": "key refused", "column": "authorized_keys",
             "what": f"line {key['line']}, {key['fingerprint'] or key['label']}: {key['reason']}"}
            for key in report["keys"]
            if key["outcome"] == "refused"
        ]  # fmt: skip
    columns = {"line": "line", "user_name": "user", "outcome": "outcome", "column": "column", "what": "what"}
    show.table(shown, columns, empty="the list is empty")
    if dry_run:
        print("a dry run: nothing was changed")
