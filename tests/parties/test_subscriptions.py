"""Subscriptions: item by item, never overlapping, decided by days; and where originals go."""

import datetime as dt
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from gateway import clock
from gateway.access import Actor, Role
from gateway.domain.parties import (
    Client,
    Contract,
    ContractHolding,
    ContractType,
    FutureSubscription,
    Subscription,
)
from gateway.errors import Conflict, Denied, NotFound, Refused
from gateway.parties import registry, subscriptions
from gateway.parties.coverage import Item
from tests.parties.conftest import TODAY, Desk, client_actor

DAY = dt.timedelta(days=1)
JULY, AUGUST, SEPTEMBER = (dt.date(2026, month, 1) for month in (7, 8, 9))


def _subscribe(
    desk: Desk,
    client: Client,
    contracts: list[str] | None,
    from_day: dt.date = TODAY,
    actor: Actor | None = None,
    **more: Any,
) -> list[Item]:
    options: dict[str, Any] = {"terms_version": "2026-1", "today": TODAY} | more
    return desk.do_as(
        actor or client_actor(client.id), subscriptions.subscribe, client.id, contracts, from_day, **options
    )


def _days(desk: Desk, contract: Contract) -> list[tuple[dt.date, dt.date | None]]:
    rows = select(Subscription).where(Subscription.contract_id == contract.id).order_by(col(Subscription.from_day))
    return [(row.from_day, row.to_day) for row in desk.read(lambda tx: tx.exec(rows).all())]


def test_a_client_subscribes_a_selection(desk: Desk) -> None:
    """DOMAIN rows 5 and 6: self-service, by number or id; who consented to which terms is kept."""
    client, (one, two, three) = desk.contracts(3)
    items = _subscribe(desk, client, [one.number, two.id, one.number])
    assert [(item.contract, item.outcome, item.from_day) for item in items] == [
        (one.number, "subscribed", TODAY),
        (two.number, "subscribed", TODAY),
    ]
    rows = desk.read(subscriptions.in_force, [one.id, two.id, three.id], TODAY)
    assert {row.id for row in rows.values()} == {item.subscription_id for item in items}
    row = rows[one.id]
    assert (row.created_by, row.terms_version, row.scope, row.client_id) == (
        "tok_client",
        "2026-1",
        "selection",
        client.id,
    )
    assert desk.read(subscriptions.in_force, [one.id], TODAY - DAY) == {}


def test_all_means_every_eligible_contract_now(desk: Desk) -> None:
    """Those of all its companies; one that is known to begin later from its first day; none of another client."""
    client, (first,) = desk.contracts(1)
    later = desk.contract(desk.company(client), "CARD_I", from_day=AUGUST)
    desk.contracts(2)
    items = {item.contract: item for item in _subscribe(desk, client, None)}
    assert {number: item.from_day for number, item in items.items()} == {first.number: TODAY, later.number: AUGUST}
    assert desk.read(subscriptions.in_force, [later.id], AUGUST)[later.id].scope == "all"


def test_an_ineligible_type_is_refused_with_its_reason_and_stops_no_other(desk: Desk) -> None:
    """DOMAIN row 14: a refusal with its reason, not an empty list."""
    client, (eligible,) = desk.contracts(1)
    other = desk.contract(desk.company(client), "Contrat unique")
    for contracts in ([other.number, eligible.number], None):
        items = {item.contract: item for item in _subscribe(desk, client, contracts)}
        refused = items[other.number]
        assert (refused.outcome, refused.code) == ("refused", "ineligible_type")
        assert all(word in refused.reason for word in ("Contrat unique", "CARD_S", "CARD_I"))
    assert eligible.id in desk.read(subscriptions.in_force, [eligible.id, other.id], TODAY)
    assert _days(desk, other) == []


def test_anothers_contract_is_refused_as_one_that_does_not_exist(desk: Desk) -> None:
    """Whoever tries numbers learns nothing, not even the type."""
    (client, _), (_, (foreign,)) = desk.contracts(1), desk.contracts(1)
    ineligible = desk.contract(desk.company(desk.client()), "TURPE")
    items = _subscribe(desk, client, ["NONE", foreign.number, ineligible.number])
    assert {(item.outcome, item.code, item.reason) for item in items} == {
        ("refused", "unknown_contract", items[0].reason)
    }
    assert _days(desk, foreign) == []


def test_repeating_changes_nothing(desk: Desk) -> None:
    """C2: neither rows nor ledger; the answer names what is in force."""
    client, contracts = desk.contracts(2)
    first = _subscribe(desk, client, None, include_future=True)
    before = (desk.events(), [_days(desk, contract) for contract in contracts])
    again = _subscribe(desk, client, None, JULY, include_future=True)
    assert [item.outcome for item in again] == ["already", "already"]
    assert [item.subscription_id for item in again] == [item.subscription_id for item in first]
    assert (desk.events(), [_days(desk, contract) for contract in contracts]) == before


def test_what_is_not_covered_yet_is_filled(desk: Desk) -> None:
    """Earlier, later and after an end: from the day asked for on, every day is subscribed, and none twice."""
    client, (contract,) = desk.contracts(1)
    (item,) = _subscribe(desk, client, [contract.id], AUGUST)
    (earlier,) = _subscribe(desk, client, [contract.id], JULY)
    assert (earlier.from_day, earlier.to_day) == (JULY, AUGUST - DAY)
    desk.do(subscriptions.end, [item.subscription_id or ""], AUGUST, today=TODAY)
    (after,) = _subscribe(desk, client, [contract.id], TODAY)
    assert after.outcome == "subscribed"
    assert _days(desk, contract) == [
        (TODAY, JULY - DAY),
        (JULY, AUGUST - DAY),
        (AUGUST, AUGUST),
        (AUGUST + DAY, None),
    ]


def test_a_client_begins_today_at_the_earliest(desk: Desk) -> None:
    """What was issued before stays a duplicate."""
    client, _ = desk.contracts(1)
    with pytest.raises(Refused) as refused:
        _subscribe(desk, client, None, TODAY - DAY, reason="please")
    assert refused.value.code == "day_past"


def test_an_operator_back_dates_with_a_reason(desk: Desk) -> None:
    """It is kept in the row and in the ledger; without one nothing happens."""
    client, (contract,) = desk.contracts(1)
    for reason in ("", "  "):
        with pytest.raises(Refused) as refused:
            _subscribe(desk, client, None, TODAY - 5 * DAY, desk.operator, reason=reason)
        assert refused.value.code == "reason_missing"
    (item,) = _subscribe(desk, client, None, TODAY - 5 * DAY, desk.operator, reason="form signed on the 10th")
    assert item.from_day == TODAY - 5 * DAY
    (row,) = desk.read(subscriptions.in_force, [contract.id], TODAY - 5 * DAY).values()
    assert row.reason == "form signed on the 10th"
    assert "form signed on the 10th" in desk.records()


def test_a_subscription_never_reaches_beyond_its_clients_days(desk: Desk) -> None:
    """A move that is entered already ends it, and back-dating stops at the day the contract came."""
    client, company = (client := desk.client()), desk.company(client, from_day=dt.date(2026, 3, 1))
    contract = desk.contract(company)
    desk.do(registry.move_contract, contract.id, desk.company(desk.client()).id, SEPTEMBER, today=TODAY)
    _subscribe(desk, client, None, dt.date(2026, 1, 1), desk.operator, reason="since January")
    assert _days(desk, contract) == [(dt.date(2026, 3, 1), SEPTEMBER - DAY)]
    assert _subscribe(desk, client, [contract.id], SEPTEMBER)[0].code == "unknown_contract"


def test_the_whole_call_is_refused_for_what_concerns_all_of_it(desk: Desk) -> None:
    """Terms, an unclear wish, an endless reason."""
    client, (contract,) = desk.contracts(1)
    for code, options in (
        ("terms_version", {"terms_version": ""}),
        ("terms_version", {"terms_version": "x" * 21}),
        ("include_future", {"include_future": True}),
        ("reason_length", {"reason": "x" * 501}),
    ):
        with pytest.raises(Refused) as refused:
            _subscribe(desk, client, [contract.id], **options)
        assert refused.value.code == code
    assert _days(desk, contract) == []


def test_who_may_not_subscribe(desk: Desk) -> None:
    """A viewer is told so; another client learns nothing."""
    (client, _), (other, _) = desk.contracts(1), desk.contracts(1)
    with pytest.raises(Denied):
        _subscribe(desk, client, None, actor=Actor("tok_v", "operator", None, Role.VIEWER))
    with pytest.raises(NotFound):
        _subscribe(desk, client, None, actor=client_actor(other.id))


def test_an_end_is_the_last_day_in_force(desk: Desk) -> None:
    """Item by item; what ends before stays; what had not begun never does; the rest of the list goes on."""
    client, (one, two) = desk.contracts(2)
    first, second = _subscribe(desk, client, [one.id]) + _subscribe(desk, client, [two.id], AUGUST)
    ids = [first.subscription_id or "", second.subscription_id or "", "sub_unknown"]
    own = client_actor(client.id)
    items = desk.do_as(own, subscriptions.end, ids, JULY, today=TODAY)
    assert [(item.outcome, item.code) for item in items] == [
        ("ended", ""),
        ("ended", ""),
        ("refused", "unknown_subscription"),
    ]
    assert set(desk.read(subscriptions.in_force, [one.id, two.id], JULY)) == {one.id}
    assert desk.read(subscriptions.in_force, [one.id, two.id], JULY + DAY) == {}
    assert desk.read(subscriptions.in_force, [one.id, two.id], SEPTEMBER) == {}
    before = desk.events()
    for day in (JULY, AUGUST):
        again = desk.do_as(own, subscriptions.end, ids[:2], day, today=TODAY)
        assert [item.outcome for item in again] == ["already", "already"]
    assert desk.events() == before


def test_an_end_in_the_past_is_an_operators_and_has_a_reason(desk: Desk) -> None:
    """As a beginning in the past."""
    client, (contract,) = desk.contracts(1)
    (item,) = _subscribe(desk, client, None, TODAY - 9 * DAY, desk.operator, reason="r")
    ids = [item.subscription_id or ""]
    with pytest.raises(Refused):
        desk.do_as(client_actor(client.id), subscriptions.end, ids, TODAY - DAY, today=TODAY, reason="r")
    with pytest.raises(Refused):
        desk.do(subscriptions.end, ids, TODAY - DAY, today=TODAY)
    desk.do(subscriptions.end, ids, TODAY - DAY, today=TODAY, reason="the client called on the 14th")
    assert desk.read(subscriptions.in_force, [contract.id], TODAY) == {}


def test_anothers_subscription_is_one_that_does_not_exist(desk: Desk) -> None:
    """Not ended, and not confirmed to be there."""
    (client, (contract,)), (other, _) = desk.contracts(1), desk.contracts(1)
    (item,) = _subscribe(desk, client, None)
    (answer,) = desk.do_as(client_actor(other.id), subscriptions.end, [item.subscription_id or ""], TODAY, today=TODAY)
    assert (answer.outcome, answer.code) == ("refused", "unknown_subscription")
    assert _days(desk, contract) == [(TODAY, None)]


def test_later_contracts_can_be_left_out_again(desk: Desk) -> None:
    """What was subscribed by it stays; what comes after that day is not."""
    client, _ = desk.contracts(1)
    _subscribe(desk, client, None, include_future=True)
    company = desk.company(client)
    kept = desk.contract(company)
    desk.do_as(client_actor(client.id), subscriptions.end_including, client.id, TODAY, today=TODAY)
    later = desk.contract(company, from_day=TODAY + DAY)
    assert set(desk.read(subscriptions.in_force, [kept.id, later.id], AUGUST)) == {kept.id}
    before = desk.events()
    desk.do_as(client_actor(client.id), subscriptions.end_including, client.id, TODAY, today=TODAY)
    assert desk.events() == before
    _subscribe(desk, client, None, AUGUST, include_future=True)
    rows = desk.read(lambda tx: tx.exec(select(FutureSubscription).order_by(col(FutureSubscription.from_day))).all())
    assert [(row.from_day, row.to_day) for row in rows] == [(TODAY, TODAY), (AUGUST, None)]
    assert later.id in desk.read(subscriptions.in_force, [later.id], AUGUST), "all, again: it is there now"


def test_at_once_no_two_periods_overlap(desk: Desk) -> None:
    """Two requests of one client, on two gateways: the second sees what the first made."""
    client, contracts = desk.contracts(3)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: _subscribe(desk, client, None, TODAY + number * DAY), [3, 0, 2, 1] * 2))
    assert all(item.outcome in ("subscribed", "already") for items in answers for item in items)
    for contract in contracts:
        days = _days(desk, contract)
        for (_, last), (first, _) in itertools.pairwise(days):
            assert last is not None
            assert last < first


def test_five_thousand_contracts_are_subscribed_in_a_moment_and_one_transaction(desk: Desk) -> None:
    """`subscribe all` is one click: at most 2 s on an idle machine, so 10 s here; and few statements."""
    client = desk.client()
    company, at = desk.company(client), clock.now()
    rows = [{"id": clock.new_id("con"), "number": f"N{n}"} for n in range(5000)]
    kinds = {"type": ContractType.CARD_S, "type_name": "", "created_at": at, "version": 1}
    bonds = [
        {
            "id": clock.new_id("ohd"),
            "contract_id": row["id"],
            "company_id": company.id,
            "from_day": TODAY,
            "to_day": None,
        }
        for row in rows
    ]

    def enter(tx: Any) -> None:
        tx.execute(sa.insert(Contract), [row | kinds for row in rows])
        tx.execute(sa.insert(ContractHolding), bonds)

    desk.database.write(enter)
    statements: list[str] = []
    sa.event.listen(desk.database.engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
    began = time.perf_counter()
    items = _subscribe(desk, client, None)
    assert time.perf_counter() - began < 10
    assert [item.outcome for item in items] == ["subscribed"] * 5000
    assert len(statements) < 60
    assert desk.events().count("subscription.started") == 5000


def _channel(desk: Desk, contract: Contract, day: dt.date) -> str:
    return desk.read(subscriptions.original_channel_on, [contract.id], day, "gateway")[contract.id]


def test_originals_go_where_was_said_for_the_day_else_where_the_setting_says(desk: Desk) -> None:
    """Since 2026-09-01 through a platform, for one contract after the other."""
    _, (one, two) = desk.contracts(2)
    desk.do(subscriptions.set_original_channel, one.id, "platform", SEPTEMBER)
    assert (_channel(desk, one, SEPTEMBER - DAY), _channel(desk, one, SEPTEMBER)) == ("gateway", "platform")
    answer = desk.read(subscriptions.original_channel_on, [one.id, two.id], SEPTEMBER, "platform")
    assert answer == {one.id: "platform", two.id: "platform"}
    desk.do(subscriptions.set_original_channel, one.id, "gateway", SEPTEMBER + 30 * DAY)
    assert (_channel(desk, one, SEPTEMBER + 29 * DAY), _channel(desk, one, SEPTEMBER + 30 * DAY)) == (
        "platform",
        "gateway",
    )


def test_the_same_channel_again_changes_nothing_and_a_later_change_is_kept(desk: Desk) -> None:
    """As with moves: a later change is dropped only by someone who says so."""
    _, (contract,) = desk.contracts(1)
    desk.do(subscriptions.set_original_channel, contract.id, "platform", SEPTEMBER)
    before = desk.events()
    desk.do(subscriptions.set_original_channel, contract.id, "platform", SEPTEMBER + DAY)
    assert desk.events() == before
    with pytest.raises(Conflict):
        desk.do(subscriptions.set_original_channel, contract.id, "platform", AUGUST)
    desk.do(subscriptions.set_original_channel, contract.id, "platform", AUGUST, drop_later=True)
    desk.do(subscriptions.set_original_channel, contract.id, "gateway", AUGUST)
    assert [_channel(desk, contract, day) for day in (JULY, AUGUST, SEPTEMBER)] == ["gateway"] * 3


def test_the_channel_is_an_operators_to_set_and_one_of_two(desk: Desk) -> None:
    """It decides what is called an original."""
    client, (contract,) = desk.contracts(1)
    with pytest.raises(Denied):
        desk.do_as(client_actor(client.id), subscriptions.set_original_channel, contract.id, "gateway", TODAY)
    with pytest.raises(Refused):
        desk.do(subscriptions.set_original_channel, contract.id, "post", TODAY)
    with pytest.raises(NotFound):
        desk.do(subscriptions.set_original_channel, "con_x", "gateway", TODAY)
