"""`gateway password`: passwords that open a client's drop folder. One is shown once, when it is made."""

import datetime as dt
from typing import Annotated, Any

import typer

from .. import clock
from . import show
from .options import AsJson, call
from .parties import Client, client_id
from .reach import Api, named

app = typer.Typer(no_args_is_help=True, help="Passwords that open a client's drop folder.")


@app.command("add")
def add(
    context: typer.Context,
    client: Client,
    label: Annotated[str, typer.Option("--label", help="What the client calls it.")] = "password",
    days: Annotated[int | None, typer.Option("--days", min=1, max=3650, help="It ends after so many days.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a password and show it, once. A folder has two at most: the one to come and the one to go."""
    ends = (clock.now() + dt.timedelta(days=days)).isoformat() if days else None

    async def act(api: Api) -> Any:
        body = {"label": label, "expires_at": ends}
        return await api.post(f"/clients/{await client_id(api, client)}/passwords", body)

    made = call(context, act)
    show.line(made, made["password"], as_json)


@app.command("list")
def list_(context: typer.Context, client: Client, as_json: AsJson = False) -> None:
    """A client's passwords, revoked ones too, with their last use."""

    async def act(api: Api) -> Any:
        return await api.every(f"/clients/{await client_id(api, client)}/passwords")

    columns = {"id": "id", "label": "label", "expires_at": "ends", "revoked_at": "revoked", "last_used_at": "last used"}
    show.table(call(context, act), columns, empty="no password yet: gateway password add CLIENT", wants_json=as_json)


@app.command("revoke")
def revoke(
    context: typer.Context, client: Client, password: Annotated[str, typer.Argument(help="Its id, fpw_…")]
) -> None:
    """Refuse a password from now on; its sessions end within seconds."""

    async def act(api: Api) -> Any:
        return await api.delete(f"/clients/{await client_id(api, client)}/passwords/{named(password)}")

    call(context, act)
    print(f"{password} is revoked")
