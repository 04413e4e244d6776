"""Clients, companies and contracts: made once, renamed in turn, moved with dates."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlmodel import select

from gateway.domain.folders import Folder, ReceiptMode
from gateway.domain.parties import Client, Company, Contract, ContractType, Language, search_key
from gateway.errors import Conflict, Denied, NotFound, Refused
from gateway.parties import holders, registry, search, subscriptions
from tests.parties.conftest import TODAY, Desk, client_actor

JULY, AUGUST, SEPTEMBER = (dt.date(2026, month, 1) for month in (7, 8, 9))


def test_a_client_comes_with_a_drop_folder(desk: Desk) -> None:
    """It can log in as soon as a key is added; PDFs, received by delete, all contracts."""
    client = desk.do(registry.create_client, "Énergies & Cie", "en")
    (folder,) = desk.read(lambda tx: tx.exec(select(Folder).where(Folder.client_id == client.id)).all())
    assert (client.language, folder.user_name) == (Language.EN, "energies-cie")
    assert (folder.formats, folder.receipt_mode, folder.all_contracts) == (["pdf"], ReceiptMode.DELETE, True)
    assert desk.events() == ["client.created", "folder.created"]


def test_the_same_again_is_the_same_row(desk: Desk) -> None:
    """A request repeated after a lost answer makes nothing twice, in rows or in the ledger."""
    client = desk.client("Acme")
    company = desk.do(registry.create_company, "404 833 048", "Ferme Sud", client.id)
    contract = desk.do(
        registry.create_contract, "A/1", "CARD-S", company.siren, today=TODAY, original_channel="platform"
    )
    before = desk.events()
    assert desk.do(registry.create_client, " Acme ").id == client.id
    assert desk.do(registry.create_client, "Acme", user_name="acme").id == client.id
    assert desk.do(registry.create_company, "404833048", "Ferme Sud", client.id).id == company.id
    again = desk.do(registry.create_contract, "A/1", "card_s", company.siren, today=TODAY, original_channel="platform")
    assert again.id == contract.id
    assert desk.do(registry.create_contract, "A/1", "CARD_S", company.siren, today=TODAY).id == contract.id
    assert desk.events() == before


def test_the_same_with_other_facts_is_a_conflict_that_says_what_there_is(desk: Desk) -> None:
    """An operator must see that the number is taken, and by what, instead of a silent other row."""
    client, other = desk.client("Acme"), desk.client("Other")
    company = desk.do(registry.create_company, "404833048", "Ferme Sud", client.id)
    desk.do(registry.create_contract, "A1", "CARD_S", company.siren, today=TODAY)
    with pytest.raises(Conflict, match="Acme") as conflict:
        desk.do(registry.create_client, "ACME")
    assert conflict.value.code == "client_exists"
    with pytest.raises(Conflict, match="language fr"):
        desk.do(registry.create_client, "Acme", "en")
    with pytest.raises(Conflict):
        desk.do(registry.create_client, "Acme", user_name="another")
    with pytest.raises(Conflict, match="Ferme Sud"):
        desk.do(registry.create_company, "404833048", "Ferme Nord", client.id)
    with pytest.raises(Conflict, match=client.id):
        desk.do(registry.create_company, "404833048", "Ferme Sud", other.id)
    since = registry.FIRST_DAY
    for type_, day, channel in (("CARD_I", since, None), ("CARD_S", JULY, None), ("CARD_S", since, "platform")):
        with pytest.raises(Conflict, match="CARD_S, of company 404833048"):
            desk.do(registry.create_contract, "A1", type_, "404833048", day, today=TODAY, original_channel=channel)


@pytest.mark.parametrize(
    ("word", "kind", "kept"),
    [
        ("CARD_S", ContractType.CARD_S, ""),
        ("card-s", ContractType.CARD_S, ""),
        (" CARD-I ", ContractType.CARD_I, ""),
        ("OTHER", ContractType.OTHER, "OTHER"),
        ("Contrat  unique", ContractType.OTHER, "Contrat unique"),
        ("CARDS", ContractType.OTHER, "CARDS"),
    ],
)
def test_two_types_are_known_and_any_other_word_is_kept(word: str, kind: ContractType, kept: str) -> None:
    """DOMAIN row 14: the other types exist; their refusal names them as the issuer does."""
    assert registry.contract_type(word) == (kind, kept)


@pytest.mark.parametrize("word", ["", "  ", "x" * 41, "A\x00B"])
def test_a_type_is_a_word(word: str) -> None:
    """It is shown in refusals and lists."""
    with pytest.raises(Refused):
        registry.contract_type(word)


def test_what_cannot_be_is_refused_before_anything_is_made(desk: Desk) -> None:
    """Each with its own code; nothing is left half."""
    client = desk.client()
    before = desk.events()
    refusals = {
        "siren_check": lambda: desk.do(registry.create_company, "404833049", "X", client.id),
        "name_format": lambda: desk.do(registry.create_company, "404833048", "X\x07", client.id),
        "contract_format": lambda: desk.do(registry.create_contract, "A 1", "CARD_S", "404833048", today=TODAY),
        "unknown_company": lambda: desk.do(registry.create_contract, "A1", "CARD_S", "404833048", today=TODAY),
        "language": lambda: desk.do(registry.create_client, "New", "de"),
        "user_name_format": lambda: desk.do(registry.create_client, "New", "fr", "a b"),
    }
    for code, refused in refusals.items():
        with pytest.raises(Refused) as error:
            refused()
        assert error.value.code == code
    with pytest.raises(NotFound):
        desk.do(registry.create_company, "404833048", "X", "cli_unknown")
    assert desk.events() == before
    assert [c.name for c in desk.do(search.list_clients)] == [client.name]


def test_only_an_operator_changes_the_registry(desk: Desk) -> None:
    """A client's token reaches its subscriptions, settings and keys, not who it is."""
    client = desk.client()
    own = client_actor(client.id)
    with pytest.raises(Denied):
        desk.do_as(own, registry.create_client, "Mine")
    with pytest.raises(Denied):
        desk.do_as(own, registry.create_company, "404833048", "Mine", client.id)
    with pytest.raises(Denied):
        desk.do_as(own, registry.create_contract, "A1", "CARD_S", "404833048", today=TODAY)
    with pytest.raises(Denied):
        desk.do_as(own, registry.update_client, client.id, client.version, name="Mine")


def test_a_log_in_name_is_given_once_whatever_its_case(desk: Desk) -> None:
    """Two names that differ in case only would be mistaken for each other by people."""
    desk.do(registry.create_client, "Acme")
    desk.do(registry.create_client, "Acme!")
    desk.do(registry.create_client, "株式会社", user_name="Kabushiki")
    with pytest.raises(Conflict) as conflict:
        desk.do(registry.create_client, "Kabu", user_name="kabushiki")
    assert conflict.value.code == "user_name_taken"
    desk.do(registry.create_client, "株式会社 2")
    names = desk.read(lambda tx: tx.exec(select(Folder.user_name)).all())
    assert sorted(names) == ["Kabushiki", "acme", "acme-2", "client-2"]


def test_at_once_the_same_client_is_made_once(desk: Desk) -> None:
    """Two gateways, two requests: the second sees the first's row instead of an error."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: desk.client("Acme").id, range(8)))
        companies = list(
            pool.map(lambda _: desk.do(registry.create_company, "404833048", "Ferme", made[0]).id, range(8))
        )
        contracts = list(
            pool.map(lambda _: desk.do(registry.create_contract, "A1", "CARD_S", "404833048", today=TODAY).id, range(8))
        )
    assert [len(set(ids)) for ids in (made, companies, contracts)] == [1, 1, 1]


def test_a_stale_version_changes_nothing(desk: Desk) -> None:
    """Two people edit one client: the second is told to read again instead of undoing the first."""
    client = desk.client("Acme")
    changed = desk.do(registry.update_client, client.id, 1, name="Acme Énergie", language="en")
    assert (changed.version, changed.language) == (2, "en")
    with pytest.raises(Conflict) as conflict:
        desk.do(registry.update_client, client.id, 1, name="Other")
    assert conflict.value.code == "stale"
    assert desk.do(registry.update_client, client.id, 2, name="Acme Énergie").version == 2, "nothing new: no change"
    company = desk.company(client)
    assert desk.do(registry.rename_company, company.id, 1, "New").version == 2
    with pytest.raises(Conflict):
        desk.do(registry.rename_company, company.id, 1, "Newer")
    assert desk.events(company.id) == ["company.created", "company.renamed"]


def test_a_client_cannot_take_anothers_name(desk: Desk) -> None:
    """Lists and mails would no longer tell them apart."""
    desk.client("Acme")
    client = desk.client("Other")
    with pytest.raises(Conflict) as conflict:
        desk.do(registry.update_client, client.id, 1, name="ÀCME")
    assert conflict.value.code == "client_exists"


def test_names_stand_in_the_evidence_by_id_only(desk: Desk) -> None:
    """A sole trader's name is personal: erasing it must break no record."""
    client = desk.client("Madame Sans-Gêne")
    company = desk.do(registry.create_company, "404833048", "Boulangerie Sans-Gêne", client.id)
    desk.do(registry.rename_company, company.id, 1, "Pâtisserie Sans-Gêne")
    desk.do(registry.update_client, client.id, 1, name="Monsieur Sans-Gêne")
    assert "Sans-G" not in desk.records()


def _holder(desk: Desk, contract: Contract, day: dt.date) -> tuple[str, str]:
    holder = desk.read(holders.holder_on, contract.number, day)
    return holder.client_id, holder.company_id


def test_a_moved_company_is_the_old_clients_until_the_day_before(desk: Desk) -> None:
    """A document belongs to the holder on its issue date."""
    old, new = desk.client(), desk.client()
    company = desk.company(old)
    contract = desk.contract(company)
    desk.do(registry.move_company, company.id, new.id, AUGUST, today=TODAY)
    assert _holder(desk, contract, AUGUST - dt.timedelta(days=1)) == (old.id, company.id)
    assert _holder(desk, contract, AUGUST) == (new.id, company.id)
    before = desk.events()
    desk.do(registry.move_company, company.id, new.id, SEPTEMBER, today=TODAY)
    assert desk.events() == before, "it is there already"


def test_a_moved_contract_is_the_old_companys_until_the_day_before(desk: Desk) -> None:
    """The same for a contract; other contracts of the company stay."""
    client, other = desk.client(), desk.client()
    one, two = desk.company(client), desk.company(other)
    contract, stays = desk.contract(one), desk.contract(one)
    desk.do(registry.move_contract, contract.id, two.id, AUGUST, today=TODAY)
    assert _holder(desk, contract, AUGUST - dt.timedelta(days=1)) == (client.id, one.id)
    assert _holder(desk, contract, AUGUST) == (other.id, two.id)
    assert _holder(desk, stays, AUGUST) == (client.id, one.id)


def test_a_later_move_is_not_lost_silently(desk: Desk) -> None:
    """It is dropped only by someone who says so; on its own day it is corrected."""
    clients = [desk.client() for _ in range(3)]
    company = desk.company(clients[0])
    contract = desk.contract(company)
    desk.do(registry.move_company, company.id, clients[1].id, SEPTEMBER, today=TODAY)
    with pytest.raises(Conflict, match="2026-09-01") as conflict:
        desk.do(registry.move_company, company.id, clients[2].id, AUGUST, today=TODAY)
    assert conflict.value.code == "later_change"
    desk.do(registry.move_company, company.id, clients[2].id, SEPTEMBER, today=TODAY)
    assert _holder(desk, contract, SEPTEMBER)[0] == clients[2].id
    desk.do(registry.move_company, company.id, clients[1].id, AUGUST, today=TODAY, drop_later=True)
    assert _holder(desk, contract, SEPTEMBER)[0] == clients[1].id
    assert _holder(desk, contract, JULY)[0] == clients[0].id
    assert clients[2].id in desk.records(), "what was replaced is told"


def test_a_move_ends_the_old_clients_subscription(desk: Desk) -> None:
    """The new client agreed to nothing: its documents are duplicates until it subscribes."""
    (old, (contract, kept)), new = desk.contracts(2), desk.client()
    company = desk.company(new)
    begun = desk.do(
        subscriptions.subscribe, old.id, [contract.number, kept.number], TODAY, terms_version="1", today=TODAY
    )
    desk.do(registry.move_contract, contract.id, company.id, AUGUST, today=TODAY)
    ids = [contract.id, kept.id]
    last_day = AUGUST - dt.timedelta(days=1)
    assert set(desk.read(subscriptions.in_force, ids, last_day)) == set(ids)
    assert set(desk.read(subscriptions.in_force, ids, AUGUST)) == {kept.id}
    assert desk.events(begun[0].subscription_id or "") == ["subscription.started", "subscription.ended"]


def test_a_subscription_that_would_begin_after_the_move_never_does(desk: Desk) -> None:
    """It was the old client's wish for days on which the contract is another's."""
    (old, (contract,)), new = desk.contracts(1), desk.client()
    desk.do(subscriptions.subscribe, old.id, None, SEPTEMBER, terms_version="1", today=TODAY)
    desk.do(registry.move_contract, contract.id, desk.company(new).id, AUGUST, today=TODAY)
    assert desk.read(subscriptions.in_force, [contract.id], SEPTEMBER) == {}


def test_a_move_within_one_client_leaves_its_subscriptions(desk: Desk) -> None:
    """The client holds the contract without a break, only through another of its companies."""
    client, (contract,) = desk.contracts(1)
    desk.do(subscriptions.subscribe, client.id, None, TODAY, terms_version="1", today=TODAY)
    desk.do(registry.move_contract, contract.id, desk.company(client).id, AUGUST, today=TODAY)
    assert contract.id in desk.read(subscriptions.in_force, [contract.id], SEPTEMBER)
    assert desk.events().count("subscription.ended") == 0


def test_later_contracts_are_subscribed_from_their_first_day_if_the_client_said_so(desk: Desk) -> None:
    """`include_future`: whether the contract is new, moved, or comes with its company; never before today."""
    (client, _), other = desk.contracts(1), desk.client()
    theirs = desk.company(other)
    moving, coming = desk.contract(theirs), desk.contract(company := desk.company(other))
    desk.do(subscriptions.subscribe, client.id, None, TODAY, terms_version="1", today=TODAY, include_future=True)
    mine = desk.company(client)
    old = desk.contract(mine)  # since ever: from today on
    young = desk.contract(mine, "CARD-I", from_day=AUGUST)
    ineligible = desk.contract(mine, "TURPE")
    desk.do(registry.move_contract, moving.id, mine.id, AUGUST, today=TODAY)
    desk.do(registry.move_company, company.id, client.id, AUGUST, today=TODAY)
    ids = [contract.id for contract in (old, young, moving, coming, ineligible)]
    before = TODAY - dt.timedelta(days=1)
    assert desk.read(subscriptions.in_force, ids, before) == {}
    assert set(desk.read(subscriptions.in_force, ids, TODAY)) == {old.id}
    assert set(desk.read(subscriptions.in_force, ids, AUGUST)) == {old.id, young.id, moving.id, coming.id}


def test_later_contracts_are_not_subscribed_unasked(desk: Desk) -> None:
    """DOMAIN row 6: false by default."""
    client, (first,) = desk.contracts(1)
    desk.do(subscriptions.subscribe, client.id, None, TODAY, terms_version="1", today=TODAY)
    later = desk.contract(desk.company(client))
    assert set(desk.read(subscriptions.in_force, [first.id, later.id], TODAY)) == {first.id}


def test_a_contract_that_a_client_ended_is_not_subscribed_again_by_a_move_within_it(desk: Desk) -> None:
    """`include_future` is for contracts that come, not for those that were there."""
    client, (contract,) = desk.contracts(1)
    (item,) = desk.do(
        subscriptions.subscribe, client.id, None, TODAY, terms_version="1", today=TODAY, include_future=True
    )
    desk.do(subscriptions.end, [item.subscription_id or ""], TODAY, today=TODAY)
    desk.do(registry.move_contract, contract.id, desk.company(client).id, AUGUST, today=TODAY)
    assert desk.read(subscriptions.in_force, [contract.id], AUGUST) == {}


def test_moves_of_what_does_not_exist(desk: Desk) -> None:
    """NotFound, whichever part is missing."""
    client = desk.client()
    company = desk.company(client)
    with pytest.raises(NotFound):
        desk.do(registry.move_company, "com_x", client.id, TODAY, today=TODAY)
    with pytest.raises(NotFound):
        desk.do(registry.move_company, company.id, "cli_x", TODAY, today=TODAY)
    with pytest.raises(NotFound):
        desk.do(registry.move_contract, "con_x", company.id, TODAY, today=TODAY)


def test_rows_keep_the_key_they_are_found_by(desk: Desk) -> None:
    """`name_key` follows the name, or a renamed company is found by its old name only."""
    client = desk.client("Acme")
    company = desk.company(client)
    desk.do(registry.update_client, client.id, 1, name="Zoé")
    desk.do(registry.rename_company, company.id, 1, "Noël")
    found = desk.read(lambda tx: (tx.get(Client, client.id), tx.get(Company, company.id)))
    assert [row.name_key for row in found if row] == [search_key("Zoé"), search_key("Noël")]
