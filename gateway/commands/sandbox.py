"""`gateway sandbox`: test documents in a client's drop folder, and what its program did with them."""

from typing import Annotated, Any

import typer

from . import show
from .options import AsJson, Limit, call
from .parties import Client, client_id, folder_of
from .reach import Api, named

app = typer.Typer(no_args_is_help=True, help="Test documents in a client's sandbox/: make, see, remove.")
User = Annotated[str | None, typer.Option("--user", help="Log-in of the folder; else the client's first.")]
_PATH = "/folder/test-documents"
_COLUMNS = {
    "id": "id",
    "name": "name",
    "size": "bytes",
    "bytes_read": "read",
    "fully_read_at": "fully read",
    "removed_at": "removed",
    "is_there": "is there",
}


async def _folder(api: Api, client: str, user: str | None) -> str:
    found = await folder_of(api, f"/clients/{await client_id(api, client)}/folders", user)
    return str(found["id"])


@app.command("make")
def make(
    context: typer.Context,
    client: Client,
    count: Annotated[int, typer.Option("--count", min=1, max=100, help="Documents, in each format of the folder.")] = 1,
    reason: Annotated[str, typer.Option("--reason", help="For the record.")] = "",
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Make test documents: whole invoices, marked TEST on every page, in number and name."""

    async def act(api: Api) -> Any:
        body = {"folder": await _folder(api, client, user), "count": count, "reason": reason}
        return await api.post(_PATH, body)

    show.table(call(context, act)["items"], _COLUMNS, empty="nothing was made", wants_json=as_json)


@app.command("list")
def list_(
    context: typer.Context, client: Client, user: User = None, limit: Limit = 200, as_json: AsJson = False
) -> None:
    """The newest test documents: what was read of each, and whether it is still there."""

    async def act(api: Api) -> Any:
        return await api.get(_PATH, folder=await _folder(api, client, user), limit=min(limit, 1000))

    empty = "no test document yet: gateway sandbox make CLIENT"
    show.table(call(context, act)["items"], _COLUMNS, empty=empty, wants_json=as_json)


@app.command("remove")
def remove(
    context: typer.Context,
    client: Client,
    document: Annotated[str, typer.Argument(help="Id of the file, sbx_…")],
    user: User = None,
) -> None:
    """Take a test document out of the sandbox."""

    async def act(api: Api) -> Any:
        return await api.delete(f"{_PATH}/{named(document)}?folder={await _folder(api, client, user)}")

    call(context, act)
    print(f"{document} is removed")
