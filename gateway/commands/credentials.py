"""`gateway key | password | permit`: what opens a client's drop folder. Each is added, listed, and revoked for good.

A password is shown once, when it is made. A permit lets a client's old program come to the legacy SFTP listener.
"""

import datetime as dt
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import clock
from . import show
from .options import AsJson, call, settings
from .parties import Client, client_id
from .reach import Api, named

keys = typer.Typer(no_args_is_help=True, help="SSH keys that open a client's drop folder.")
passwords = typer.Typer(no_args_is_help=True, help="Passwords that open a client's drop folder.")
permits = typer.Typer(no_args_is_help=True, help="Permits of the legacy SFTP listener, for old programs of clients.")
Days = Annotated[int | None, typer.Option("--days", min=1, max=3650, help="It ends after so many days.")]


@keys.command("add")
def add_key(
    context: typer.Context,
    client: Client,
    file: Annotated[Path, typer.Argument(help="Public key, OpenSSH format; - reads standard input.")],
    label: Annotated[str, typer.Option("--label", help="What the client calls it.")] = "",
    days: Days = None,
    as_json: AsJson = False,
) -> None:
    """Let a public key open a client's drop folder."""
    # What is no text is no key, which the API says.
    public_key = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8", "replace")
    ends = {"expires_at": _in_days(days)} if days else {}
    body = {"public_key": public_key.strip(), "label": label or file.stem, **ends}
    show.thing(_add(context, client, "keys", body), as_json)


@keys.command("list")
def list_keys(context: typer.Context, client: Client, as_json: AsJson = False) -> None:
    """A client's keys, revoked ones too, with their last use."""
    columns = {"id": "id", "label": "label", "fingerprint": "fingerprint", "expires_at": "ends",
               "revoked_at": "revoked", "last_used_at": "last used"}  # fmt: skip
    _list(context, client, "keys", columns, "no key yet: gateway key add CLIENT FILE", as_json)


@keys.command("revoke")
def revoke_key(
    context: typer.Context, client: Client, key: Annotated[str, typer.Argument(help="Its id, key_…")]
) -> None:
    """Refuse a key from now on; its sessions end within seconds."""
    _revoke(context, client, "keys", key)


@passwords.command("add")
def add_password(
    context: typer.Context,
    client: Client,
    label: Annotated[str, typer.Option("--label", help="What the client calls it.")] = "password",
    days: Days = None,
    as_json: AsJson = False,
) -> None:
    """Make a password and show it, once. A folder has two at most: the one to come and the one to go."""
    body = {"label": label, "expires_at": _in_days(days) if days else None}
    made = _add(context, client, "passwords", body)
    show.line(made, made["password"], as_json)


@passwords.command("list")
def list_passwords(context: typer.Context, client: Client, as_json: AsJson = False) -> None:
    """A client's passwords, revoked ones too, with their last use."""
    columns = {"id": "id", "label": "label", "expires_at": "ends", "revoked_at": "revoked", "last_used_at": "last used"}
    _list(context, client, "passwords", columns, "no password yet: gateway password add CLIENT", as_json)


@passwords.command("revoke")
def revoke_password(
    context: typer.Context, client: Client, password: Annotated[str, typer.Argument(help="Its id, fpw_…")]
) -> None:
    """Refuse a password from now on; its sessions end within seconds."""
    _revoke(context, client, "passwords", password)


@permits.command("add")
def add_permit(
    context: typer.Context,
    client: Client,
    reason: Annotated[str, typer.Option("--reason", help="Why its program cannot be renewed before.")],
    days: Annotated[int, typer.Option("--days", min=1, max=730, help="It ends after so many days.")] = 30,
    folder: Annotated[str | None, typer.Option("--folder", help="Id of one folder; else all of the client's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a client's old program in, from the networks that its folders are bound to, for a while."""
    body = {"reason": reason, "ends_at": _in_days(days), "folder": folder}
    show.thing(_add(context, client, "legacy-permits", body), as_json)
    if not settings(context).sftp_legacy.enabled:
        print("it opens nothing yet: [sftp_legacy] enabled = true, and a restart, open that port", file=sys.stderr)


@permits.command("list")
def list_permits(context: typer.Context, client: Client, as_json: AsJson = False) -> None:
    """A client's permits, revoked ones and those that have ended too."""
    columns = {"id": "id", "folder": "folder", "reason": "reason", "ends_at": "ends", "revoked_at": "revoked"}
    _list(context, client, "legacy-permits", columns, "no permit: gateway permit add CLIENT --reason …", as_json)


@permits.command("revoke")
def revoke_permit(
    context: typer.Context, client: Client, permit: Annotated[str, typer.Argument(help="Its id, lgp_…")]
) -> None:
    """End a permit now; its sessions end within seconds."""
    _revoke(context, client, "legacy-permits", permit)


def _in_days(days: int) -> str:
    return (clock.now() + dt.timedelta(days=days)).isoformat()


def _add(context: typer.Context, client: str, things: str, body: Mapping[str, Any]) -> Any:
    async def act(api: Api) -> Any:
        return await api.post(f"/clients/{await client_id(api, client)}/{things}", body)

    return call(context, act)


def _list(
    context: typer.Context, client: str, things: str, columns: Mapping[str, str], empty: str, as_json: bool
) -> None:
    async def act(api: Api) -> Any:
        return await api.every(f"/clients/{await client_id(api, client)}/{things}")

    show.table(call(context, act), columns, empty=empty, wants_json=as_json)


def _revoke(context: typer.Context, client: str, things: str, thing: str) -> None:
    async def act(api: Api) -> Any:
        return await api.delete(f"/clients/{await client_id(api, client)}/{things}/{named(thing)}")

    call(context, act)
    print(f"{thing} is revoked")
