"""The passwords that open a client's drop folder, where its ERP has no keys."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...access import Permission
from ...domain.folders import FolderPassword
from ...keys import passwords as secrets_of_people
from ...parties import passwords
from ...store.database import Transaction
from .. import pages
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Page
from . import API, Instant

routes = APIRouter(prefix=f"{API}/clients/{{client_id}}/passwords", tags=["passwords"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ))]
Managing = Annotated[Call, Depends(Needs(Permission.KEYS_MANAGE))]


class NewPassword(BaseModel):
    """A password for a folder; the gateway makes it, unless one is brought along from another server."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(description="What the client calls it")
    password: str | None = Field(None, description="12 to 256 characters; else one is made")
    folder: str | None = Field(None, description="Id of a folder; else the client's first")
    expires_at: Instant | None = None


class PasswordShown(BaseModel):
    """A password, without itself."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    folder: str = Field(validation_alias="folder_id")
    label: str
    created_by: str
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None


class PasswordMade(PasswordShown):
    """A new password."""

    password: str | None = Field(description="Shown once; null when it was brought along, or the request is repeated")


@routes.post("", status_code=201, response_model=PasswordMade)
async def add(call: Managing, client_id: str, body: NewPassword) -> Response:
    """Let a password open a folder, beside one other at most."""
    made = secrets_of_people.make() if body.password is None else None
    hashed = await call.parts.pool.run(secrets_of_people.hashed, made or body.password)

    def step(tx: Transaction) -> Answer:
        row = passwords.add_password(tx, call.actor, client_id, hashed, body.label, body.folder, body.expires_at)
        shown = _shown(row)
        return Answer(shown | {"password": made}, status=201, again=shown | {"password": None})

    return await call.change(step)


@routes.get("", response_model=Page[PasswordShown])
async def find(call: Reading, client_id: str) -> Response:
    """The passwords of a client's folders, revoked and expired ones too; on one page."""
    return await call.answer(
        lambda tx: pages.whole([_shown(row) for row in passwords.list_passwords(tx, call.actor, client_id)])
    )


@routes.delete("/{password_id}", status_code=204)
async def revoke(call: Managing, client_id: str, password_id: str) -> Response:
    """Refuse a password from now on; sessions that it opened are closed within seconds."""

    def step(tx: Transaction) -> Answer:
        passwords.revoke_password(tx, call.actor, client_id, password_id)
        return Answer({}, status=204)

    return await call.change(step)


def _shown(row: FolderPassword) -> dict[str, Any]:
    return PasswordShown.model_validate(row).model_dump(mode="json")
