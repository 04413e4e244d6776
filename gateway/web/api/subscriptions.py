"""Subscriptions to the electronic invoice: who consented for which contract, from when, to which terms."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlmodel import col, or_, select

from ...access import Permission
from ...domain.parties import Contract, Subscription
from ...errors import NotFound, Refused
from ...parties import holders, subscriptions
from ...parties.coverage import Item
from ...store.database import Transaction
from .. import pages
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Listing, Page
from . import API
from .parties import today

routes = APIRouter(prefix=f"{API}/subscriptions", tags=["subscriptions"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ))]
Managing = Annotated[Call, Depends(Needs(Permission.SUBSCRIPTIONS_MANAGE))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewSubscriptions(_Strict):
    """A selection of contracts, or all of a client. A client's own token needs no `client`."""

    contracts: list[str] | None = Field(None, min_length=1, max_length=10_000, description="Numbers or ids")
    all: bool = False
    include_future: bool = Field(False, description="With all: contracts that come later too")
    client: str | None = Field(None, description="Id; needed by operators with all")
    from_day: dt.date | None = Field(None, alias="from", description="Null: today")
    reason: str = Field("", max_length=500, description="An operator's, for a day in the past")

    @model_validator(mode="after")
    def _one_of_two(self) -> "NewSubscriptions":
        if self.all == (self.contracts is not None):
            raise ValueError("give contracts, or all")
        return self


class End(_Strict):
    """The last day; null: today."""

    to: dt.date | None = None
    reason: str = Field("", max_length=500, description="An operator's, for a day in the past")


class EndFuture(_Strict):
    """Contracts that come after the day are not subscribed by themselves any more."""

    client: str | None = Field(None, description="Id; needed by operators")
    to: dt.date | None = None


class ItemShown(BaseModel):
    """What came of one contract: subscribed, already, ended, refused. `code` and `reason` are of a refusal."""

    contract: str
    outcome: str
    code: str
    reason: str
    subscription: str | None
    from_: dt.date | None = Field(serialization_alias="from")
    to: dt.date | None


class Items(BaseModel):
    """One for each contract, in their order."""

    items: list[ItemShown]


class SubscriptionShown(BaseModel):
    """A subscription. `to` is the last day in force; null: no end."""

    id: str
    contract: str
    client: str
    from_: dt.date = Field(serialization_alias="from")
    to: dt.date | None
    scope: str
    terms_version: str
    reason: str
    created_by: str
    created_at: dt.datetime
    ended_by: str | None
    ended_at: dt.datetime | None


class SubscriptionFilter(Listing):
    """Which subscriptions."""

    client: str | None = Field(None, max_length=40)
    contract: str | None = Field(None, max_length=40, description="Number of the contract")


@routes.post("", status_code=201, response_model=Items, responses={200: {"model": Items, "description": "No news"}})
async def add(call: Managing, body: NewSubscriptions) -> Response:
    """Subscribe contracts, item by item: 201 if anything is new, 200 if not, 422 if all were refused."""

    def step(tx: Transaction) -> Answer:
        items = [
            item
            for client, contracts in _by_client(tx, call, body)
            for item in _subscribe(tx, call, body, client, contracts)
        ]
        shown = [_item(item) for item in items]
        if items and all(item.outcome == "refused" for item in items):
            raise Refused(items[0].reason, code=items[0].code, refused=shown)
        return Answer({"items": shown}, status=201 if any(item.outcome == "subscribed" for item in items) else 200)

    return await call.change(step)


def _by_client(tx: Transaction, call: Call, body: NewSubscriptions) -> list[tuple[str, Sequence[str] | None]]:
    """Whose contracts they are. An operator who names contracts need not name their client."""
    client = body.client or call.actor.client_id
    if client is not None:
        return [(client, body.contracts)]
    if body.contracts is None:
        raise Refused("say whose contracts: client", code="client_missing")
    day = body.from_day or today(call)
    named = or_(col(Contract.number).in_(body.contracts), col(Contract.id).in_(body.contracts))
    rows = tx.exec(select(Contract.id, Contract.number).where(named)).all()
    numbers = {name: number for id_, number in rows for name in (id_, number)}
    held = holders.holders_on(tx, [(numbers.get(name, name), day) for name in body.contracts])
    grouped: dict[str, list[str]] = {}
    for name in body.contracts:
        holder = held[numbers.get(name, name), day]
        if isinstance(holder, Refused):
            raise holder
        grouped.setdefault(holder.client_id, []).append(name)
    return list(grouped.items())


def _subscribe(
    tx: Transaction, call: Call, body: NewSubscriptions, client: str, contracts: Sequence[str] | None
) -> list[Item]:
    return subscriptions.subscribe(
        tx,
        call.actor,
        client,
        contracts,
        body.from_day or today(call),
        terms_version=call.parts.settings.issuer.terms_version,
        today=today(call),
        include_future=body.include_future,
        reason=body.reason,
    )


@routes.get("", response_model=Page[SubscriptionShown])
async def find(call: Reading, wanted: Annotated[SubscriptionFilter, Query()]) -> Response:
    """Subscriptions in the order of their making, ended ones too."""
    return await call.answer(lambda tx: _page(tx, call, wanted))


def _page(tx: Transaction, call: Call, wanted: SubscriptionFilter) -> dict[str, Any]:
    conditions = pages.equal(
        (Subscription.client_id, call.actor.client_id),
        (Subscription.client_id, wanted.client),
        (Contract.number, wanted.contract),
    )
    query = select(Subscription, Contract.number).join(Contract)
    query = query.where(col(Subscription.id) > (wanted.after or ""), *conditions)
    rows = tx.exec(query.order_by(col(Subscription.id)).limit(wanted.limit + 1)).all()
    numbers = {row.id: number for row, number in rows}
    return pages.of_things([row for row, _ in rows], wanted, lambda row: _shown(row, numbers[row.id]))


@routes.post("/{subscription_id}/end", response_model=ItemShown)
async def end(call: Managing, subscription_id: str, body: End | None = None) -> Response:
    """End a subscription after a day; one that ends before stays as it is."""
    wanted = body or End()

    def step(tx: Transaction) -> Answer:
        day = wanted.to or today(call)
        item = subscriptions.end(tx, call.actor, [subscription_id], day, today=today(call), reason=wanted.reason)[0]
        if item.outcome == "refused":
            raise NotFound(item.reason, code=item.code)
        return Answer(_item(item))

    return await call.change(step)


@routes.post("/end-future", status_code=204)
async def end_future(call: Managing, body: EndFuture) -> Response:
    """Stop subscribing the client's later contracts."""

    def step(tx: Transaction) -> Answer:
        client = body.client or call.actor.client_id
        if client is None:
            raise Refused("say whose contracts: client", code="client_missing")
        subscriptions.end_including(tx, call.actor, client, body.to or today(call), today=today(call))
        return Answer({}, status=204)

    return await call.change(step)


def _item(item: Item) -> dict[str, Any]:
    return ItemShown(
        contract=item.contract,
        outcome=item.outcome,
        code=item.code,
        reason=item.reason,
        subscription=item.subscription_id,
        from_=item.from_day,
        to=item.to_day,
    ).model_dump(mode="json", by_alias=True)


def _shown(row: Subscription, number: str) -> dict[str, Any]:
    return SubscriptionShown(
        id=row.id,
        contract=number,
        client=row.client_id,
        from_=row.from_day,
        to=row.to_day,
        **row.model_dump(
            include={"scope", "terms_version", "reason", "created_by", "created_at", "ended_by", "ended_at"}
        ),
    ).model_dump(mode="json", by_alias=True)
