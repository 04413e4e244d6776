"""Finding parties as people type them, page by page, and never another's."""

import itertools

import pytest

from gateway.domain.parties import search_key
from gateway.errors import NotFound
from gateway.parties import registry, search
from tests.parties.conftest import Desk, client_actor


def _companies(desk: Desk) -> None:
    client = desk.client("Groupe")
    for siren, name in (
        ("534010764", "APURON PV 2"),
        ("404833048", "Énergie d'Été"),
        ("552100554", "Centrale 534"),
        ("DE123456789", "Straße & Söhne"),
    ):
        desk.do(registry.create_company, siren, name, client.id)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("apuron", ["APURON PV 2"]),
        ("534 010 764", ["APURON PV 2"]),
        ("5340", ["APURON PV 2"]),
        ("534", ["APURON PV 2", "Centrale 534"]),
        ("ENERGIE D'ETE", ["Énergie d'Été"]),
        ("été", ["Énergie d'Été"]),
        ("strasse", ["Straße & Söhne"]),
        ("de123", ["Straße & Söhne"]),
        ("010764", []),  # a SIREN is known by its first digits
        ("%", []),
        ("_", []),
        ("", ["APURON PV 2", "Énergie d'Été", "Centrale 534", "Straße & Söhne"]),
        ("  ", ["APURON PV 2", "Énergie d'Été", "Centrale 534", "Straße & Söhne"]),
    ],
)
def test_a_company_is_found_by_its_first_digits_or_a_part_of_its_name(desk: Desk, typed: str, found: list[str]) -> None:
    """C1: "apuron" = "534 010 764", without case, accents or care for blanks; a wildcard is a letter like others."""
    _companies(desk)
    assert [company.name for company in desk.do(search.list_companies, typed)] == found


def test_pages_follow_each_other_without_gap_or_repeat(desk: Desk) -> None:
    """By key, so that page one thousand costs what page one does."""
    made = [desk.client(f"Client {number:02d}").id for number in range(7)]
    pages: list[list[str]] = []
    after = ""
    while page := desk.do(search.list_clients, "client", 3, after):
        pages.append([client.id for client in page])
        after = page[-1].id
    assert [len(page) for page in pages] == [3, 3, 1]
    assert list(itertools.chain(*pages)) == made


@pytest.mark.parametrize("limit", [-1, 0, 10**9])
def test_a_page_has_at_least_one_row_and_never_too_many(desk: Desk, limit: int) -> None:
    """A limit comes from outside."""
    desk.client()
    assert len(desk.do(search.list_clients, "", limit)) == 1


def test_a_clients_actor_finds_what_its_client_holds_and_nothing_else(desk: Desk) -> None:
    """The answer for what is not yours is the answer for what does not exist."""
    (mine, (own,)), (other, (foreign,)) = desk.contracts(1), desk.contracts(1)
    actor = client_actor(mine.id)
    assert [row.id for row in desk.do_as(actor, search.list_clients)] == [mine.id]
    assert [row.id for row in desk.do_as(actor, search.list_contracts)] == [own.id]
    assert len(desk.do_as(actor, search.list_companies)) == 1
    assert desk.do_as(actor, search.list_contracts, client_id=other.id) == []
    assert desk.do_as(actor, search.list_companies, client_id=other.id) == []
    assert desk.do_as(actor, search.get_contract, own.id).number == own.number
    (company,) = desk.do(search.list_companies, client_id=other.id)
    for call, id_ in (
        (search.get_client, other.id),
        (search.get_contract, foreign.id),
        (search.get_company, company.id),
    ):
        with pytest.raises(NotFound) as theirs:
            desk.do_as(actor, call, id_)
        with pytest.raises(NotFound) as none:
            desk.do_as(actor, call, "xxx_unknown")
        assert (theirs.value.message, theirs.value.code) == (none.value.message, none.value.code)


def test_an_operator_narrows_to_a_client_or_a_company(desk: Desk) -> None:
    """What the selector of the portal, and the API's filters, ask."""
    client, (first,) = desk.contracts(1)
    second = desk.contract(desk.company(client))
    desk.contracts(1)
    assert {row.id for row in desk.do(search.list_contracts, client_id=client.id)} == {first.id, second.id}
    (company, _) = desk.do(search.list_companies, client_id=client.id)
    assert [row.id for row in desk.do(search.list_contracts, company_id=company.id)] == [first.id]
    assert [row.id for row in desk.do(search.list_contracts, first.number.lower())] == [first.id]


def test_the_key_of_a_name_forgets_case_accents_and_blanks() -> None:
    """And nothing else: other letters stay."""
    assert search_key("  Société\u00a0  GÉNÉRALE ") == search_key("societe generale")
    assert search_key("Straße") == "strasse"
    assert search_key("Ångström") != search_key("Engstrom")
    assert len(search_key("ﷺ" * 200)) == 200
