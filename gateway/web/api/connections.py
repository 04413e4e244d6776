"""Who is connected to the drop folders now, and who could not log in: with the cause in plain words."""

import datetime as dt
from collections.abc import Callable
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlmodel import col

from ...access import Permission
from ...domain.folders import FailedConnection, Folder, FolderPassword, FolderSession, SshKey
from ...domain.ledger import PersonalValue
from ...store.database import Transaction
from .. import pages
from ..calls import Call
from ..login import Needs
from ..pages import Listing, Page
from . import API

routes = APIRouter(prefix=f"{API}/connections", tags=["folder"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ))]


class ConnectionShown(BaseModel):
    """A session in a drop folder."""

    id: str
    client: str
    folder: str
    user: str
    protocol: str = Field(description="sftp or ftps")
    address: str | None = Field(description="Where it comes from; null once erased")
    credential: str | None = Field(description="Label of the key or password that opened it")
    banner: str = Field(description="What the client calls itself")
    algorithms: str
    highest_sequence: int = Field(description="The newest entry that it was shown")
    started_at: dt.datetime
    last_act: str | None = Field(description="What it asked for last, as `read /inbox/…`; null: nothing, or elsewhere")


@routes.get("", response_model=Page[ConnectionShown])
async def find(call: Reading, wanted: Annotated[Listing, Query()]) -> Response:
    """Open sessions, the longest first; a client sees its own."""

    def step(tx: Transaction) -> dict[str, Any]:
        query = _select()
        if call.actor.client_id is not None:
            query = query.where(col(Folder.client_id) == call.actor.client_id)
        if (after := wanted.after) is not None:
            query = query.where(col(FolderSession.id) > after)
        rows: Any = tx.execute(query.order_by(col(FolderSession.id)).limit(wanted.limit + 1)).all()
        return pages.of_things(rows, wanted, lambda row: _shown(row, call.parts.last_act))

    return await call.answer(step)


def _select() -> Any:
    named = sa.func.coalesce(col(SshKey.label), col(FolderPassword.label))
    return (
        sa.select(
            col(FolderSession.id),
            col(Folder.client_id).label("client"),
            col(Folder.id).label("folder"),
            col(Folder.user_name).label("user"),
            col(FolderSession.protocol),
            col(PersonalValue.value).label("address"),
            named.label("credential"),
            col(FolderSession.banner),
            col(FolderSession.algorithms),
            col(FolderSession.highest_sequence),
            col(FolderSession.started_at),
        )
        .join(Folder, col(Folder.id) == col(FolderSession.folder_id))
        .outerjoin(PersonalValue, col(PersonalValue.id) == col(FolderSession.address_id))
        .outerjoin(SshKey, col(SshKey.id) == col(FolderSession.key_id))
        .outerjoin(FolderPassword, col(FolderPassword.id) == col(FolderSession.password_id))
        .where(col(FolderSession.ended_at).is_(None))
    )


def _shown(row: Any, last_act: Callable[[str], str | None]) -> dict[str, Any]:
    return ConnectionShown(**row._mapping, last_act=last_act(row.id)).model_dump(mode="json")


class FailureShown(BaseModel):
    """A log-in or a negotiation that failed."""

    id: str
    at: dt.datetime
    protocol: str = Field(description="sftp, sftp_legacy or ftps")
    address: str | None
    client: str | None = Field(description="The only client whose folders' networks held the address")
    user: str = Field(description="As it was given; to a client only where it is one of its own folders'")
    code: str
    cause: str = Field(description="What was wrong, and what to do")
    banner: str = Field(description="What the client calls itself")


@routes.get("/failures", response_model=Page[FailureShown])
async def failures(call: Reading, wanted: Annotated[Listing, Query()]) -> Response:
    """What failed, newest first; a client sees what came from an address that it alone has listed."""

    def step(tx: Transaction) -> dict[str, Any]:
        query = (
            sa.select(
                *(col(column) for column in _OF_FAILURES),
                col(FailedConnection.client_id).label("client"),
                col(PersonalValue.value).label("address"),
                _user(call.actor.client_id).label("user"),
            )
            .outerjoin(PersonalValue, col(PersonalValue.id) == col(FailedConnection.address_id))
            .order_by(col(FailedConnection.id).desc())
        )
        if call.actor.client_id is not None:
            query = query.where(col(FailedConnection.client_id) == call.actor.client_id)
        if (after := wanted.after) is not None:
            query = query.where(col(FailedConnection.id) < after)
        rows: Any = tx.execute(query.limit(wanted.limit + 1)).all()
        return pages.of_things(rows, wanted, _failure)

    return await call.answer(step)


_OF_FAILURES: tuple[Any, ...] = (
    FailedConnection.id,
    FailedConnection.at,
    FailedConnection.protocol,
    FailedConnection.code,
    FailedConnection.cause,
    FailedConnection.banner,
)


def _user(client_id: str | None) -> Any:
    """The user name that was tried: of others, a client learns nothing."""
    if client_id is None:
        return col(FailedConnection.user_name)
    own = sa.select(col(Folder.user_name)).where(col(Folder.client_id) == client_id)
    return sa.case((col(FailedConnection.user_name).in_(own), col(FailedConnection.user_name)), else_="")


def _failure(row: Any) -> dict[str, Any]:
    return FailureShown.model_validate(row._mapping).model_dump(mode="json")
