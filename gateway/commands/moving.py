"""`gateway import`: move in from an existing SFTP server.

`import clients` reads a list (lists.py, with the columns of parties/moving_in.COLUMNS) and each account's keys from a
directory: NAME, NAME.pub, NAME/authorized_keys or NAME/.ssh/authorized_keys. Links are not followed: the files are
other people's. What is wrong with a line is said of that line, what is wrong with the file as a whole is Refused before
anything is sent.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import Refused
from . import history, host_keys, lists, show
from .files import content
from .lists import Row
from .options import AsJson, DryRun, call
from .reach import Api

app = typer.Typer(no_args_is_help=True, help="Move in from an existing SFTP server.")

MAX_KEY_BYTES = 64_000
_MAX_LINES = 2000  # of one call of the API
_AT_ONCE = 50
_PLACES = ("{0}", "{0}.pub", "{0}/authorized_keys", "{0}/.ssh/authorized_keys")
app.command("host-keys")(host_keys.import_host_keys)
app.command("history")(history.import_history)
app.command("withdraw-history")(history.withdraw_history)


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


def read(file: Path) -> list[Row]:
    """The lines of a list; see lists.read."""
    from ..parties.moving_in import COLUMNS, REQUIRED

    return lists.read(file, COLUMNS, REQUIRED, max_lines=_MAX_LINES)


def _add_keys(rows: list[Row], directory: Path) -> None:
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


def _show(rows: list[Row], dry_run: bool, as_json: bool) -> None:
    reports: list[dict[str, Any]] = [
        {"line": row.number, "client": row.cells.get("client", ""), "user_name": row.cells.get("user_name", "")}
        | {"made": [], "keys": []}
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
