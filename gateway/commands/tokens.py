"""`gateway token`: bearer tokens of the API. A secret is shown once, when it is made."""

import datetime as dt
from typing import Annotated, Any

import typer

from .. import clock
from . import show
from .options import AsJson, call
from .parties import client_id
from .reach import Api, named

app = typer.Typer(no_args_is_help=True, help="API tokens.")


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            help="operator:admin, operator:operator, operator:viewer, operator:auditor; client: with its id or name.",
        ),
    ] = "operator:operator",
    days: Annotated[int | None, typer.Option("--days", min=1, max=3650, help="It ends after so many days.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show its secret, once."""
    ends = (clock.now() + dt.timedelta(days=days)).isoformat() if days else None

    async def act(api: Api) -> Any:
        kind, _, client = scope.partition(":")
        exact = f"client:{await client_id(api, client)}" if kind == "client" and client else scope
        return await api.post("/tokens", {"name": name, "scope": exact, "expires_at": ends})

    made = call(context, act)
    show.line(made, made["token"], as_json)


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Tokens, revoked ones too, with their last use."""
    tokens = call(context, lambda api: api.every("/tokens"))
    columns = {
        "id": "id",
        "name": "name",
        "scope": "scope",
        "created_by": "made by",
        "expires_at": "ends",
        "revoked_at": "revoked",
        "last_used_at": "last used",
    }
    show.table(tokens, columns, empty="no token yet: gateway token create NAME", wants_json=as_json)


@app.command()
def revoke(context: typer.Context, token: Annotated[str, typer.Argument(help="Its id, tok_…")]) -> None:
    """End a token at once."""
    call(context, lambda api: api.delete(f"/tokens/{named(token)}"))
    print(f"{token} is revoked")
