"""Whatever is subscribed, ended and moved, in whatever order: the rules of bonds and periods hold.

After every step a contract has at most one holder and one subscription on a day, the subscription is the holder's, a
step from a day on leaves the days before it alone, and what was decided for a document stays decided.
"""

import datetime as dt
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlmodel import col, select

from gateway import clock
from gateway.domain.documents import Document
from gateway.domain.nature import decide
from gateway.domain.parties import Subscription
from gateway.domain.states import DocumentState, Kind
from gateway.parties import holders, registry, subscriptions
from gateway.parties.periods import Span
from gateway.store.database import Transaction
from tests.parties.conftest import TODAY, Desk

DAYS = [TODAY + dt.timedelta(days=number) for number in range(-8, 9)]
days = st.sampled_from(DAYS)
clients, companies, contracts = st.integers(0, 1), st.integers(0, 2), st.integers(0, 2)
Days = dict[tuple[str, dt.date], str]  # of a contract on a day: the holder, or the subscription


class Parties(RuleBasedStateMachine):
    """Two clients, three companies, three contracts; `desk` is the test's."""

    desk: Desk

    @initialize()
    def enter(self) -> None:
        self.clients = [self.desk.client() for _ in range(2)]
        self.companies = [self.desk.company(self.clients[number % 2]) for number in range(3)]
        self.contracts = [self.desk.contract(self.companies[number], from_day=DAYS[number]) for number in range(3)]
        self.ids = [contract.id for contract in self.contracts]
        self.decided: dict[str, tuple[Any, ...]] = {}

    @rule(contract=contracts, company=companies, day=days)
    def move_contract(self, contract: int, company: int, day: dt.date) -> None:
        before = self.holding(), self.subscribed()
        self.desk.do(
            registry.move_contract,
            self.ids[contract],
            self.companies[company].id,
            day,
            today=TODAY,
            drop_later=True,
        )
        self.unchanged_before(day, before)

    @rule(company=companies, client=clients, day=days)
    def move_company(self, company: int, client: int, day: dt.date) -> None:
        before = self.holding(), self.subscribed()
        self.desk.do(
            registry.move_company,
            self.companies[company].id,
            self.clients[client].id,
            day,
            today=TODAY,
            drop_later=True,
        )
        self.unchanged_before(day, before)

    @rule(client=clients, chosen=st.none() | st.sets(contracts, min_size=1), day=days, later=st.booleans())
    def subscribe(self, client: int, chosen: set[int] | None, day: dt.date, later: bool) -> None:
        before, held = self.subscribed(), self.holding()
        items = self.desk.do(
            subscriptions.subscribe,
            self.clients[client].id,
            None if chosen is None else [self.ids[number] for number in chosen],
            day,
            terms_version="1",
            today=TODAY,
            include_future=later and chosen is None,
            reason="told late",
        )
        after = self.subscribed()
        assert {at: after[at] for at in before} == before, "none ends by subscribing"
        assert all(at[1] >= day for at in set(after) - set(before))
        numbers = {self.contracts[n].number for n in (chosen if chosen is not None else range(3))}
        assert {item.contract for item in items} <= numbers
        for contract in self.contracts:
            item = next((item for item in items if item.contract == contract.number), None)
            if held.get((contract.id, day)) == self.clients[client].id and contract.number in numbers:
                assert item is not None
                assert item.outcome in ("subscribed", "already")
                assert (contract.id, day) in after

    @rule(data=st.data(), day=days)
    def end(self, data: st.DataObject, day: dt.date) -> None:
        before = self.subscribed()
        if not before:
            return
        chosen = data.draw(st.sampled_from(sorted(set(before.values()))))
        self.desk.do(subscriptions.end, [chosen], day, today=TODAY, reason="told late")
        kept = {at: id_ for at, id_ in before.items() if id_ != chosen or at[1] <= day}
        assert self.subscribed() == kept

    @rule(contract=contracts, channel=st.sampled_from(["gateway", "platform"]), day=days)
    def set_channel(self, contract: int, channel: str, day: dt.date) -> None:
        id_ = self.ids[contract]
        before = [self.channel(id_, other) for other in DAYS if other < day]
        self.desk.do(subscriptions.set_original_channel, id_, channel, day, drop_later=True)
        assert [self.channel(id_, other) for other in DAYS if other < day] == before
        assert {self.channel(id_, other) for other in DAYS if other >= day} == {channel}

    @rule(contract=contracts, day=days)
    def accept_a_document(self, contract: int, day: dt.date) -> None:
        def step(tx: Transaction) -> None:
            holder = holders.holders_on(tx, [(self.contracts[contract].number, day)])[
                self.contracts[contract].number, day
            ]
            if not isinstance(holder, holders.Holder):
                return
            subscription = subscriptions.in_force(tx, [holder.contract_id], day).get(holder.contract_id)
            channel = subscriptions.original_channel_on(tx, [holder.contract_id], day, "gateway")[holder.contract_id]
            what, reason = decide(Kind.INVOICE, subscription is not None, channel)
            document = Document(
                kind=Kind.INVOICE,
                number="N",
                issue_date=day,
                type_code="380",
                seller="404833048",
                key="k",
                contract_id=holder.contract_id,
                company_id=holder.company_id,
                client_id=holder.client_id,
                nature=what,
                nature_reason=reason,
                subscription_id=subscription.id if subscription else None,
                state=DocumentState.RECEIVED,
                received_sha256="0" * 64,
                received_size=1,
                received_at=clock.now(),
                source="api",
                facts={},
                updated_at=clock.now(),
            )
            tx.add(document)
            self.decided[document.id] = self.facts(document)

        self.desk.database.write(step)

    @staticmethod
    def facts(document: Document) -> tuple[Any, ...]:
        return (
            document.nature,
            document.nature_reason,
            document.client_id,
            document.company_id,
            document.subscription_id,
        )

    @invariant()
    def a_subscription_is_its_holders_and_alone(self) -> None:
        if not hasattr(self, "ids"):
            return
        held, rows = self.holding(), self.rows()
        for contract_id, day in self.subscribed():
            (row,) = [r for r in rows if r.contract_id == contract_id and Span(r.from_day, r.to_day).holds(day)]
            assert held[contract_id, day] == row.client_id

    @invariant()
    def what_was_decided_stays(self) -> None:
        if not hasattr(self, "ids"):
            return
        rows = self.desk.database.read(
            lambda tx: tx.exec(select(Document).where(col(Document.contract_id).in_(self.ids))).all()
        )
        assert {row.id: self.facts(row) for row in rows} == self.decided

    def unchanged_before(self, day: dt.date, before: tuple[Days, Days]) -> None:
        for old, new in zip(before, (self.holding(), self.subscribed()), strict=True):
            assert {at: v for at, v in new.items() if at[1] < day} == {at: v for at, v in old.items() if at[1] < day}

    def rows(self) -> list[Subscription]:
        mine = select(Subscription).where(col(Subscription.contract_id).in_(self.ids))
        return self.desk.database.read(lambda tx: list(tx.exec(mine)))

    def subscribed(self) -> Days:
        return {
            (row.contract_id, day): row.id
            for row in self.rows()
            for day in DAYS
            if Span(row.from_day, row.to_day).holds(day)
        }

    def holding(self) -> Days:
        wanted = [(contract.number, day) for contract in self.contracts for day in DAYS]
        found = self.desk.database.read(lambda tx: holders.holders_on(tx, wanted))
        return {
            (holder.contract_id, day): holder.client_id
            for (_, day), holder in found.items()
            if isinstance(holder, holders.Holder)
        }

    def channel(self, contract_id: str, day: dt.date) -> str:
        return self.desk.database.read(
            lambda tx: subscriptions.original_channel_on(tx, [contract_id], day, "gateway")[contract_id]
        )


def test_bonds_and_subscriptions_never_contradict_each_other(desk: Desk) -> None:
    """No overlap, no subscription of someone who does not hold the contract, and no nature that changes."""
    machine = type("AtThisDesk", (Parties,), {"desk": desk})
    examples = 40 if desk.database.is_sqlite else 15
    run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
