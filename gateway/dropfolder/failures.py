"""Log-ins and negotiations that failed, kept with their cause for operators and for the people whom it concerns.

Strangers write this table, so it is bounded: its rows go after some days, a day has MOST_A_DAY at most, and the
listeners keep only so many of one source. A source address is a personal value of a kind of its own, which goes with
the last row that names it. A client's people see what came from an address that their client alone has listed.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import col, select

from .. import evidence
from ..domain import identifiers
from ..domain.folders import FailedConnection, Folder
from ..domain.ledger import PersonalValue
from ..store.database import Transaction

ADDRESS_KIND = "failed_from"
MOST_A_DAY = 10_000
# A list that holds half the Internet says nothing about who came.
_WIDEST = {4: 16, 6: 32}
_BATCH = 500


@dataclass(frozen=True)
class Failure:
    """One that failed. `cause` is for people; `code` for programs; `user_name` as it was given."""

    at: dt.datetime
    protocol: str
    address: str
    user_name: str
    code: str
    cause: str
    banner: str


def keep(tx: Transaction, failures: Sequence[Failure]) -> int:
    """Write them, as far as the day has room; how many."""
    since = min(failure.at for failure in failures) - dt.timedelta(days=1)
    there = tx.execute(sa.select(sa.func.count()).where(col(FailedConnection.at) > since)).scalar_one()
    kept = failures[: max(0, MOST_A_DAY - there)]
    lists = _lists(tx) if kept else []
    for failure in kept:
        tx.add(
            FailedConnection(
                at=failure.at,
                protocol=failure.protocol,
                address_id=evidence.personal(tx, ADDRESS_KIND, failure.address)["id"],
                client_id=_only_client(lists, failure.address),
                user_name=failure.user_name[:64],
                code=failure.code[:40],
                cause=failure.cause[:1000],
                banner=failure.banner[:255],
            )
        )
    return len(kept)


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _lists(tx: Transaction) -> list[tuple[str, list[_Network]]]:
    rows = tx.exec(select(Folder.client_id, Folder.networks).where(col(Folder.networks).is_not(None))).all()
    return [(client, [ipaddress.ip_network(one) for one in networks or ()]) for client, networks in rows]


def _only_client(lists: list[tuple[str, list[_Network]]], address: str) -> str | None:
    """The client whose list holds the address, if it is the only one."""
    parsed = identifiers.network_address(address)
    if parsed is None:
        return None
    clients = {
        client
        for client, networks in lists
        if any(parsed in one and one.prefixlen >= _WIDEST[one.version] for one in networks)
    }
    return clients.pop() if len(clients) == 1 else None


def forget(tx: Transaction, before: dt.datetime) -> int:
    """Delete what is older, a batch of it, with the addresses that nothing else names; how many rows."""
    old = select(FailedConnection.id).where(col(FailedConnection.at) < before).limit(_BATCH)
    ids = tx.exec(old).all()
    if ids:
        tx.execute(sa.delete(FailedConnection).where(col(FailedConnection.id).in_(ids)))
        named = sa.exists().where(col(FailedConnection.address_id) == col(PersonalValue.id))
        tx.execute(sa.delete(PersonalValue).where(col(PersonalValue.kind) == ADDRESS_KIND, ~named))
    return len(ids)
