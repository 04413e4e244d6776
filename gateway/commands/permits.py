"""`gateway permit`: who may come to the legacy SFTP listener, and until when."""

import datetime as dt
from typing import Annotated, Any

import typer

from .. import clock
from . import show
from .options import AsJson, call
from .parties import Client, client_id
from .reach import Api, named

app = typer.Typer(no_args_is_help=True, help="Permits of the legacy SFTP listener, for old programs of clients.")


@app.command("add")
def add(
    context: typer.Context,
    client: Client,
    reason: Annotated[str, typer.Option("--reason", help="Why its program cannot be renewed before.")],
    days: Annotated[int, typer.Option("--days", min=1, max=730, help="It ends after so many days.")] = 30,
    folder: Annotated[str | None, typer.Option("--folder", help="Id of one folder; else all of the client's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a client's old program in, from the networks that its folders are bound to, for a while."""
    ends = (clock.now() + dt.timedelta(days=days)).isoformat()

    async def act(api: Api) -> Any:
        body = {"reason": reason, "ends_at": ends, "folder": folder}
        return await api.post(f"/clients/{await client_id(api, client)}/legacy-permits", body)

    show.thing(call(context, act), as_json)


@app.command("list")
def list_(context: typer.Context, client: Client, as_json: AsJson = False) -> None:
    """A client's permits, revoked ones and those that have ended too."""

    async def act(api: Api) -> Any:
        return await api.every(f"/clients/{await client_id(api, client)}/legacy-permits")

    columns = {"id": "id", "folder": "folder", "reason": "reason", "ends_at": "ends", "revoked_at": "revoked"}
    show.table(call(context, act), columns, empty="no permit: gateway permit add CLIENT --reason …", wants_json=as_json)


@app.command("revoke")
def revoke(
    context: typer.Context, client: Client, permit: Annotated[str, typer.Argument(help="Its id, lgp_…")]
) -> None:
    """End a permit now; its sessions end within seconds."""

    async def act(api: Api) -> Any:
        return await api.delete(f"/clients/{await client_id(api, client)}/legacy-permits/{named(permit)}")

    call(context, act)
    print(f"{permit} is revoked")
