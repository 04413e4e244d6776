"""`gateway client | company | contract | subscription | settings`: the parties, as the API has them.

A client is named by its id (cli_…) or by its name, where only one has it.
"""

from typing import Annotated, Any

import typer

from ..errors import Conflict, NotFound
from . import show
from .options import AsJson, Limit, call
from .reach import Api, named

clients = typer.Typer(no_args_is_help=True, help="Clients.")
companies = typer.Typer(no_args_is_help=True, help="Companies, by SIREN.")
contracts = typer.Typer(no_args_is_help=True, help="Contracts.")
subscriptions = typer.Typer(no_args_is_help=True, help="Subscriptions to the electronic invoice.")
delivery_settings = typer.Typer(no_args_is_help=True, help="How documents reach a client.")

Client = Annotated[str, typer.Argument(help="Id or name of the client.")]


async def client_id(api: Api, client: str) -> str:
    """The id of a client; NotFound, and Conflict when several have the name."""
    if client.startswith("cli_"):
        return named(client)
    found = [one for one in await api.every("/clients", name=client) if one["name"].casefold() == client.casefold()]
    if not found:
        raise NotFound(f"no client is named {client!r}: gateway client list shows them")
    if len(found) > 1:
        raise Conflict(f"{len(found)} clients are named {client!r}: use the id of one")
    return str(found[0]["id"])


@clients.command("add")
def add_client(
    context: typer.Context,
    name: str,
    language: Annotated[str, typer.Option("--language", help="Of mails and pages: fr or en.")] = "fr",
    user: Annotated[str, typer.Option("--user", help="Log-in of its folder; else made from the name.")] = "",
    is_intake: Annotated[
        bool, typer.Option("--intake", help="A billing system: its log-in hands documents in, and sees intake/ only.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """A new client, with its drop folder; or an account of the issuer's own systems."""
    body = {"name": name, "language": language, "user_name": user, "is_intake": is_intake}
    show.thing(call(context, lambda api: api.post("/clients", body)), as_json)


@clients.command("list")
def list_clients(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", help="Part of the name.")] = None,
    is_intake: Annotated[
        bool | None, typer.Option("--intake/--no-intake", help="Billing systems alone, or none of them; else all.")
    ] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Clients, and the issuer's own systems, which hand documents in."""
    found = call(context, lambda api: api.every("/clients", limit, name=name, is_intake=is_intake))
    columns = {"id": "id", "name": "name", "is_intake": "hands in", "language": "language", "dry_run": "dry run",
               "disabled_at": "closed"}  # fmt: skip
    show.table(found, columns, empty="no client yet: gateway client add NAME", wants_json=as_json)


@clients.command("dry-run")
def dry_run(
    context: typer.Context,
    client: Client,
    on: Annotated[bool, typer.Option("--on/--off", help="On: plan and explain everything, let nothing leave.")],
    cancel_held: Annotated[bool, typer.Option("--cancel-held", help="With --off: cancel what it held.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="For the record.")] = "",
    as_json: AsJson = False,
) -> None:
    """Try a client out before anything leaves to it; --off lets go what was held, in its order."""
    if on and cancel_held:
        raise typer.BadParameter("--cancel-held goes with --off")
    body = {"dry_run": on, "held": "cancel" if cancel_held else "deliver", "reason": reason}

    async def act(api: Api) -> Any:
        return await api.put(f"/clients/{await client_id(api, client)}/dry-run", body)

    show.thing(call(context, act), as_json)


@companies.command("add")
def add_company(context: typer.Context, siren: str, name: str, client: Client, as_json: AsJson = False) -> None:
    """A company of a client."""

    async def act(api: Api) -> Any:
        return await api.post("/companies", {"siren": siren, "name": name, "client": await client_id(api, client)})

    show.thing(call(context, act), as_json)


@companies.command("list")
def list_companies(
    context: typer.Context,
    search: Annotated[str | None, typer.Option("--search", help="SIREN, or part of the name.")] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Companies."""
    found = call(context, lambda api: api.every("/companies", limit, search=search))
    show.table(
        found,
        {"siren": "SIREN", "name": "name", "client": "client", "id": "id"},
        empty="no company",
        wants_json=as_json,
    )


@contracts.command("add")
def add_contract(
    context: typer.Context,
    number: str,
    siren: Annotated[str, typer.Argument(help="Of the company that holds it.")],
    kind: Annotated[str, typer.Option("--type", help="CARD_S, CARD_I, or the issuer's own word.")] = "CARD_S",
    as_json: AsJson = False,
) -> None:
    """A contract of a company."""
    body = {"number": number, "type": kind, "siren": siren}
    show.thing(call(context, lambda api: api.post("/contracts", body)), as_json)


@contracts.command("list")
def list_contracts(
    context: typer.Context,
    siren: Annotated[str | None, typer.Option("--siren", help="Of one company.")] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Contracts."""
    found = call(context, lambda api: api.every("/contracts", limit, siren=siren))
    columns = {"number": "number", "type": "type", "siren": "SIREN", "client": "client", "id": "id"}
    show.table(found, columns, empty="no contract", wants_json=as_json)


@subscriptions.command("add")
def subscribe(
    context: typer.Context,
    client: Client,
    numbers: Annotated[list[str] | None, typer.Argument(help="Contracts; none with --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every eligible contract of the client.")] = False,
    include_future: Annotated[bool, typer.Option("--include-future", help="With --all: later contracts too.")] = False,
    from_day: Annotated[str | None, typer.Option("--from", help="YYYY-MM-DD; else today.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Needed for a day in the past.")] = "",
    as_json: AsJson = False,
) -> None:
    """Subscribe contracts of a client to the electronic invoice; 1 if any is refused."""
    if bool(numbers) == every:
        raise typer.BadParameter("name contracts, or give --all")

    async def act(api: Api) -> Any:
        body = {
            "client": await client_id(api, client),
            "from": from_day,
            "include_future": include_future,
            "reason": reason,
        }
        return await api.post("/subscriptions", body | ({"all": True} if every else {"contracts": numbers}))

    _items(call(context, act)["items"], as_json)


def _items(items: list[Any], as_json: bool) -> None:
    columns = {"contract": "contract", "outcome": "outcome", "from": "from", "to": "to", "reason": "reason"}
    show.table(items, columns, empty="no contract to subscribe", wants_json=as_json)
    raise typer.Exit(int(any(item["outcome"] == "refused" for item in items)))


@subscriptions.command("list")
def list_subscriptions(context: typer.Context, client: Client, limit: Limit = 1000, as_json: AsJson = False) -> None:
    """Subscriptions of a client."""

    async def act(api: Api) -> Any:
        return await api.every("/subscriptions", limit, client=await client_id(api, client))

    columns = {"id": "id", "contract": "contract", "from": "from", "to": "to", "scope": "scope", "created_by": "by"}
    show.table(call(context, act), columns, empty="nothing is subscribed", wants_json=as_json)


@subscriptions.command("end")
def end_subscription(
    context: typer.Context,
    subscription: Annotated[str, typer.Argument(help="Its id, sub_…")],
    to: Annotated[str | None, typer.Option("--to", help="Last day, YYYY-MM-DD; else today.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Needed for a day in the past.")] = "",
    as_json: AsJson = False,
) -> None:
    """End a subscription after a day."""
    body = {"to": to, "reason": reason}
    show.thing(call(context, lambda api: api.post(f"/subscriptions/{named(subscription)}/end", body)), as_json)


@delivery_settings.command("show")
def show_settings(context: typer.Context, client: Client, as_json: AsJson = False) -> None:
    """The settings in force."""

    async def act(api: Api) -> Any:
        return await api.get(f"/clients/{await client_id(api, client)}/delivery-settings")

    show.thing(call(context, act), as_json)


@delivery_settings.command("set")
def set_settings(
    context: typer.Context,
    client: Client,
    email: Annotated[list[str] | None, typer.Option("--email", help="An address; may be given again.")] = None,
    folder: Annotated[bool | None, typer.Option("--folder/--no-folder", help="Publish in the drop folder.")] = None,
    formats: Annotated[list[str] | None, typer.Option("--format", help="pdf or xml; may be given again.")] = None,
    receipt: Annotated[str | None, typer.Option("--receipt", help="delete, full_read, api or none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replace the settings of a client: no --email is no mail; the drop folder is used unless --no-folder."""
    if not email and folder is None:
        raise typer.BadParameter("give --email, --folder or --no-folder")
    by_folder = {"enabled": folder is not False, "formats": formats or None, "receipt": receipt}

    async def act(api: Api) -> Any:
        body = {"email": {"enabled": bool(email), "addresses": email or []}, "folder": by_folder}
        return await api.put(f"/clients/{await client_id(api, client)}/delivery-settings", body)

    show.thing(call(context, act), as_json)


@delivery_settings.command("folder")
def set_rules(
    context: typer.Context,
    client: Client,
    user: Annotated[str | None, typer.Option("--user", help="Log-in of the folder; else the client's first.")] = None,
    formats: Annotated[list[str] | None, typer.Option("--format", help="pdf or xml; may be given again.")] = None,
    receipt: Annotated[str | None, typer.Option("--receipt", help="delete, full_read, api or none.")] = None,
    layout: Annotated[str | None, typer.Option("--layout", help="flat or by_contract.")] = None,
    template: Annotated[
        str | None, typer.Option("--name-template", help="As {date}_{number}_{nature}; or usual.")
    ] = None,
    inbox_days: Annotated[str | None, typer.Option("--inbox-days", help="Days until it leaves; or usual.")] = None,
    linger: Annotated[str | None, typer.Option("--linger-minutes", help="Minutes; or usual.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change rules of a client's drop folder; what is published keeps its name and its place."""
    given = {
        "formats": formats,
        "receipt": receipt,
        "layout": layout,
        "name_template": template,
        "inbox_days": inbox_days,
        "linger_minutes": linger,
    }
    body = {name: None if value == "usual" else value for name, value in given.items() if value}

    async def act(api: Api) -> Any:
        path = f"/clients/{await client_id(api, client)}/folders"
        return await api.patch(f"{path}/{(await folder_of(api, path, user))['id']}", body)

    show.thing(call(context, act), as_json)


async def folder_of(api: Api, path: str, user_name: str | None) -> Any:
    """A client's folder by its log-in, else its first; NotFound."""
    for folder in await api.every(path):
        if user_name in (None, folder["user_name"]):
            return folder
    raise NotFound(f"the client has no folder of the log-in {user_name!r}")


@delivery_settings.command("networks")
def set_networks(
    context: typer.Context,
    client: Client,
    networks: Annotated[list[str] | None, typer.Argument(help="As 192.0.2.0/24; none: from everywhere.")] = None,
    as_json: AsJson = False,
) -> None:
    """From where a client may log in to its first drop folder; sessions that are open stay."""

    async def act(api: Api) -> Any:
        path = f"/clients/{await client_id(api, client)}/folders"
        first = await folder_of(api, path, None)
        return await api.put(f"{path}/{first['id']}/networks", {"networks": networks or None})

    show.thing(call(context, act), as_json)


@delivery_settings.command("path-map")
def set_path_map(
    context: typer.Context,
    client: Client,
    pairs: Annotated[list[str] | None, typer.Argument(help="As /out/factures=/inbox; none: no map.")] = None,
    as_json: AsJson = False,
) -> None:
    """The paths that a client used on the server before, all of them, for its first drop folder."""
    paths = []
    for pair in pairs or []:
        before, equals, place = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair}: write FROM=TO, as /out/factures=/inbox")
        paths.append({"from": before, "to": place})

    async def act(api: Api) -> Any:
        path = f"/clients/{await client_id(api, client)}/folders"
        first = await folder_of(api, path, None)
        return await api.put(f"{path}/{first['id']}/path-map", {"paths": paths})

    show.thing(call(context, act), as_json)
