"""The SSH keys that open a client's drop folder."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...access import Permission
from ...domain.folders import SshKey
from ...parties import sshkeys
from ...store.database import Transaction
from .. import pages
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Page
from . import API, Instant

routes = APIRouter(prefix=f"{API}/clients/{{client_id}}/keys", tags=["keys"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ))]
Managing = Annotated[Call, Depends(Needs(Permission.KEYS_MANAGE))]


class NewKey(BaseModel):
    """A public key: the one line of a .pub file, or what PuTTYgen saves."""

    model_config = ConfigDict(extra="forbid")

    public_key: str
    label: str = Field("", description="What the client calls it")
    folder: str | None = Field(None, description="Id of a folder; else the client's first")
    expires_at: Instant | None = None


class KeyShown(BaseModel):
    """A key; `fingerprint` is as OpenSSH prints it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    folder: str = Field(validation_alias="folder_id")
    fingerprint: str
    public_key: str
    label: str
    created_by: str
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None


@routes.post("", status_code=201, response_model=KeyShown)
async def add(call: Managing, client_id: str, body: NewKey) -> Response:
    """Let a key open a folder; the same key again answers the same."""

    def step(tx: Transaction) -> Answer:
        label = body.label.strip() or _comment(body.public_key)
        key = sshkeys.add_key(tx, call.actor, client_id, body.public_key, label, body.folder, body.expires_at)
        return Answer(_shown(key), status=201)

    return await call.change(step)


def _comment(public_key: str) -> str:
    """The comment at the end of the line names a key as well as anything."""
    parts = public_key.strip().split(None, 2)
    return parts[2][:100] if len(parts) == 3 and not public_key.lstrip().startswith("-") else "key"


@routes.get("", response_model=Page[KeyShown])
async def find(call: Reading, client_id: str) -> Response:
    """The keys of a client's folders, revoked and expired ones too; on one page."""
    return await call.answer(
        lambda tx: pages.whole([_shown(key) for key in sshkeys.list_keys(tx, call.actor, client_id)])
    )


@routes.delete("/{key_id}", status_code=204)
async def revoke(call: Managing, client_id: str, key_id: str) -> Response:
    """Refuse a key from now on; sessions that it opened are closed within seconds."""

    def step(tx: Transaction) -> Answer:
        sshkeys.revoke_key(tx, call.actor, client_id, key_id)
        return Answer({}, status=204)

    return await call.change(step)


def _shown(key: SshKey) -> dict[str, Any]:
    return KeyShown.model_validate(key).model_dump(mode="json")
