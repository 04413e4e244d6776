"""Find clients, companies and contracts: by id, or page by page in the order of their making.

A page begins after the id `after`; the last id of a page is the next one's `after`. A client's actor finds what its
client holds, held, or is going to hold; the answer for anything else is the answer for what does not exist.
"""

from collections.abc import Sequence
from typing import TypeVar

from sqlmodel import col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from ..access import Actor, Permission, client_for, page_size
from ..domain.folders import Folder
from ..domain.parties import Client, Company, CompanyHolding, Contract, ContractHolding, search_key
from ..errors import NotFound
from ..store.database import Transaction
from .holders import contracts_of

Row = TypeVar("Row", Client, Company, Contract)
_ACCOUNTS = select(Folder.client_id).where(col(Folder.is_intake))


def get_client(tx: Transaction, actor: Actor, client_id: str) -> Client:
    """A client; NotFound."""
    return client_for(tx, actor, Permission.PARTIES_READ, client_id)


def get_company(tx: Transaction, actor: Actor, company_id: str) -> Company:
    """A company by its id; NotFound."""
    row = tx.exec(_companies(actor, None).where(Company.id == company_id)).first()
    if row is None:
        raise NotFound("no such company", code="unknown_company")
    return row


def get_contract(tx: Transaction, actor: Actor, contract_id: str) -> Contract:
    """A contract by its id; NotFound."""
    row = tx.exec(_contracts(actor, None).where(Contract.id == contract_id)).first()
    if row is None:
        raise NotFound("no such contract", code="unknown_contract")
    return row


def list_clients(
    tx: Transaction, actor: Actor, text: str = "", limit: int = 50, after: str = "", *, is_intake: bool | None = None
) -> list[Client]:
    """Clients; `text` is a part of the name, without regard to case and accents.

    `is_intake`: those alone, or none of those, that are systems of the issuer's own (see handing_in).
    """
    actor.require(Permission.PARTIES_READ)
    rows = select(Client)
    if is_intake is not None:
        own = col(Client.id).in_(_ACCOUNTS)
        rows = rows.where(own if is_intake else ~own)
    if text.strip():
        rows = rows.where(col(Client.name_key).contains(search_key(text), autoescape=True))
    if actor.client_id is not None:
        rows = rows.where(Client.id == actor.client_id)
    return _page(tx, rows, Client, limit, after)


def handing_in(tx: Transaction, clients: Sequence[Client]) -> set[str]:
    """The ids of those that are systems of the issuer's own: a log-in of theirs hands documents in."""
    return set(tx.exec(_ACCOUNTS.where(col(Folder.client_id).in_([client.id for client in clients]))))


def list_companies(
    tx: Transaction, actor: Actor, text: str = "", client_id: str | None = None, limit: int = 50, after: str = ""
) -> list[Company]:
    """Companies, of one client or all. `text`: the SIREN's first digits, spaced as one likes, or a part of the name."""
    rows = _companies(actor, client_id)
    if text.strip():
        number = col(Company.siren).startswith("".join(text.split()).upper(), autoescape=True)
        rows = rows.where(or_(number, col(Company.name_key).contains(search_key(text), autoescape=True)))
    return _page(tx, rows, Company, limit, after)


def list_contracts(
    tx: Transaction,
    actor: Actor,
    text: str = "",
    client_id: str | None = None,
    company_id: str | None = None,
    limit: int = 50,
    after: str = "",
) -> list[Contract]:
    """Contracts, of one client, of one company, or all. `text` is a part of the number, without regard to case."""
    rows = _contracts(actor, client_id).where(col(Contract.number).icontains(text.strip(), autoescape=True))
    if company_id is not None:
        held = select(ContractHolding.contract_id).where(ContractHolding.company_id == company_id)
        rows = rows.where(col(Contract.id).in_(held))
    return _page(tx, rows, Contract, limit, after)


def _companies(actor: Actor, client_id: str | None) -> SelectOfScalar[Company]:
    actor.require(Permission.PARTIES_READ)
    rows = select(Company)
    for owner in {client_id, actor.client_id} - {None}:
        held = select(CompanyHolding.company_id).where(CompanyHolding.client_id == owner)
        rows = rows.where(col(Company.id).in_(held))
    return rows


def _contracts(actor: Actor, client_id: str | None) -> SelectOfScalar[Contract]:
    actor.require(Permission.PARTIES_READ)
    rows = select(Contract)
    for owner in {client_id, actor.client_id} - {None}:
        rows = rows.where(col(Contract.id).in_(contracts_of(str(owner))))
    return rows


def _page(tx: Transaction, rows: SelectOfScalar[Row], table: type[Row], limit: int, after: str) -> list[Row]:
    return list(tx.exec(rows.where(col(table.id) > after).order_by(col(table.id)).limit(page_size(limit))))
