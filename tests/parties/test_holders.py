"""Who held a contract on a day, for one document and for a batch."""

import datetime as dt

import pytest
import sqlalchemy as sa

from gateway.errors import Refused
from gateway.parties import holders, registry
from tests.parties.conftest import TODAY, Desk

AUGUST = dt.date(2026, 8, 1)
JULY_31 = dt.date(2026, 7, 31)


def test_the_holder_is_the_contracts_company_and_that_companys_client(desk: Desk) -> None:
    """On the first and the last day of a bond as well."""
    client, other = desk.client(), desk.client()
    company = desk.company(client, from_day=dt.date(2026, 1, 1))
    contract = desk.contract(company, from_day=dt.date(2025, 1, 1))
    desk.do(registry.move_company, company.id, other.id, AUGUST, today=TODAY)
    for day, expected in ((dt.date(2026, 1, 1), client), (JULY_31, client), (AUGUST, other), (dt.date.max, other)):
        holder = desk.read(holders.holder_on, contract.number, day)
        assert (holder.contract_id, holder.company_id, holder.siren) == (contract.id, company.id, company.siren)
        assert (holder.client_id, holder.type, holder.number) == (expected.id, contract.type, contract.number)


def test_a_contract_that_is_not_known_or_held_is_refused_with_its_own_code(desk: Desk) -> None:
    """The billing system must know whether to correct the number or to enter the party."""
    contract = desk.contract(desk.company(desk.client(), from_day=AUGUST), from_day=TODAY)
    for number, day, code in (
        ("NONE", AUGUST, "unknown_contract"),
        (contract.number, JULY_31, "contract_without_holder"),
        (contract.number, dt.date(2020, 1, 1), "contract_without_holder"),
    ):
        with pytest.raises(Refused, match=number) as refused:
            desk.read(holders.holder_on, number, day)
        assert refused.value.code == code


def test_a_batch_answers_each_as_if_asked_alone(desk: Desk) -> None:
    """The intake's hot path decides for many documents what it decides for one."""
    client, other = desk.client(), desk.client()
    company = desk.company(client, from_day=dt.date(2026, 1, 1))
    contracts = [desk.contract(company) for _ in range(3)]
    desk.do(registry.move_contract, contracts[0].id, desk.company(other).id, AUGUST, today=TODAY)
    days = [dt.date(2025, 12, 31), dt.date(2026, 1, 1), JULY_31, AUGUST]
    wanted = [(number, day) for number in (*(c.number for c in contracts), "NONE") for day in days]
    found = desk.read(holders.holders_on, wanted)
    assert set(found) == set(wanted)
    for (number, day), answer in found.items():
        if isinstance(answer, Refused):
            with pytest.raises(Refused) as alone:
                desk.read(holders.holder_on, number, day)
            assert (alone.value.code, alone.value.message) == (answer.code, answer.message)
        else:
            assert desk.read(holders.holder_on, number, day) == answer
    assert desk.read(holders.holders_on, []) == {}


def test_a_batch_takes_one_statement(desk: Desk) -> None:
    """However many documents: a statement for each would set the pipeline's pace."""
    _, contracts = desk.contracts(5)
    statements: list[str] = []
    listen = (desk.database.engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
    sa.event.listen(*listen)
    try:
        desk.read(holders.holders_on, [(contract.number, TODAY) for contract in contracts])
    finally:
        sa.event.remove(*listen)
    statements = [statement for statement in statements if statement != "BEGIN"]
    assert len(statements) == 1
    assert statements[0].startswith("SELECT contract")


def test_a_buyer_is_the_holders_company_in_any_of_its_numbers(desk: Desk) -> None:
    """A SIRET or a French VAT number names the same company as its SIREN."""
    company = desk.do(registry.create_company, "404833048", "Ferme", desk.client().id)
    holder = desk.read(holders.holder_on, desk.contract(company).number, TODAY)
    for buyer in ("404833048", "404 833 048", "40483304800022", "FR83404833048"):
        holders.check_buyer(holder, buyer)


def test_another_companys_contract_is_refused_without_naming_it(desk: Desk) -> None:
    """Whose the contract is must not leak to whoever tries numbers."""
    client = desk.client("Very Secret Client")
    company = desk.do(registry.create_company, "404833048", "Very Secret Company", client.id)
    holder = desk.read(holders.holder_on, desk.contract(company).number, TODAY)
    with pytest.raises(Refused) as refused:
        holders.check_buyer(holder, "552100554")
    assert refused.value.code == "other_company"
    told = f"{refused.value.message} {refused.value.facts}"
    assert not any(secret in told for secret in ("Secret", "404833048", client.id, company.id))


def test_tenures_join_bonds_that_follow_each_other(desk: Desk) -> None:
    """A client that moves a contract between its companies holds it without a break."""
    client, other = desk.client(), desk.client()
    one, two, three = desk.company(client), desk.company(client), desk.company(other)
    contract = desk.contract(one, from_day=dt.date(2026, 1, 1))
    desk.do(registry.move_contract, contract.id, two.id, TODAY, today=TODAY)
    desk.do(registry.move_contract, contract.id, three.id, AUGUST, today=TODAY)
    first, second = desk.read(holders.tenures, [contract.id])[contract.id]
    assert (first.client_id, *first.span) == (client.id, dt.date(2026, 1, 1), JULY_31)
    assert (second.client_id, *second.span) == (other.id, AUGUST, None)


def test_the_contracts_of_a_client_are_those_it_ever_held(desk: Desk) -> None:
    """Not those that its company had before it came, or got after it left."""
    old, new = desk.client(), desk.client()
    company = desk.company(old)
    before, both = desk.contract(company), desk.contract(company)
    elsewhere = desk.company(desk.client())
    desk.do(registry.move_contract, before.id, elsewhere.id, TODAY, today=TODAY)
    desk.do(registry.move_company, company.id, new.id, AUGUST, today=TODAY)
    after = desk.contract(company, from_day=AUGUST)

    def of(client_id: str) -> set[str]:
        return set(desk.read(lambda tx: tx.execute(holders.contracts_of(client_id)).scalars().all()))

    assert of(old.id) == {before.id, both.id}
    assert of(new.id) == {both.id, after.id}
