"""Who held a contract on a day: the company by the contract's bond, the client by the company's.

A document belongs for ever to the holder on its issue date, so this is asked once for each. Failures, as Refused:
`unknown_contract`, `contract_without_holder`, `other_company`; none of them names anybody.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from ..domain import identifiers
from ..domain.parties import Company, CompanyHolding, Contract, ContractHolding, ContractType
from ..errors import Refused
from ..store.database import Transaction
from .periods import Span, common, joined

# Of a contract's bond joined with its company's.
_BONDS: list[Any] = [
    ContractHolding.contract_id,
    ContractHolding.company_id,
    CompanyHolding.client_id,
    ContractHolding.from_day,
    ContractHolding.to_day,
    col(CompanyHolding.from_day).label("company_from"),
    col(CompanyHolding.to_day).label("company_to"),
]


@dataclass(frozen=True)
class Holder:
    """A contract with the company and the client that held it on a day."""

    contract_id: str
    number: str
    type: ContractType
    company_id: str
    siren: str
    client_id: str


def holder_on(tx: Transaction, number: str, day: dt.date) -> Holder:
    """The holder of the contract with this number; Refused."""
    found = holders_on(tx, [(number, day)])[number, day]
    if isinstance(found, Refused):
        raise found
    return found


def holders_on(tx: Transaction, wanted: Sequence[tuple[str, dt.date]]) -> dict[tuple[str, dt.date], Holder | Refused]:
    """For each contract number and day the holder, or the refusal that `holder_on` would raise. One statement.

    For a batch of up to some thousand; the intake's hot path.
    """
    rows = _bonds(tx, wanted) if wanted else {}
    return {(number, day): _pick(number, day, rows.get(number, [])) for number, day in wanted}


def _bonds(tx: Transaction, wanted: Sequence[tuple[str, dt.date]]) -> dict[str, list[Any]]:
    numbers, days = {number for number, _ in wanted}, [day for _, day in wanted]
    of_contract = _overlapping(ContractHolding, min(days), max(days))
    of_company = _overlapping(CompanyHolding, min(days), max(days))
    columns = [Contract.number, Contract.type, Company.siren, *_BONDS]
    statement = (
        sa.select(*columns)
        .select_from(Contract)
        .outerjoin(ContractHolding, (col(ContractHolding.contract_id) == col(Contract.id)) & of_contract)
        .outerjoin(Company, col(Company.id) == col(ContractHolding.company_id))
        .outerjoin(CompanyHolding, (col(CompanyHolding.company_id) == col(Company.id)) & of_company)
        .where(col(Contract.number).in_(numbers))
    )
    rows = defaultdict(list)
    for row in tx.execute(statement):
        rows[row.number].append(row)
    return rows


def _overlapping(
    table: type[ContractHolding] | type[CompanyHolding], first: dt.date, last: dt.date
) -> sa.ColumnElement[bool]:
    return (col(table.from_day) <= last) & (col(table.to_day).is_(None) | (col(table.to_day) >= first))


def _pick(number: str, day: dt.date, rows: Iterable[Any]) -> Holder | Refused:
    known = False
    for row in rows:
        known = True
        if row.client_id is None or not Span(row.from_day, row.to_day).holds(day):
            continue
        if Span(row.company_from, row.company_to).holds(day):
            return Holder(row.contract_id, number, row.type, row.company_id, row.siren, row.client_id)
    if known:
        return Refused(
            f"contract {number} belonged to no client on {day.isoformat()}",
            code="contract_without_holder",
            contract=number,
        )
    return Refused(f"contract {number} is not known", code="unknown_contract", contract=number)


def check_buyer(holder: Holder, buyer: str) -> None:
    """Refused (`other_company`) unless the buyer on the document (SIREN, SIRET, VAT number) is the holder's company."""
    if identifiers.party(buyer) != holder.siren:
        raise Refused(
            f"contract {holder.number} is another company's than the buyer on the document, {buyer[:20]}",
            code="other_company",
            contract=holder.number,
        )


@dataclass(frozen=True)
class Tenure:
    """Days without a gap on which a client held a contract, through one company or several."""

    client_id: str
    span: Span


def tenures(tx: Transaction, contract_ids: Sequence[str]) -> dict[str, list[Tenure]]:
    """Who held each contract when, in order of days; contracts that nobody ever held are left out."""
    bonds = sa.select(*_BONDS).join(CompanyHolding, col(CompanyHolding.company_id) == col(ContractHolding.company_id))
    days: dict[str, dict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
    for ids in batches(contract_ids):
        for row in tx.execute(bonds.where(col(ContractHolding.contract_id).in_(ids))):
            held = common(Span(row.from_day, row.to_day), Span(row.company_from, row.company_to))
            if held is not None:
                days[row.contract_id][row.client_id].append(held)
    return {contract_id: _in_order(of_clients) for contract_id, of_clients in days.items()}


def _in_order(of_clients: dict[str, list[Span]]) -> list[Tenure]:
    found = [Tenure(client_id, span) for client_id, spans in of_clients.items() for span in joined(spans)]
    return sorted(found, key=lambda tenure: tenure.span.from_day)


def contracts_of(client_id: str) -> sa.Select[str]:
    """The ids of the contracts that a client ever held."""
    return (
        sa.select(col(ContractHolding.contract_id))
        .join(
            CompanyHolding,
            (col(CompanyHolding.company_id) == col(ContractHolding.company_id))
            & (col(CompanyHolding.from_day) <= sa.func.coalesce(col(ContractHolding.to_day), dt.date.max))
            & (col(ContractHolding.from_day) <= sa.func.coalesce(col(CompanyHolding.to_day), dt.date.max)),
        )
        .where(col(CompanyHolding.client_id) == client_id)
    )


def batches(ids: Sequence[str], size: int = 1000) -> Iterable[Sequence[str]]:
    """Parts for an IN list: databases limit the parameters of one statement."""
    return (ids[start : start + size] for start in range(0, len(ids), size))
