"""`gateway document`: what is ordered of one document that has left. `gateway folder`: of a range of a drop folder."""

import datetime as dt
from typing import Annotated, Any

import typer

from ..errors import Conflict, NotFound
from . import show
from .options import AsJson, call
from .parties import Client, client_id, folder_of
from .reach import Api, named

app = typer.Typer(no_args_is_help=True, help="Documents: deliver once more, withdraw.")
folder = typer.Typer(no_args_is_help=True, help="A client's drop folder: publish a range once more.")

Document = Annotated[str, typer.Argument(help="Number of the document, or its id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it goes into the evidence.")]
Day = Annotated[dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Of publication, included.")]
Number = Annotated[int | None, typer.Option(min=1, help="Of the folder's sequence, included.")]


@app.command()
def again(
    context: typer.Context,
    document: Document,
    reason: Reason,
    channel: Annotated[str | None, typer.Option("--channel", help="email or folder; else wherever it went.")] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver a document once more, marked as a repeat, to each destination that it had."""

    async def act(api: Api) -> Any:
        path = f"/documents/{await _id(api, document)}/send-again"
        return await api.post(path, {"reason": reason, "channel": channel})

    ordered = call(context, act)
    show.line(ordered, f"{document} goes once more: {', '.join(ordered['deliveries'])}", as_json)


@app.command()
def withdraw(context: typer.Context, document: Document, reason: Reason, as_json: AsJson = False) -> None:
    """Take a document from its client's inbox and archive (wrong recipient). It recalls no mail."""

    async def act(api: Api) -> Any:
        return await api.post(f"/documents/{await _id(api, document)}/withdraw", {"reason": reason})

    shown = call(context, act)
    show.line(shown, f"{shown['id']} ({shown['number']}) is {shown['state']}; mail that has left stays out", as_json)


async def _id(api: Api, document: str) -> str:
    """The id of a document; NotFound, and Conflict when several have the number."""
    if document.startswith("doc_"):
        return named(document)
    found = await api.every("/documents", number=document)
    if not found:
        raise NotFound(f"no document has the number {document}")
    if len(found) > 1:
        ids = ", ".join(one["id"] for one in found)
        raise Conflict(f"{len(found)} documents have the number {document}: use the id of one ({ids})")
    return str(found[0]["id"])


@folder.command("again")
def range_again(
    context: typer.Context,
    client: Client,
    reason: Reason,
    from_number: Number = None,
    to_number: Number = None,
    from_day: Day = None,
    to_day: Day = None,
    user: Annotated[str | None, typer.Option("--user", help="Log-in of the folder; else the client's first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Publish what a folder got under these numbers, or on these days, once more: the same bytes, new numbers."""
    days = {"from": from_day, "to": to_day}
    body: dict[str, Any] = {name: day.date().isoformat() for name, day in days.items() if day is not None}
    body |= {"first": from_number, "last": to_number, "reason": reason}

    async def act(api: Api) -> Any:
        found = await folder_of(api, f"/clients/{await client_id(api, client)}/folders", user)
        return await api.post("/folder/again", body | {"folder": found["id"]})

    asked = call(context, act)
    text = f"documents published again: {asked['documents']}, under numbers after {asked['after']}"
    for key, what in (("withdrawn", "withdrawn: left out"), ("on_their_way", "on their way already")):
        text += f"; {asked[key]} {what}" if asked[key] else ""
    show.line(asked, text, as_json)
