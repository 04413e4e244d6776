"""The drop folder by API: every event by its number.

For the client's own programs: an ERP that pulls by SFTP or FTPS compares its last number with `last_sequence` and knows
what it misses; one that confirms by API finds here which delivery an entry belongs to (deliveries.acknowledge).
"""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...access import Actor, Permission
from ...domain.folders import EventKind, Folder
from ...domain.states import Kind
from ...dropfolder import events
from ...errors import NotFound, Refused
from ...parties.sshkeys import folder_of
from ...store.database import Transaction
from ..calls import Call
from ..login import Needs
from . import API

routes = APIRouter(prefix=f"{API}/folder", tags=["folder"])
Reading = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_READ))]
MOST = 1000


class EventsWanted(BaseModel):
    """Which events."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, lt=1 << 62, description="The last number that you have; 0: from the beginning")
    limit: int = Field(200, ge=1, le=MOST)
    folder: str | None = Field(None, description="Id of a folder; else the client's first. An operator names it.")


class EventShown(BaseModel):
    """One number of a folder. `withdrawn_at`: its bytes are no longer served."""

    model_config = ConfigDict(from_attributes=True)

    sequence: int
    event: EventKind
    at: dt.datetime
    entry: str
    delivery: str
    document: str
    kind: Kind
    number: str
    name: str
    format: str
    sha256: str
    size: int
    listed: bool = Field(description="In the inbox now")
    received_at: dt.datetime | None
    withdrawn_at: dt.datetime | None


class Events(BaseModel):
    """Events in the order of their numbers, without a gap; more follow until the last one's is `last_sequence`."""

    folder: str
    items: list[EventShown]
    last_sequence: int


@routes.get("/entries", response_model=Events)
async def entries(call: Reading, wanted: Annotated[EventsWanted, Query()]) -> Response:
    """What was published, published again and withdrawn, by number."""

    def step(tx: Transaction) -> dict[str, Any]:
        folder = folder_for(tx, call.actor, wanted.folder)
        found = events.after(tx, folder.id, wanted.after, wanted.limit)
        items = [EventShown.model_validate(one).model_dump(mode="json") for one in found]
        return {"folder": folder.id, "items": items, "last_sequence": events.last(tx, folder.id)}

    return await call.answer(step)


def folder_for(tx: Transaction, actor: Actor, folder_id: str | None) -> Folder:
    """A folder that exists for the actor; NotFound, and Refused where an operator names none."""
    if actor.client_id is not None:
        return folder_of(tx, actor.client_id, folder_id)
    if folder_id is None:
        raise Refused("name the folder", code="folder_needed")
    folder = tx.get(Folder, folder_id)
    if folder is None:
        raise NotFound("no such folder", code="unknown_folder")
    return folder
