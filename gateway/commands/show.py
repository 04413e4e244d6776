"""Print what a command found: tables for people (rich), JSON for programs, a document's life in words."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # what they import takes longer than what a command shows
    from ..dossier.manifest_chain import Proof
    from .findings import Finding
    from .submit import Result

_WIDTH = 200  # where nobody's terminal says otherwise: a file or a pipe must not lose columns
_COLOURS = {"new": "green", "again": "cyan", "quarantined": "yellow", "refused": "red", "failed": "red"}


def console(*, stderr: bool = False) -> Console:
    """Standard output; wide when it is not a terminal."""
    out = Console(stderr=stderr, highlight=False)
    return out if out.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDTH)


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error, if that is a terminal; call what it gives after each of `total`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out = console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as shown:
        task = shown.add_task("", total=total)
        yield lambda: shown.advance(task)


def as_json(value: Any) -> None:
    """For programs."""
    print(json.dumps(value, indent=2))


def line(item: Mapping[str, Any], text: str, wants_json: bool) -> None:
    """One thing: in a line for people, whole for programs."""
    if wants_json:
        as_json(item)
    else:
        print(_safe(text))


def table(
    items: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str, wants_json: bool = False
) -> None:
    """Rows of a list; `columns` maps an item's key to its heading."""
    if wants_json:
        as_json(items)
        return
    out = console()
    if not items:
        out.print(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        shown.add_column(heading, overflow="fold")
    for item in items:
        shown.add_row(*(Text(_cell(item.get(key))) for key in columns))
    out.print(shown)


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_item, value)) or "-"
        case dict():
            return ", ".join(f"{key}={_cell(item)}" for key, item in value.items())
    return _safe(str(value))


def _item(value: Any) -> str:
    """One of a list; a pair in it as it is typed: /out/factures=/inbox."""
    return "=".join(map(_cell, value)) if isinstance(value, list) else _cell(value)


def _safe(text: str) -> str:
    """What came from outside must not steer the terminal: controls and direction marks are shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _plain(text: str) -> str:
    return escape(_safe(text))


def thing(item: Mapping[str, Any], wants_json: bool) -> None:
    """One thing, a line for each of its members."""
    if wants_json:
        as_json(item)
        return
    shown = Table(box=None, pad_edge=False, show_header=False)
    for key, value in item.items():
        shown.add_row(Text(key, "bold"), Text(_cell(value)))
    console().print(shown)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def results(of_files: "Sequence[Result]", wants_json: bool) -> None:
    """The summary of what was handed in."""
    if wants_json:
        as_json([asdict(one) for one in of_files])
        return
    if not of_files:
        console().print("no PDF there")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("file", "outcome", "number", "nature", "reason"):
        shown.add_column(heading, overflow="fold")
    for one in of_files:
        outcome = Text(one.outcome, _COLOURS[one.outcome])
        shown.add_row(Text(_safe(one.file)), outcome, Text(one.number), Text(one.nature), Text(_safe(one.reason)))
    counts = {outcome: sum(r.outcome == outcome for r in of_files) for outcome in _COLOURS}
    out = console()
    out.print(shown)
    out.print(f"{_count(len(of_files), 'file')}: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n))


def findings(found: "Sequence[Finding]", wants_json: bool) -> None:
    """What `check` found."""
    if wants_json:
        as_json([asdict(one) for one in found])
        return
    out = console()
    for one in found:
        colour = "red" if one.is_error else "yellow"
        out.print(f"[{colour}]{one.level}[/] [bold]{_plain(one.where)}[/] {_plain(one.what)}", soft_wrap=True)
    errors = sum(one.is_error for one in found)
    counted = f"{_count(errors, 'error')}, {_count(len(found) - errors, 'warning')}"
    out.print(counted if found else "[green]nothing is wrong[/]")


def proof(of_manifests: "Proof", wants_json: bool) -> None:
    """Whether the manifests prove that nothing is missing: a sentence for each thing found, then the verdict."""
    if wants_json:
        as_json({"holds": of_manifests.holds, **asdict(of_manifests)})
        return
    out = console()
    for one in of_manifests.findings:
        level = "[red]wrong[/]" if one.is_wrong else "note"
        out.print(f"{level} [bold]{_plain(one.file)}[/] {_plain(one.text)}", soft_wrap=True)
    for run in of_manifests.runs:
        held = f"numbers {run.first} to {run.last}" if run.last >= run.first else "no number"
        text = f"folder {run.folder} of {run.issuer}: {_count(run.manifests, 'manifest')}, "
        out.print(_plain(f"{text}{run.first_day} to {run.last_day}, {held}"), soft_wrap=True)
    if of_manifests.documents:
        out.print(f"{_count(of_manifests.documents, 'document')} on disk as published")
    wrong = sum(one.is_wrong for one in of_manifests.findings)
    if of_manifests.holds:
        out.print("[green]nothing is missing[/]")
    elif wrong:
        out.print(f"[red]not proven: {_count(wrong, 'thing')} wrong[/]")
    else:
        out.print("[red]no manifest there[/]: that of a day is made once the day is over")


def lives(told: Sequence[Mapping[str, Any]], wants_json: bool) -> None:
    """The lives of the documents of one number."""
    if wants_json:
        as_json(told)
        return
    for one in told:
        life(one)


def life(told: Mapping[str, Any]) -> None:
    """A document's life: what it is, what happened, where it stands, what comes next."""
    out = console()
    out.print(f"[bold]{_plain(told['number'])}[/]  {told['document']}  [bold]{told['state']}[/]")
    for line in told["about"]:
        out.print(f"  {_plain(line)}", soft_wrap=True)
    out.print("\n[bold]What happened[/]")
    for moment in told["moments"]:
        day, time = moment["at"][:10], moment["at"][11:19]
        here = "" if moment["day"] == day else f" ({moment['day']} here)"
        out.print(f"  {day} {time} UTC{here}  {_plain(moment['text'])}", soft_wrap=True)
    if told["deliveries"]:
        out.print("\n[bold]Where it stands[/]")
    for stand in told["deliveries"]:
        text = f": {stand['text']}" if stand["text"] else ""
        out.print(f"  {_plain(stand['where'])}: [bold]{stand['state']}[/]{_plain(text)}", soft_wrap=True)
    out.print("\n[bold]What comes next[/]")
    for line in told["next"]:
        out.print(f"  {_plain(line)}", soft_wrap=True)


def status(found: Mapping[str, Any], wants_json: bool) -> None:
    """How the gateway is."""
    if wants_json:
        as_json(found)
        return
    out = console()
    out.print(f"gateway {found['version']} at {found['at'][:19].replace('T', ' ')} UTC")
    waiting = [{"what": "documents", **row} for row in found["documents"]]
    waiting += [{"what": f"deliveries by {row['channel']}", **row} for row in found["deliveries"]]
    columns = {"what": "what", "state": "state", "count": "count", "oldest_at": "oldest since"}
    table(waiting, columns, empty="nothing waits")
    for one in found["certificates"]:
        ends = f"ends {one['not_after'][:10]}, in {one['days_left']} days" if one["not_after"] else ""
        out.print(f"certificate of the {one['use']}: {_plain(one['trouble'] or one['subject'])} {ends}", soft_wrap=True)
    manifests = found["manifests"]
    if manifests["trouble"]:
        out.print(f"manifests: [red]{_plain(manifests['trouble'])}[/]", soft_wrap=True)
    if manifests["behind"]:
        since = f"from {manifests['first_day']} on" if manifests["first_day"] else "of every day"
        out.print(f"manifests: [red]{_count(manifests['behind'], 'folder')} without those {since}[/]", soft_wrap=True)
    disk = found["disk"]
    low = " [red]below its floor: the intake refuses[/]" if disk["is_low"] else ""
    out.print(f"disk: {disk['free_percent']:.1f} % free, floor {disk['floor_percent']:.1f} %{low}")
