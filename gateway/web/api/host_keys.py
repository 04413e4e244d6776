"""Who knows which host key of the SFTP listeners."""

import dataclasses
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ...access import Permission
from ...dropfolder import host_keys
from .. import pages
from ..calls import Call
from ..login import Needs
from ..pages import Page
from . import API

routes = APIRouter(prefix=f"{API}/host-keys", tags=["folder"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ, operators_only=True))]


class HostKeyKnown(BaseModel):
    """Of one key: the folders whose clients were told of it, asked for its proof, were served by it."""

    fingerprint: str
    announced: int
    proven: int
    used: int
    missing: int = Field(description="Folders used in the last 90 days whose clients neither asked nor were served")
    not_yet: list[str] = Field(description="Their log-ins, 200 at most")


@routes.get("", response_model=Page[HostKeyKnown])
async def find_host_keys(call: Reading) -> Response:
    """Every host key that any client has seen; on one page."""
    return await call.answer(lambda tx: pages.whole([dataclasses.asdict(one) for one in host_keys.known(tx)]))
