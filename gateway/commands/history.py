"""`gateway import history`: what clients had on the server before, into the archives of their folders; and out again.

From a directory with one for each user name, `DIR/USER_NAME/…`, however deep: a file keeps its own name, and its mtime
says its month. Or from a list (history_files.COLUMNS), whose files lie below the list's own directory. Links are not
followed anywhere: the files are other people's. What is hidden (`.ssh/`) is passed over.

Part after part: each file's digest is taken, the gateway says what would come of it, the bytes of what is new are sent,
then the lines that name them. Whatever was stopped can be started again.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import Refused
from . import show
from .history_files import File, gathered, listed, measure, reading, why
from .options import AsJson, DryRun, settings
from .reach import Api, ApiError, run

_MAX_SHOWN = 1000
_DONE = ("created", "same", "withdrawn")
_AT_ONCE = 50
_ROUTE = "/imports/history"
Take = Callable[[Api, int, Sequence[File]], Awaitable[None]]
Seen = dict[tuple[str, str], tuple[str, str]]  # user name and folded place: the place and its SHA-256


def import_history(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="DIR, holding USER_NAME/…; or a CSV: user_name, file, name, date.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put what clients had on the server before into their archives, DIR/USER_NAME/FILE by FILE's month.

    Nothing is delivered by it. Exit status 1 if a file was not taken. Again, it changes nothing.
    """
    seen: Seen = {}

    async def take(api: Api, root: int, files: Sequence[File]) -> None:
        await _import(api, root, files, seen if dry_run else None)

    _run(context, source, take, dry_run, as_json)


def withdraw_history(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="The directory or list that was imported.")],
    reason: Annotated[str, typer.Option("--reason", help="Why these files should not be there.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take out of the archives what was imported from a directory or list by mistake; its bytes stay as evidence."""

    async def take(api: Api, root: int, files: Sequence[File]) -> None:
        body = {"dry_run": dry_run, "reason": reason}
        await _ask(partial(api.post, f"{_ROUTE}/withdraw"), _measured(root, files), body)

    _run(context, source, take, dry_run, as_json)


def _run(context: typer.Context, source: Path, take: Take, dry_run: bool, as_json: bool) -> None:
    """`take` the files part after part, and say what came of each."""
    loaded = settings(context)
    with _opened(source if source.is_dir() else source.parent) as root:
        files = gathered(root) if source.is_dir() else listed(source, loaded.issuer.zone)

        async def act(api: Api) -> None:
            with show.progress("files", len(files)) as advance:
                for start in range(0, len(files), _AT_ONCE):
                    part = files[start : start + _AT_ONCE]
                    await take(api, root, part)
                    for _ in part:
                        advance()

        run(loaded, act)
    _show(files, dry_run, as_json)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{directory}: {error.strerror}") from None
    try:
        yield root
    finally:
        os.close(root)


async def _import(api: Api, root: int, files: Sequence[File], seen: Seen | None) -> None:
    """Import a part; or, with what a dry run has `seen` of the parts before, say what would come of it."""
    put = partial(api.put, _ROUTE)
    await _ask(put, _measured(root, files), {"dry_run": True})
    new = [file for file in files if file.report and file.report["outcome"] == "created"]
    if seen is not None:
        for file in new:
            _compare(file, seen)
        return
    for file in new:
        await _send(api, root, file)
    await _ask(put, [file for file in new if file.report and file.report["outcome"] == "created"], {"dry_run": False})


def _measured(root: int, files: Sequence[File]) -> list[File]:
    """Those of which nothing is wrong, measured."""
    for file in files:
        if file.report is None:
            measure(root, file)
    return [file for file in files if file.report is None]


async def _ask(call: Callable[[Any], Awaitable[Any]], files: Sequence[File], body: dict[str, Any]) -> None:
    """What comes of these files, as the gateway says."""
    if files:
        answer = await call(body | {"lines": [file.sent for file in files]})
        for file, report in zip(files, answer["items"], strict=True):
            file.report = report


async def _send(api: Api, root: int, file: File) -> None:
    """The bytes of a file into the store."""
    changed = "it changed while it was read: import it again"
    try:
        with reading(root, file) as content:
            if os.fstat(content.fileno()).st_size != file.size:
                raise Refused(changed)
            form = {"file": ("file", content, "application/octet-stream")}
            kept = await api.post(f"{_ROUTE}/bytes", files=form)
        if kept["sha256"] != file.sha256:
            raise Refused(changed)
    except OSError as error:
        file.refuse("file", why(error))
    except Refused as error:
        file.refuse("file", error.message)
    except ApiError as error:
        if error.status >= 500:
            raise
        file.refuse("file", error.message)


def _compare(file: File, seen: Seen) -> None:
    """A file of a dry run beside those that would be there by now."""
    from ..domain import names

    assert file.report is not None
    place = file.report["place"]
    is_new = (key := (file.user_name, names.fold(place))) not in seen
    there = seen.setdefault(key, (place, file.sha256))
    if is_new:
        return
    if there == (place, file.sha256):
        file.report |= {"outcome": "same"}
    else:
        reason = "another file has this name in that month: give one of them another in the column name of a list"
        file.report |= {"outcome": "differs", "column": "name", "reason": reason}


def _show(files: Sequence[File], dry_run: bool, as_json: bool) -> None:
    reports = [
        {"line": file.line, "file": "/".join(file.path), "user_name": file.user_name, "size": file.size}
        | (file.report or {})
        for file in files
    ]
    counts = Counter(report["outcome"] for report in reports)
    if as_json:
        show.as_json(reports)
    else:
        _table(reports, counts, dry_run)
    raise typer.Exit(int(bool(counts["differs"] + counts["refused"])))


def _table(reports: list[dict[str, Any]], counts: Counter[str], dry_run: bool) -> None:
    """Every file of a short import; of a long one, those that were not taken."""
    is_short = len(reports) <= _MAX_SHOWN
    shown = [one for one in reports if is_short or one["outcome"] not in _DONE]
    columns = {"line": "line", "file": "file", "outcome": "outcome", "column": "column", "what": "what"}
    items = [one | {"what": one["reason"] or one["place"]} for one in shown]
    show.table(items, columns, empty="nothing that was not taken" if reports else "nothing to import")
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no file")
    if dry_run:
        print("a dry run: nothing was changed")
