"""The days on which contracts are subscribed: filled without overlap, and cut when a contract changes hands.

A subscription lives within the days on which its client holds the contract. Rows are looked up and written in a few
statements, however many contracts there are. Nothing here decides who may do so: subscriptions.py and registry.py do.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlmodel import col, select

from .. import clock
from ..domain.parties import Contract, ContractType, FutureSubscription, Subscription
from ..evidence import Fact, record_all
from ..store import database
from ..store.database import Transaction
from .holders import Tenure, batches, tenures
from .periods import Span, common, uncovered

ELIGIBLE = tuple(kind for kind in ContractType if kind.is_eligible)


@dataclass(frozen=True)
class Item:
    """What came of one contract, or of one subscription to end. The days are those of the subscription named."""

    contract: str  # its number; what was asked for when the client has nothing of that name
    outcome: Literal["subscribed", "already", "ended", "refused"]
    code: str = ""  # of a refusal: unknown_contract, ineligible_type, unknown_subscription
    reason: str = ""
    subscription_id: str | None = None
    from_day: dt.date | None = None
    to_day: dt.date | None = None


@dataclass(frozen=True)
class Consent:
    """Who agreed to what; the same for all subscriptions that come of one act."""

    actor: str
    client_id: str
    scope: Literal["selection", "all", "future"]
    terms_version: str
    reason: str = ""


def fill(tx: Transaction, consent: Consent, contracts: Sequence[Contract | str], from_day: dt.date) -> list[Item]:
    """Subscribe every day from `from_day` on, not yet subscribed, on which the client holds a contract.

    One item for each of `contracts`, in their order; a string stands for a contract that does not exist.
    """
    ids = [contract.id for contract in contracts if isinstance(contract, Contract)]
    held, taken, at = tenures(tx, ids), _periods(tx, ids), database.now(tx)
    items, rows = [], []
    for contract in contracts:
        wanted = _wanted(held, contract, consent.client_id, from_day)
        if isinstance(wanted, Span) and isinstance(contract, Contract):
            covered = taken.get(contract.id, [])
            new = [_row(consent, contract.id, gap, at) for gap in uncovered(wanted, (span for span, _ in covered))]
            rows += new
            items.append(_subscribed(contract, new[0]) if new else _already(contract, covered, wanted.from_day))
        elif isinstance(wanted, Item):
            items.append(wanted)
    if rows:
        tx.execute(sa.insert(Subscription), rows)
        record_all(tx, [_started(row) for row in rows])
    return items


def _wanted(held: dict[str, list[Tenure]], contract: Contract | str, client_id: str, from_day: dt.date) -> Span | Item:
    """The days to subscribe, or the refusal; the same one for what does not exist and for another client's."""
    tenure = None
    if isinstance(contract, Contract):
        own = (tenure for tenure in held.get(contract.id, []) if tenure.client_id == client_id)
        tenure = next((tenure for tenure in own if tenure.span.last >= from_day), None)
    if isinstance(contract, str) or tenure is None:
        name = contract[:60] if isinstance(contract, str) else contract.number
        return Item(name, "refused", "unknown_contract", "the client holds no contract of this number from that day on")
    if not contract.type.is_eligible:
        kind = contract.type_name or contract.type
        reason = f"a contract of type {kind} cannot be subscribed, only one of type {' or '.join(ELIGIBLE)}"
        return Item(contract.number, "refused", "ineligible_type", reason)
    return Span(max(from_day, tenure.span.from_day), tenure.span.to_day)


def _subscribed(contract: Contract, row: dict[str, Any]) -> Item:
    return Item(contract.number, "subscribed", "", "", row["id"], row["from_day"], row["to_day"])


def _already(contract: Contract, covered: Sequence[tuple[Span, str]], day: dt.date) -> Item:
    span, subscription_id = next((span, id_) for span, id_ in covered if span.holds(day))
    return Item(contract.number, "already", "", "", subscription_id, span.from_day, span.to_day)


def _periods(tx: Transaction, contract_ids: Sequence[str]) -> dict[str, list[tuple[Span, str]]]:
    """The days of each contract's subscriptions, with their ids."""
    wanted = sa.select(
        col(Subscription.contract_id), col(Subscription.from_day), col(Subscription.to_day), col(Subscription.id)
    )
    periods = defaultdict(list)
    for ids in batches(contract_ids):
        for contract_id, from_day, to_day, id_ in tx.execute(wanted.where(col(Subscription.contract_id).in_(ids))):
            periods[contract_id].append((Span(from_day, to_day), id_))
    return periods


def _row(consent: Consent, contract_id: str, span: Span, at: dt.datetime) -> dict[str, Any]:
    return {
        "id": clock.new_id("sub"),
        "contract_id": contract_id,
        "client_id": consent.client_id,
        "from_day": span.from_day,
        "to_day": span.to_day,
        "scope": consent.scope,
        "terms_version": consent.terms_version,
        "reason": consent.reason,
        "created_by": consent.actor,
        "created_at": at,
    }


def _started(row: dict[str, Any]) -> Fact:
    facts = ("contract_id", "client_id", "from_day", "to_day", "scope", "terms_version", "reason")
    return Fact("subscription.started", row["id"], None, {"actor": row["created_by"]} | {f: row[f] for f in facts})


def cut(tx: Transaction, actor: str, subscription: Subscription, to_day: dt.date, reason: str) -> bool:
    """End a subscription at `to_day` unless it ends before; one that had not begun by then never comes into force."""
    before = Span(subscription.from_day, subscription.to_day)
    after = before.cut(to_day)
    if after == before:
        return False
    subscription.to_day, subscription.ended_by, subscription.ended_at = after.to_day, actor, database.now(tx)
    tx.add(subscription)
    facts = {"actor": actor, "contract_id": subscription.contract_id, "to_day": after.to_day, "reason": reason}
    record_all(tx, [Fact("subscription.ended", subscription.id, None, facts)])
    return True


def change_hands(tx: Transaction, actor: str, contract_ids: Sequence[str], from_day: dt.date, today: dt.date) -> None:
    """After bonds changed from `from_day` on: end what reaches beyond its client's days, begin what was asked for.

    A client that wanted later contracts included has them subscribed from their first day, not before `today`.
    """
    held = tenures(tx, contract_ids)
    _end_with_their_tenure(tx, actor, held, contract_ids)
    arrivals = defaultdict(list)
    for contract_id, of_contract in held.items():
        for tenure in of_contract:
            if tenure.span.from_day >= from_day and tenure.span.last >= today:
                arrivals[tenure.client_id, max(tenure.span.from_day, today)].append(contract_id)
    for (client_id, day), ids in arrivals.items():
        _welcome(tx, client_id, ids, day)


def _end_with_their_tenure(
    tx: Transaction, actor: str, held: dict[str, list[Tenure]], contract_ids: Sequence[str]
) -> None:
    for ids in batches(contract_ids):
        for subscription in tx.exec(select(Subscription).where(col(Subscription.contract_id).in_(ids))):
            last = _last_day(held.get(subscription.contract_id, []), subscription)
            if last is not None:
                cut(tx, actor, subscription, last, "the contract went to another client")


def _last_day(held: Iterable[Tenure], subscription: Subscription) -> dt.date | None:
    """The last day on which the subscription's client holds the contract; None: no end is known."""
    for tenure in held:
        if tenure.client_id == subscription.client_id and tenure.span.holds(subscription.from_day):
            return tenure.span.to_day
    return dt.date.min


def _welcome(tx: Transaction, client_id: str, contract_ids: Sequence[str], day: dt.date) -> None:
    wishes = tx.exec(select(FutureSubscription).where(FutureSubscription.client_id == client_id))
    standing = [wish for wish in wishes if common(Span(wish.from_day, wish.to_day), Span(day))]
    if not standing:
        return
    wish = min(standing, key=lambda wish: wish.from_day)
    consent = Consent(wish.created_by, client_id, "future", wish.terms_version)
    for ids in batches(contract_ids):
        eligible = select(Contract).where(col(Contract.id).in_(ids), col(Contract.type).in_(ELIGIBLE))
        fill(tx, consent, [*tx.exec(eligible)], max(day, wish.from_day))
