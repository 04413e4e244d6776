"""The drop folder by API: every event by its number, and a range of them asked for again.

For the client's own programs: an ERP that pulls by SFTP or FTPS compares its last number with `last_sequence` and knows
what it misses; one that confirms by API finds here which delivery an entry belongs to (deliveries.acknowledge).
"""

import datetime as dt
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...access import Actor, Permission
from ...delivery.again import Limits, Range, ask_again
from ...domain.folders import EventKind, Folder
from ...domain.states import Kind
from ...dropfolder import events
from ...errors import NotFound, Refused
from ...parties.sshkeys import folder_of
from ...store.database import Transaction
from ..calls import Answer, Call
from ..login import Needs
from . import API

routes = APIRouter(prefix=f"{API}/folder", tags=["folder"])
Reading = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_READ))]
Asking = Annotated[Call, Depends(Needs(Permission.FOLDER_ASK))]
MOST = 1000
_FIRST_DAY, _LAST_DAY = dt.date(2000, 1, 1), dt.date(9999, 1, 1)


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


class RangeWanted(BaseModel):
    """Which of what was published: by its numbers, by days of publication (the issuer's), or both; all included."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    folder: str | None = Field(None, max_length=40, description="Id of a folder; else the client's first.")
    first: int | None = Field(None, ge=1, lt=1 << 62)
    last: int | None = Field(None, ge=1, lt=1 << 62)
    from_day: dt.date | None = Field(None, alias="from", ge=_FIRST_DAY, le=_LAST_DAY)
    to_day: dt.date | None = Field(None, alias="to", ge=_FIRST_DAY, le=_LAST_DAY)
    reason: str = Field(min_length=1, max_length=500, description="It goes into the evidence.")


class AskedShown(BaseModel):
    """What was asked for again, in documents. They are published with numbers after `after`, in their old order.

    Withdrawn ones are not, and those that wait to be published already are not asked for twice.
    """

    folder: str
    documents: int
    withdrawn: int
    on_their_way: int
    after: int


@routes.post("/again", status_code=201, response_model=AskedShown)
async def again(call: Asking, body: RangeWanted) -> Response:
    """Publish a range once more: the same bytes, under new numbers. Refused over the limit, with what fits."""
    settings, zone = call.parts.settings.folder, call.parts.settings.issuer.zone
    of_client = settings.again_documents_a_day if call.actor.client_id is not None else None
    limits = Limits(settings.again_documents, of_client)
    wanted = Range(body.first, body.last, body.from_day, body.to_day)

    def step(tx: Transaction) -> Answer:
        folder = folder_for(tx, call.actor, body.folder)
        asked = ask_again(tx, folder, wanted, zone, limits, call.actor.id, body.reason)
        return Answer({"folder": folder.id, **asdict(asked)}, status=201)

    answered = await call.change(step)
    call.parts.wake()
    return answered


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
