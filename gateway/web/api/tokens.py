"""API tokens, for administrators. The secret is in the answer to their making, and nowhere else ever again."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ... import access
from ...access import Permission
from ...domain.parties import ApiToken
from ...store.database import Transaction
from .. import pages
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Listing, Page
from . import API, Instant

routes = APIRouter(prefix=f"{API}/tokens", tags=["tokens"])
Managing = Annotated[Call, Depends(Needs(Permission.TOKENS_MANAGE, operators_only=True))]


class NewToken(BaseModel):
    """What a token is for, and what it may do."""

    model_config = ConfigDict(extra="forbid")

    name: str
    scope: str = Field(description="operator:admin, operator:operator, operator:viewer, operator:auditor, client:<id>")
    expires_at: Instant | None = None


class TokenShown(BaseModel):
    """A token, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    scope: str
    created_by: str
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None


class TokenMade(TokenShown):
    """A new token."""

    token: str | None = Field(description="The secret, shown once; null when the same request is repeated")


@routes.post("", status_code=201, response_model=TokenMade)
async def add(call: Managing, body: NewToken) -> Response:
    """Make a token."""

    def step(tx: Transaction) -> Answer:
        token, secret = access.create_token(tx, call.actor, body.name, body.scope, body.expires_at)
        shown = _shown(token)
        return Answer(shown | {"token": secret}, status=201, again=shown | {"token": None})

    return await call.change(step)


@routes.get("", response_model=Page[TokenShown])
async def find(call: Managing, wanted: Annotated[Listing, Query()]) -> Response:
    """Tokens in the order of their making, revoked ones too."""

    def step(tx: Transaction) -> dict[str, Any]:
        tokens = access.list_tokens(tx, call.actor, wanted.limit + 1, wanted.after or "")
        return pages.of_things(tokens, wanted, _shown)

    return await call.answer(step)


@routes.delete("/{token_id}", status_code=204)
async def revoke(call: Managing, token_id: str) -> Response:
    """End a token at once and for good."""

    def step(tx: Transaction) -> Answer:
        access.revoke_token(tx, call.actor, token_id)
        return Answer({}, status=204)

    return await call.change(step)


def _shown(token: ApiToken) -> dict[str, Any]:
    return TokenShown.model_validate(token).model_dump(mode="json")
