"""Clients and companies."""

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col, select

from ... import clock
from ...access import Permission
from ...delivery import dry_run
from ...domain.parties import Client, Company, CompanyHolding, Language
from ...parties import registry, search
from ...parties.periods import on
from ...store.database import Transaction
from .. import pages
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Listing, Page
from . import API

routes = APIRouter(prefix=API, tags=["parties"])
Reading = Annotated[Call, Depends(Needs(Permission.PARTIES_READ))]
Deciding = Annotated[Call, Depends(Needs(Permission.PARTIES_MANAGE, operators_only=True))]
Managing = Annotated[Call, Depends(Needs(Permission.PARTIES_MANAGE))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewClient(_Strict):
    """A client; it gets a first drop folder. `user_name`: the folder's log-in, made from the name when empty."""

    name: str
    language: Language = Language.FR
    user_name: str = ""
    is_intake: bool = Field(
        False, description="A system of the issuer's own: its log-in hands documents in, and gets none"
    )


class ClientChange(_Strict):
    """What changes; null stays."""

    name: str | None = None
    language: Language | None = None


class ClientShown(BaseModel):
    """The party we deal with."""

    id: str
    name: str
    language: Language
    disabled_at: dt.datetime | None
    dry_run: bool = Field(description="Everything is planned and explained, nothing leaves")
    is_intake: bool = Field(description="A system of the issuer's own, which hands documents in")
    created_at: dt.datetime


class NewCompany(_Strict):
    """A company of a client, from a day on; null: for every document."""

    siren: str = Field(description="SIREN, SIRET, or the VAT number of a foreign company")
    name: str
    client: str = Field(description="Id of the client")
    from_day: dt.date | None = Field(None, alias="from")


class CompanyShown(BaseModel):
    """A legal unit. `client` holds it today; null when nobody, or nobody that you see."""

    id: str
    siren: str
    name: str
    client: str | None
    created_at: dt.datetime


class ClientFilter(Listing):
    """Which clients."""

    name: str = Field("", max_length=200, description="Part of the name, without regard to case and accents")
    is_intake: bool | None = Field(None, description="Systems of the issuer's own alone, or none of them")


class CompanyFilter(Listing):
    """Which companies."""

    search: str = Field("", max_length=200, description="First digits of the SIREN, or part of the name")
    siren: str | None = Field(None, max_length=20)
    client: str | None = Field(None, max_length=40)


@routes.post("/clients", status_code=201, response_model=ClientShown)
async def add_client(call: Managing, body: NewClient) -> Response:
    """A new client with its drop folder; the same again answers the same."""
    return await call.change(
        lambda tx: _client(
            tx,
            registry.create_client(tx, call.actor, body.name, body.language, body.user_name, is_intake=body.is_intake),
            201,
        )
    )


@routes.get("/clients", response_model=Page[ClientShown])
async def find_clients(call: Reading, wanted: Annotated[ClientFilter, Query()]) -> Response:
    """Clients in the order of their making."""

    def step(tx: Transaction) -> dict[str, Any]:
        page = (wanted.limit + 1, wanted.after or "")
        found = search.list_clients(tx, call.actor, wanted.name, *page, is_intake=wanted.is_intake)
        handing_in = search.handing_in(tx, found)
        return pages.of_things(found, wanted, lambda client: _shown(client, handing_in))

    return await call.answer(step)


@routes.get("/clients/{client_id}", response_model=ClientShown)
async def one_client(call: Reading, client_id: str) -> Response:
    """One client."""
    return await call.show(lambda tx: _client(tx, search.get_client(tx, call.actor, client_id)))


@routes.patch("/clients/{client_id}", response_model=ClientShown)
async def change_client(call: Managing, client_id: str, body: ClientChange) -> Response:
    """Another name or language."""

    def step(tx: Transaction) -> Answer:
        version = search.get_client(tx, call.actor, client_id).version
        call.require_match(version)
        changed = registry.update_client(tx, call.actor, client_id, version, name=body.name, language=body.language)
        return _client(tx, changed)

    return await call.change(step)


class DryRunWanted(_Strict):
    """On, or off: then what was held for it is delivered, in its order, or cancelled."""

    dry_run: bool
    held: Literal["deliver", "cancel"] = "deliver"
    reason: str = Field("", max_length=500)


class DryRunSwitched(BaseModel):
    """`deliveries`: how many are held by it, or were let go or cancelled."""

    dry_run: bool
    deliveries: int


@routes.put("/clients/{client_id}/dry-run", response_model=DryRunSwitched)
async def switch_dry_run(call: Deciding, client_id: str, body: DryRunWanted) -> Response:
    """Plan and explain everything for a client, and let nothing leave; or end that."""

    def step(tx: Transaction) -> Answer:
        if body.dry_run:
            count = dry_run.begin(tx, call.actor, client_id, body.reason)
        else:
            count = dry_run.end(tx, call.actor, client_id, cancel=body.held == "cancel", reason=body.reason)
        return Answer({"dry_run": body.dry_run, "deliveries": count})

    switched = await call.change(step)
    call.parts.wake()
    return switched


def _client(tx: Transaction, client: Client, status: int = 200) -> Answer:
    return Answer(_shown(client, search.handing_in(tx, [client])), client.version, status)


def _shown(client: Client, handing_in: set[str]) -> dict[str, Any]:
    shown = ClientShown(
        id=client.id,
        name=client.name,
        language=client.language,
        disabled_at=client.disabled_at,
        dry_run=client.dry_run,
        is_intake=client.id in handing_in,
        created_at=client.created_at,
    )
    return shown.model_dump(mode="json")


@routes.post("/companies", status_code=201, response_model=CompanyShown)
async def add_company(call: Managing, body: NewCompany) -> Response:
    """A company of a client; the same again answers the same."""

    def step(tx: Transaction) -> Answer:
        from_day = body.from_day or registry.FIRST_DAY
        company = registry.create_company(tx, call.actor, body.siren, body.name, body.client, from_day)
        tx.flush()
        return Answer(_companies(tx, call, [company])[0], company.version, 201)

    return await call.change(step)


@routes.get("/companies", response_model=Page[CompanyShown])
async def find_companies(call: Reading, wanted: Annotated[CompanyFilter, Query()]) -> Response:
    """Companies in the order of their making."""

    def step(tx: Transaction) -> dict[str, Any]:
        text = wanted.siren if wanted.siren is not None else wanted.search
        found = search.list_companies(tx, call.actor, text, wanted.client, wanted.limit + 1, wanted.after or "")
        shown = {one["id"]: one for one in _companies(tx, call, found)}
        return pages.of_things(found, wanted, lambda company: shown[company.id])

    return await call.answer(step)


@routes.get("/companies/{company_id}", response_model=CompanyShown)
async def one_company(call: Reading, company_id: str) -> Response:
    """One company."""

    def step(tx: Transaction) -> Answer:
        company = search.get_company(tx, call.actor, company_id)
        return Answer(_companies(tx, call, [company])[0], company.version)

    return await call.show(step)


def _companies(tx: Transaction, call: Call, companies: Iterable[Company]) -> list[dict[str, Any]]:
    companies = list(companies)
    clients = client_of(tx, call, [company.id for company in companies])
    return [
        CompanyShown(
            id=company.id,
            siren=company.siren,
            name=company.name,
            client=clients.get(company.id),
            created_at=company.created_at,
        ).model_dump(mode="json")
        for company in companies
    ]


def client_of(tx: Transaction, call: Call, company_ids: list[str]) -> dict[str, str]:
    """The clients that hold the companies today and that the caller sees."""
    held = select(CompanyHolding.company_id, CompanyHolding.client_id).where(
        col(CompanyHolding.company_id).in_(company_ids), on(CompanyHolding, today(call))
    )
    return {company_id: client_id for company_id, client_id in tx.exec(held) if call.actor.sees(client_id)}


def today(call: Call) -> dt.date:
    """The issuer's day."""
    return clock.day_of(clock.now(), call.parts.settings.issuer.zone)
