"""An issuer's desk: parties entered as an operator enters them."""

import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from sqlmodel import col, select
from stdnum import luhn

from gateway.access import Actor, Role
from gateway.domain.ledger import Record
from gateway.domain.parties import Client, Company, Contract
from gateway.parties import registry
from gateway.store.database import Database, Transaction

P = ParamSpec("P")
T = TypeVar("T")

OPERATOR = Actor("tok_operator", "operator", None, Role.OPERATOR)
TODAY = dt.date(2026, 6, 15)


def client_actor(client_id: str) -> Actor:
    """A client's own token."""
    return Actor("tok_client", "client", client_id, Role.CLIENT)


class Desk:
    """Enters parties, each with a SIREN or a number of its own where none is given."""

    operator = OPERATOR
    today = TODAY

    def __init__(self, database: Database) -> None:
        self.database = database
        self._count = itertools.count(1)

    def do(self, call: Callable[Concatenate[Transaction, Actor, P], T], *arguments: P.args, **options: P.kwargs) -> T:
        """A function of parties, by the operator, in a transaction of its own."""
        return self.database.write(lambda tx: call(tx, OPERATOR, *arguments, **options))

    def do_as(
        self,
        actor: Actor,
        call: Callable[Concatenate[Transaction, Actor, P], T],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        """The same, by someone else."""
        return self.database.write(lambda tx: call(tx, actor, *arguments, **options))

    def read(self, call: Callable[Concatenate[Transaction, P], T], *arguments: P.args, **options: P.kwargs) -> T:
        """A function that only reads."""
        return self.database.read(lambda tx: call(tx, *arguments, **options))

    def siren(self) -> str:
        """A SIREN that nobody has here."""
        digits = f"{next(self._count):08d}"
        return digits + luhn.calc_check_digit(digits)

    def client(self, name: str = "") -> Client:
        return self.do(registry.create_client, name or f"Client {next(self._count)}")

    def company(self, client: Client, from_day: dt.date = registry.FIRST_DAY) -> Company:
        siren = self.siren()
        return self.do(registry.create_company, siren, f"Company {siren}", client.id, from_day)

    def contract(
        self, company: Company, type_: str = "CARD_S", from_day: dt.date = registry.FIRST_DAY, today: dt.date = TODAY
    ) -> Contract:
        number = f"C-{next(self._count)}"
        return self.do(registry.create_contract, number, type_, company.siren, from_day, today=today)

    def contracts(self, count: int) -> tuple[Client, list[Contract]]:
        """A client with some contracts of one company."""
        client = self.client()
        company = self.company(client)
        return client, [self.contract(company) for _ in range(count)]

    def events(self, subject: str = "") -> list[str]:
        """What the ledger has recorded, of one subject or of all."""
        rows = select(Record.event).order_by(col(Record.id))
        return self.read(lambda tx: list(tx.exec(rows.where(Record.subject == subject) if subject else rows)))

    def records(self) -> Any:
        """The bodies of all records, as one text."""
        return self.read(lambda tx: "\n".join(tx.exec(select(Record.body).order_by(col(Record.id)))))


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)
