"""`gateway queue`: deliveries that are not done, and what is ordered of them. `gateway quarantine`: its three exits."""

from typing import Annotated, Any

import typer

from . import show
from .options import AsJson, Limit, call
from .reach import Api, named

app = typer.Typer(help="Deliveries: see, retry, cancel, release.")
quarantine = typer.Typer(no_args_is_help=True, help="Documents in quarantine: see, accept, reject, replace.")

_OPEN = ("attempting", "deferred", "uncertain", "planned", "held", "failed", "bounced")
Id = Annotated[str, typer.Argument(help="Id of the delivery, dlv_…")]
Document = Annotated[str, typer.Argument(help="Id of the document, doc_…")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it goes into the evidence.")]


@app.callback(invoke_without_command=True)
def _queue(context: typer.Context, as_json: AsJson = False) -> None:
    """`gateway queue` alone lists."""
    if context.invoked_subcommand is None:
        list_(context, as_json=as_json)


@app.command("list")
def list_(
    context: typer.Context,
    state: Annotated[str | None, typer.Option("--state", help="One state; else all that are not done.")] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="email or folder.")] = None,
    client: Annotated[str | None, typer.Option("--client", help="Id of a client.")] = None,
    limit: Limit = 200,
    as_json: AsJson = False,
) -> None:
    """Deliveries that are not done, or failed."""

    async def act(api: Api) -> list[Any]:
        states = (state,) if state else _OPEN
        found = [await api.every("/deliveries", limit, state=one, channel=channel, client=client) for one in states]
        return [item for items in found for item in items][:limit]

    found = call(context, act)
    columns = {
        "id": "id",
        "number": "number",
        "channel": "channel",
        "destination": "destination",
        "state": "state",
        "attempts": "attempts",
        "due_at": "due",
        "last_reply": "last reply",
        "state_reason": "reason",
    }
    show.table(found, columns, empty="nothing waits", wants_json=as_json)


@app.command()
def retry(context: typer.Context, delivery: Id, as_json: AsJson = False) -> None:
    """Try a mail delivery at once."""
    _ordered(call(context, lambda api: api.post(f"/deliveries/{named(delivery)}/retry")), as_json)


@app.command()
def cancel(context: typer.Context, delivery: Id, reason: Reason, as_json: AsJson = False) -> None:
    """End a delivery that has not left."""
    _ordered(call(context, lambda api: api.post(f"/deliveries/{named(delivery)}/cancel", {"reason": reason})), as_json)


@app.command()
def release(context: typer.Context, delivery: Id, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a held delivery go."""
    _ordered(call(context, lambda api: api.post(f"/deliveries/{named(delivery)}/release", {"reason": reason})), as_json)


def _ordered(delivery: dict[str, Any], as_json: bool) -> None:
    text = f"{delivery['id']} ({delivery['number']} to {delivery['destination']}) is {delivery['state']}"
    show.line(delivery, text, as_json)


@quarantine.command("list")
def quarantined(context: typer.Context, limit: Limit = 200, as_json: AsJson = False) -> None:
    """Documents that wait for a person."""
    found = call(context, lambda api: api.every("/documents", limit, state="quarantined"))
    columns = {"id": "id", "number": "number", "contract": "contract", "received_at": "received", "state_reason": "why"}
    show.table(found, columns, empty="nothing is in quarantine", wants_json=as_json)


@quarantine.command()
def accept(context: typer.Context, document: Document, reason: Reason, as_json: AsJson = False) -> None:
    """Let a document go on, as if it had just come in."""
    _decided(context, document, "accept", reason, as_json)


@quarantine.command()
def reject(context: typer.Context, document: Document, reason: Reason, as_json: AsJson = False) -> None:
    """End a document; its bytes stay as evidence."""
    _decided(context, document, "reject", reason, as_json)


@quarantine.command()
def replace(context: typer.Context, document: Document, reason: Reason, as_json: AsJson = False) -> None:
    """Make a document the next version of the one that holds its number, while nothing of that one has left."""
    _decided(context, document, "replace", reason, as_json)


def _decided(context: typer.Context, document: str, exit_: str, reason: str, as_json: bool) -> None:
    shown = call(context, lambda api: api.post(f"/documents/{named(document)}/{exit_}", {"reason": reason}))
    show.line(shown, f"{shown['id']} ({shown['number']}) is {shown['state']}", as_json)
