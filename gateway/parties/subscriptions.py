"""Which contracts are subscribed to the electronic invoice, and where their originals go.

Both are dated and together decide a document's nature on its issue date; what was decided stays, whatever changes
here. Periods of a contract never overlap: subscribing fills the days that are not covered yet, so repeating it
changes nothing.

A bulk call answers item by item; the refusal of one contract stops no other. Refused as a whole: a day in the past
(an operator may, with a reason), no terms, `include_future` with a selection.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal

from sqlmodel import col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from .. import evidence
from ..access import Actor, Permission, client_for
from ..domain.parties import Contract, FutureSubscription, OriginalChannel, Subscription
from ..errors import NotFound, Refused
from ..store import database
from ..store.database import Transaction
from .bonds import follow
from .coverage import Consent, Item, cut, fill
from .holders import batches, contracts_of
from .periods import Span, on, uncovered


def subscribe(
    tx: Transaction,
    actor: Actor,
    client_id: str,
    contracts: Sequence[str] | None,
    from_day: dt.date,
    *,
    terms_version: str,
    today: dt.date,
    include_future: bool = False,
    reason: str = "",
) -> list[Item]:
    """Subscribe contracts of a client from a day on, item by item.

    `contracts`: numbers or ids; None: all that the client holds or is known to hold later. `include_future` (with
    all only) does the same for contracts that come to the client afterwards. `today`: the issuer's day.
    """
    client_for(tx, actor, Permission.SUBSCRIPTIONS_MANAGE, client_id, hold=True)
    _check_day(actor, from_day, today, reason)
    if not 0 < len(terms_version) <= 20:
        raise Refused("a subscription consents to a version of the terms, of 1 to 20 characters", code="terms_version")
    if include_future and contracts is not None:
        raise Refused("include_future goes with all contracts, not with a selection", code="include_future")
    scope: Literal["selection", "all"] = "all" if contracts is None else "selection"
    consent = Consent(actor.id, client_id, scope, terms_version, reason)
    items = fill(tx, consent, _all_of(tx, client_id) if contracts is None else _selected(tx, contracts), from_day)
    if include_future:
        _include_later_ones(tx, consent, max(from_day, today))
    return items


def _check_day(actor: Actor, day: dt.date, today: dt.date, reason: str) -> None:
    if len(reason) > 500:
        raise Refused("a reason has at most 500 characters", code="reason_length")
    if day >= today:
        return
    if actor.kind != "operator":
        raise Refused("a subscription begins and ends today or later", code="day_past")
    if not reason.strip():
        raise Refused("a day in the past needs the reason for it", code="reason_missing")


def _all_of(tx: Transaction, client_id: str) -> list[Contract | str]:
    wanted = select(Contract).where(col(Contract.id).in_(contracts_of(client_id))).order_by(col(Contract.number))
    return [*tx.exec(wanted)]


def _selected(tx: Transaction, names: Sequence[str]) -> list[Contract | str]:
    """The contracts in the order asked, each once; a name that nothing goes by stands for itself."""
    known: dict[str, Contract] = {}
    for part in batches(names):
        named = or_(col(Contract.number).in_(part), col(Contract.id).in_(part))
        for contract in tx.exec(select(Contract).where(named)):
            known |= {contract.id: contract, contract.number: contract}
    found: dict[str, Contract | str] = {}
    for name in names:
        contract_or_name = known.get(name, name)
        found[contract_or_name if isinstance(contract_or_name, str) else contract_or_name.id] = contract_or_name
    return list(found.values())


def _include_later_ones(tx: Transaction, consent: Consent, from_day: dt.date) -> None:
    standing = tx.exec(select(FutureSubscription).where(FutureSubscription.client_id == consent.client_id)).all()
    for gap in uncovered(Span(from_day), [Span(row.from_day, row.to_day) for row in standing]):
        row = FutureSubscription(
            client_id=consent.client_id,
            from_day=gap.from_day,
            to_day=gap.to_day,
            terms_version=consent.terms_version,
            created_by=consent.actor,
            created_at=database.now(tx),
        )
        tx.add(row)
        evidence.record(tx, "future_subscription.started", row.id, **_facts(row))


def _facts(row: FutureSubscription) -> dict[str, Any]:
    facts = row.model_dump(include={"client_id", "from_day", "to_day", "terms_version"})
    return facts | {"actor": row.created_by}


def end(
    tx: Transaction, actor: Actor, subscription_ids: Sequence[str], to_day: dt.date, *, today: dt.date, reason: str = ""
) -> list[Item]:
    """End subscriptions after `to_day`, item by item; one that ends before stays as it is (`already`)."""
    actor.require(Permission.SUBSCRIPTIONS_MANAGE)
    _check_day(actor, to_day, today, reason)
    owners = set().union(*(tx.exec(_owners(ids)).all() for ids in batches(subscription_ids)))
    for client_id in sorted(filter(actor.sees, owners)):
        client_for(tx, actor, Permission.SUBSCRIPTIONS_MANAGE, client_id, hold=True)
    found: dict[str, tuple[Subscription, str]] = {}
    for ids in batches(subscription_ids):
        rows = select(Subscription, Contract.number).join(Contract).where(col(Subscription.id).in_(ids))
        found |= {row.id: (row, number) for row, number in tx.exec(rows) if actor.sees(row.client_id)}
    return [_end(tx, actor, id_, found.get(id_), to_day, reason) for id_ in dict.fromkeys(subscription_ids)]


def _owners(subscription_ids: Sequence[str]) -> SelectOfScalar[str]:
    return select(Subscription.client_id).where(col(Subscription.id).in_(subscription_ids))


def _end(
    tx: Transaction, actor: Actor, id_: str, found: tuple[Subscription, str] | None, to_day: dt.date, reason: str
) -> Item:
    if found is None:
        return Item(id_[:60], "refused", "unknown_subscription", "no such subscription")
    row, number = found
    outcome: Literal["ended", "already"] = "ended" if cut(tx, actor.id, row, to_day, reason) else "already"
    return Item(number, outcome, "", "", row.id, row.from_day, row.to_day)


def end_including(tx: Transaction, actor: Actor, client_id: str, to_day: dt.date, *, today: dt.date) -> None:
    """Contracts that come to the client after `to_day`, today or later, are not subscribed by themselves any more."""
    client_for(tx, actor, Permission.SUBSCRIPTIONS_MANAGE, client_id, hold=True)
    _check_day(actor, max(to_day, today), today, "")
    for wish in tx.exec(select(FutureSubscription).where(FutureSubscription.client_id == client_id)):
        before = Span(wish.from_day, wish.to_day)
        after = before.cut(max(to_day, today))
        if after != before:
            wish.to_day = after.to_day
            tx.add(wish)
            evidence.record(tx, "future_subscription.ended", wish.id, actor=actor.id, to_day=wish.to_day)


def in_force(tx: Transaction, contract_ids: Sequence[str], day: dt.date) -> dict[str, Subscription]:
    """The subscription of each contract that is subscribed on a day, by contract id. One statement for up to 1,000."""
    found: dict[str, Subscription] = {}
    for ids in batches(contract_ids):
        rows = select(Subscription).where(col(Subscription.contract_id).in_(ids), on(Subscription, day))
        found |= {row.contract_id: row for row in tx.exec(rows)}
    return found


def set_original_channel(
    tx: Transaction, actor: Actor, contract_id: str, channel: str, from_day: dt.date, *, drop_later: bool = False
) -> None:
    """Say where a contract's originals go from a day on: `gateway` or `platform`. Natures already decided stay.

    Refused for another word; Conflict (bonds.follow) when a later change is entered already.
    """
    actor.require(Permission.PARTIES_MANAGE)
    if channel not in ("gateway", "platform"):
        raise Refused("originals go through the gateway or through a platform", code="original_channel")
    if tx.get(Contract, contract_id, with_for_update={"key_share": True}) is None:
        raise NotFound("no such contract", code="unknown_contract")
    rows = tx.exec(select(OriginalChannel).where(OriginalChannel.contract_id == contract_id)).all()
    if any(row.channel == channel and row.from_day <= from_day and row.to_day is None for row in rows):
        return
    new = OriginalChannel(
        contract_id=contract_id, channel=channel, from_day=from_day, created_by=actor.id, created_at=database.now(tx)
    )
    replaced = follow(tx, rows, new, drop_later=drop_later)
    evidence.record(
        tx,
        "original_channel.changed",
        contract_id,
        actor=actor.id,
        channel=channel,
        from_day=from_day,
        replaced=replaced,
    )


def original_channel_on(tx: Transaction, contract_ids: Sequence[str], day: dt.date, default: str) -> dict[str, str]:
    """Where the originals of each contract go on a day: what was set for it, else `default`; by contract id."""
    found = dict.fromkeys(contract_ids, default)
    for ids in batches(contract_ids):
        rows = select(OriginalChannel).where(col(OriginalChannel.contract_id).in_(ids), on(OriginalChannel, day))
        found |= {row.contract_id: row.channel for row in tx.exec(rows)}
    return found
