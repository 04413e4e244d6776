"""Moving in: clients of another SFTP server, line by line of their list."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...access import Permission
from ...parties import moving_in
from ..calls import Answer, Call, response
from ..login import Needs
from . import API
from .parties import today

routes = APIRouter(prefix=f"{API}/imports", tags=["imports"])
Building = Annotated[Call, Depends(Needs(Permission.PARTIES_MANAGE, operators_only=True))]
MAX_LINES = 2000


class LineWanted(BaseModel):
    """One line of the list, its cells as text; an empty one says nothing. Several values: blanks between them."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    client: str = Field(max_length=300, description="Name of the client")
    user_name: str = Field(max_length=100, description="Its log-in, as on the server before")
    language: str = Field("", max_length=10, description="fr or en; empty: fr")
    siren: str = Field("", max_length=30, description="Of a company of the client; further lines add others")
    company: str = Field("", max_length=300, description="The company's name; empty: the client's")
    contracts: str = Field("", max_length=10_000, description="The company's, NUMBER or NUMBER:TYPE; else CARD_S")
    formats: str = Field("", max_length=20, description="pdf, xml or both; empty: pdf")
    receipt: str = Field("", max_length=20, description="Receipt mode; empty: delete")
    networks: str = Field("", max_length=2000, description="Where it may log in from, as 192.0.2.0/24")
    email: str = Field("", max_length=5000, description="Addresses of signed mail")
    subscribe_from: str = Field("", max_length=20, description="Day from which the contracts are subscribed")
    reason: str = Field("", max_length=500, description="Needed where that day is past")
    authorized_keys: str = Field("", max_length=64_000, description="The account's file, in OpenSSH's form")


class LinesWanted(BaseModel):
    """A list. `dry_run`: say what would come of it, and keep nothing."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False
    lines: list[LineWanted] = Field(max_length=MAX_LINES)


class KeyOfLine(BaseModel):
    """A key of a line's account: added, same or refused. `line` is of its authorized_keys."""

    line: int
    fingerprint: str
    label: str
    outcome: str
    reason: str


class LineReport(BaseModel):
    """What came of a line: created, same, differs (nothing was changed), or refused."""

    outcome: str
    made: list[str]
    column: str
    reason: str
    keys: list[KeyOfLine]


class LinesReported(BaseModel):
    """One for each line, in their order."""

    items: list[LineReport]


@routes.put("/clients", response_model=LinesReported)
async def import_clients(call: Building, body: LinesWanted) -> Response:
    """Make what the lines name and is not there; each line is whole or nothing, and stops no other."""
    issuer = call.parts.settings.issuer
    of_issuer = moving_in.Issuer(today(call), issuer.zone, issuer.terms_version)
    lines = [moving_in.Line(**line.model_dump()) for line in body.lines]

    def run() -> Sequence[moving_in.Report]:
        step = moving_in.rehearse if body.dry_run else moving_in.take
        return step(call.parts.db, call.actor, lines, of_issuer)

    reports = await call.parts.pool.run(run)
    call.parts.wake()
    return response(Answer({"items": [dataclasses.asdict(report) for report in reports]}))
