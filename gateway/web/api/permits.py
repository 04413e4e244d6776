"""Permits of the legacy SFTP listener, for clients whose programs know old algorithms only."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...access import Permission
from ...domain.folders import LegacyPermit
from ...parties import permits
from ...store.database import Transaction
from .. import pages
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Page
from . import API, Instant

routes = APIRouter(prefix=f"{API}/clients/{{client_id}}/legacy-permits", tags=["legacy permits"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ))]
Managing = Annotated[Call, Depends(Needs(Permission.PARTIES_MANAGE))]


class NewPermit(BaseModel):
    """A permit; its folders must be bound to networks."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(description="Why the client cannot be renewed before, 1 to 500 characters")
    ends_at: Instant = Field(description="At most [sftp_legacy] permit_days from now")
    folder: str | None = Field(None, description="Id of a folder; else all of the client's")


class PermitShown(BaseModel):
    """A permit; in force until it ends or is revoked."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    client: str = Field(validation_alias="client_id")
    folder: str | None = Field(validation_alias="folder_id")
    reason: str
    ends_at: dt.datetime
    created_by: str
    created_at: dt.datetime
    revoked_at: dt.datetime | None


@routes.post("", status_code=201, response_model=PermitShown)
async def add(call: Managing, client_id: str, body: NewPermit) -> Response:
    """Let a client come to the legacy listener until a day."""
    most_days = call.parts.settings.sftp_legacy.permit_days

    def step(tx: Transaction) -> Answer:
        row = permits.add_permit(tx, call.actor, client_id, body.reason, body.ends_at, most_days, body.folder)
        return Answer(_shown(row), status=201)

    return await call.change(step)


@routes.get("", response_model=Page[PermitShown])
async def find(call: Reading, client_id: str) -> Response:
    """A client's permits, revoked ones and those that have ended too; on one page."""
    return await call.answer(
        lambda tx: pages.whole([_shown(row) for row in permits.list_permits(tx, call.actor, client_id)])
    )


@routes.delete("/{permit_id}", status_code=204)
async def revoke(call: Managing, client_id: str, permit_id: str) -> Response:
    """End a permit now; the sessions that came by it are closed within seconds."""

    def step(tx: Transaction) -> Answer:
        permits.revoke_permit(tx, call.actor, client_id, permit_id)
        return Answer({}, status=204)

    return await call.change(step)


def _shown(row: LegacyPermit) -> dict[str, Any]:
    return PermitShown.model_validate(row).model_dump(mode="json")
