"""Contracts, and where their originals go."""

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col, select

from ...access import Permission
from ...domain.parties import Company, Contract, ContractHolding, ContractType
from ...parties import registry, search, subscriptions
from ...parties.periods import on
from ...store.database import Transaction
from .. import pages
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Listing, Page
from . import API
from .parties import client_of, today

routes = APIRouter(prefix=f"{API}/contracts", tags=["contracts"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ))]
Managing = Annotated[Call, Depends(Needs(Permission.PARTIES_MANAGE))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewContract(_Strict):
    """A contract of a company, from a day on; null: for every document."""

    number: str
    type: str = Field(description="CARD_S or CARD_I, which can be subscribed, or any word of the issuer")
    siren: str
    from_day: dt.date | None = Field(None, alias="from")
    original_channel: Literal["gateway", "platform"] | None = None


class ContractShown(BaseModel):
    """A contract. `siren` and `client` hold it today. `type_name` is the issuer's own word when type is OTHER."""

    id: str
    number: str
    type: ContractType
    type_name: str
    siren: str | None
    client: str | None
    created_at: dt.datetime


class OriginalChannel(_Strict):
    """Where a contract's originals go from a day on. `drop_later`: changes entered for later days are given up."""

    channel: Literal["gateway", "platform"]
    from_day: dt.date = Field(alias="from")
    drop_later: bool = False


class ContractFilter(Listing):
    """Which contracts."""

    search: str = Field("", max_length=40, description="Part of the number")
    siren: str | None = Field(None, max_length=20, description="Of the company that holds or held it")
    client: str | None = Field(None, max_length=40)


@routes.post("", status_code=201, response_model=ContractShown)
async def add_contract(call: Managing, body: NewContract) -> Response:
    """A contract of a company; the same again answers the same."""

    def step(tx: Transaction) -> Answer:
        contract = registry.create_contract(
            tx,
            call.actor,
            body.number,
            body.type,
            body.siren,
            body.from_day or registry.FIRST_DAY,
            today=today(call),
            original_channel=body.original_channel,
        )
        tx.flush()
        return Answer(_contracts(tx, call, [contract])[0], contract.version, 201)

    return await call.change(step)


@routes.get("", response_model=Page[ContractShown])
async def find_contracts(call: Reading, wanted: Annotated[ContractFilter, Query()]) -> Response:
    """Contracts in the order of their making."""

    def step(tx: Transaction) -> dict[str, Any]:
        company_id = None if wanted.siren is None else _company_id(tx, wanted.siren)
        found = search.list_contracts(
            tx, call.actor, wanted.search, wanted.client, company_id, wanted.limit + 1, wanted.after or ""
        )
        shown = {one["id"]: one for one in _contracts(tx, call, found)}
        return pages.of_things(found, wanted, lambda contract: shown[contract.id])

    return await call.answer(step)


def _company_id(tx: Transaction, siren: str) -> str:
    """The id of a company; one that is no company's when there is none, so that nothing is found."""
    return tx.exec(select(Company.id).where(Company.siren == "".join(siren.split()).upper())).first() or "none"


@routes.get("/{contract_id}", response_model=ContractShown)
async def one_contract(call: Reading, contract_id: str) -> Response:
    """One contract."""

    def step(tx: Transaction) -> Answer:
        contract = search.get_contract(tx, call.actor, contract_id)
        return Answer(_contracts(tx, call, [contract])[0], contract.version)

    return await call.show(step)


@routes.put("/{contract_id}/original-channel", response_model=ContractShown)
async def put_original_channel(call: Managing, contract_id: str, body: OriginalChannel) -> Response:
    """Say where the contract's originals go from a day on; natures that were decided stay."""

    def step(tx: Transaction) -> Answer:
        contract = search.get_contract(tx, call.actor, contract_id)
        call.require_match(contract.version)
        subscriptions.set_original_channel(
            tx, call.actor, contract_id, body.channel, body.from_day, drop_later=body.drop_later
        )
        return Answer(_contracts(tx, call, [contract])[0], contract.version)

    return await call.change(step)


def _contracts(tx: Transaction, call: Call, contracts: Iterable[Contract]) -> list[dict[str, Any]]:
    contracts = list(contracts)
    held = (
        select(ContractHolding.contract_id, Company.id, Company.siren)
        .join(Company)
        .where(
            col(ContractHolding.contract_id).in_([contract.id for contract in contracts]),
            on(ContractHolding, today(call)),
        )
    )
    companies = {contract_id: (company_id, siren) for contract_id, company_id, siren in tx.exec(held)}
    clients = client_of(tx, call, [company_id for company_id, _ in companies.values()])
    shown = []
    for contract in contracts:
        company_id, siren = companies.get(contract.id, ("", None))
        client = clients.get(company_id)
        is_seen = client is not None or call.actor.client_id is None
        shown.append(
            ContractShown(
                id=contract.id,
                number=contract.number,
                type=contract.type,
                type_name=contract.type_name,
                siren=siren if is_seen else None,
                client=client,
                created_at=contract.created_at,
            ).model_dump(mode="json")
        )
    return shown
