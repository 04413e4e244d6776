"""How documents reach a client: chosen with dates, narrowest first, over confirmed addresses only."""

import datetime as dt
from typing import Any

import pytest
from sqlmodel import select

from gateway.domain.folders import Folder, FolderContract, ReceiptMode
from gateway.domain.parties import Client, DeliverySettings, Mailbox
from gateway.errors import Conflict, Denied, NotFound, Refused
from gateway.parties import folders, search, settings
from gateway.parties.settings import ByEmail, ByFolder
from tests.parties.conftest import TODAY, Desk, client_actor

NINE = dt.datetime(2026, 6, 15, 9, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
NO_MAIL, NO_FOLDER = ByEmail(), ByFolder()
FOLDER = ByFolder(enabled=True)


def _mail(*addresses: str) -> ByEmail:
    return ByEmail(enabled=True, addresses=addresses)


def _set(
    desk: Desk,
    client: Client,
    email: ByEmail = NO_MAIL,
    folder: ByFolder = NO_FOLDER,
    at: dt.datetime = NINE,
    own: bool = False,
    **subject: Any,
) -> DeliverySettings:
    actor = client_actor(client.id) if own else desk.operator
    return desk.do_as(actor, settings.set_delivery_settings, client.id, email, folder, at=at, **subject)


def _serving(desk: Desk, row: DeliverySettings) -> list[str | None]:
    return [box.address for box in desk.read(settings.mailboxes_serving, row)]


def test_without_settings_nothing_is_in_force(desk: Desk) -> None:
    """A delivery cannot be planned yet; it is held with that reason, not sent somewhere."""
    assert desk.read(settings.in_force, desk.client().id, None, None, NINE) is None


def test_at_least_one_channel_is_on(desk: Desk) -> None:
    """DOMAIN row 7: e-mail, drop folder, or both."""
    client = desk.client()
    with pytest.raises(Refused) as refused:
        _set(desk, client, ByEmail(False, ("a@acme.example",)))
    assert refused.value.code == "no_channel"
    assert _set(desk, client, folder=FOLDER).folder_enabled
    both = _set(desk, client, _mail("a@acme.example"), FOLDER, NINE + HOUR)
    assert both.email_enabled
    assert both.folder_enabled


@pytest.mark.parametrize(
    ("addresses", "code"),
    [
        ((), "no_address"),
        (tuple(f"a{n}@acme.example" for n in range(21)), "too_many_addresses"),
        (("nobody",), "address_format"),
        (("a@acme.example\r\nBcc: x@evil.example",), "address_format"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(desk: Desk, addresses: tuple[str, ...], code: str) -> None:
    """None, too many, no address, or a header smuggled in: nothing is changed."""
    client = desk.client()
    with pytest.raises(Refused) as refused:
        _set(desk, client, ByEmail(True, addresses))
    assert refused.value.code == code
    assert desk.do(settings.list_mailboxes, client.id) == []


def test_an_address_given_twice_is_one_mailbox(desk: Desk) -> None:
    """Two deliveries of one document to one address would be a repeat."""
    client = desk.client()
    row = _set(desk, client, _mail("a@acme.example", " a@ACME.example", "b@acme.example"))
    assert _serving(desk, row) == ["a@acme.example", "b@acme.example"]


def test_a_change_keeps_the_history(desk: Desk) -> None:
    """What was in force when a document left can be told for ever; the same again changes nothing."""
    client = desk.client()
    first = _set(desk, client, folder=FOLDER, at=NINE)
    second = _set(desk, client, _mail("a@acme.example"), FOLDER, NINE + HOUR)
    before = desk.events()
    assert _set(desk, client, _mail("a@acme.example"), FOLDER, NINE + 2 * HOUR).id == second.id
    assert desk.events() == before

    def at(instant: dt.datetime) -> str | None:
        row = desk.read(settings.in_force, client.id, None, None, instant)
        return row.id if row else None

    assert [at(NINE - HOUR), at(NINE), at(NINE + HOUR / 2), at(NINE + HOUR)] == [None, first.id, first.id, second.id]
    assert [row.id for row in desk.do(settings.history, client.id)] == [second.id, first.id]


def test_one_row_holds_at_a_time_even_when_a_clock_runs_behind(desk: Desk) -> None:
    """Several gateways, several clocks: a change never begins before the one that it replaces."""
    client = desk.client()
    _set(desk, client, folder=FOLDER, at=NINE)
    late = _set(desk, client, _mail("a@acme.example"), at=NINE - HOUR)
    found = desk.read(settings.in_force, client.id, None, None, NINE)
    assert found is not None
    assert found.id == late.id
    assert desk.read(settings.in_force, client.id, None, None, NINE - HOUR) is None
    assert [row.valid_to for row in desk.do(settings.history, client.id)].count(None) == 1


def test_a_contracts_settings_win_over_its_companys_and_those_over_the_clients(desk: Desk) -> None:
    """Each contract goes the narrowest way that was chosen for it."""
    client, (one, two) = desk.contracts(2)
    (company,) = [row.id for row in desk.do(search.list_companies)]
    for_client = _set(desk, client, folder=FOLDER)
    for_company = _set(desk, client, _mail("c@acme.example"), company_id=company)
    for_contract = _set(desk, client, _mail("k@acme.example"), contract_id=one.id)

    def of(company_id: str | None, contract_id: str | None) -> str:
        row = desk.read(settings.in_force, client.id, company_id, contract_id, NINE)
        assert row is not None
        return row.id

    assert of(company, one.id) == for_contract.id
    assert of(company, two.id) == for_company.id
    assert of(company, None) == for_company.id
    assert of(None, None) == for_client.id
    assert of("com_other", two.id) == for_client.id


def test_settings_are_for_what_the_client_holds(desk: Desk) -> None:
    """Another's company or contract is one that does not exist."""
    (client, _), (_, (foreign,)) = desk.contracts(1), desk.contracts(1)
    with pytest.raises(NotFound):
        _set(desk, client, folder=FOLDER, contract_id=foreign.id)
    with pytest.raises(NotFound):
        _set(desk, client, folder=FOLDER, company_id="com_unknown")
    with pytest.raises(Refused):
        _set(desk, client, folder=FOLDER, company_id="com_x", contract_id="con_x")
    other = desk.client()
    with pytest.raises(NotFound):
        desk.do_as(client_actor(other.id), settings.set_delivery_settings, client.id, ByEmail(), FOLDER, at=NINE)


def test_formats_and_receipt_go_to_the_clients_folder(desk: Desk) -> None:
    """They are the folder's: one folder cannot be received in two ways."""
    client, (contract,) = desk.contracts(1)
    _set(desk, client, folder=ByFolder(True, ("xml", "pdf", "xml"), "full_read"))
    (folder,) = desk.do(folders.list_folders, client.id)
    assert (folder.formats, folder.receipt_mode) == (["pdf", "xml"], ReceiptMode.FULL_READ)
    _set(desk, client, folder=FOLDER, at=NINE + HOUR)
    (folder,) = desk.do(folders.list_folders, client.id)
    assert folder.formats == ["pdf", "xml"], "left as they are"
    assert desk.events(folder.id) == ["folder.created", "folder.changed"]
    for wanted, code in (
        (ByFolder(True, ()), "formats"),
        (ByFolder(True, ("pdf", "doc")), "formats"),
        (ByFolder(True, None, "rename"), "receipt_mode"),
    ):
        with pytest.raises(Refused) as refused:
            _set(desk, client, folder=wanted)
        assert refused.value.code == code
    with pytest.raises(Refused) as refused:
        _set(desk, client, folder=ByFolder(True, ("pdf",)), contract_id=contract.id)
    assert refused.value.code == "folder_of_client"


def test_an_address_that_an_operator_enters_is_confirmed_by_that(desk: Desk) -> None:
    """And who did it is recorded; also for one that the client had entered."""
    client = desk.client()
    own = _set(desk, client, _mail("a@acme.example"), own=True)
    (box,) = desk.read(settings.mailboxes_serving, own)
    assert (box.confirmed_at, box.confirmed_by) == (None, None)
    _set(desk, client, _mail("a@acme.example", "b@acme.example"), at=NINE + HOUR)
    boxes = desk.do(settings.list_mailboxes, client.id)
    assert [(box.confirmed_at, box.confirmed_by) for box in boxes] == [(NINE + HOUR, desk.operator.id)] * 2
    assert desk.events(box.id) == ["mailbox.added", "mailbox.confirmed"]


def test_a_clients_new_address_waits_and_the_old_ones_serve_until_then(desk: Desk) -> None:
    """C3: a mistyped address must not cut the client off, nor send its invoices to a stranger."""
    client = desk.client()
    _set(desk, client, _mail("old@acme.example"))
    _set(desk, client, _mail("typo@acme.example"), at=NINE + HOUR, own=True)
    row = _set(desk, client, _mail("new@acme.example"), at=NINE + 2 * HOUR, own=True)
    assert _serving(desk, row) == ["old@acme.example"]
    (box,) = [box for box in desk.do(settings.list_mailboxes, client.id) if box.address == "new@acme.example"]
    with pytest.raises(Denied):
        desk.do_as(client_actor(client.id), settings.confirm_mailbox, box.id, at=NINE)
    desk.do(settings.confirm_mailbox, box.id, at=NINE + 3 * HOUR)
    assert _serving(desk, row) == ["new@acme.example"]
    before = desk.events()
    desk.do(settings.confirm_mailbox, box.id, at=NINE + 4 * HOUR)
    assert desk.events() == before


def test_one_confirmed_address_of_several_serves_alone(desk: Desk) -> None:
    """An address taken away is not written to again because a new one is not confirmed."""
    client = desk.client()
    _set(desk, client, _mail("gone@acme.example", "kept@acme.example"))
    row = _set(desk, client, _mail("kept@acme.example", "new@acme.example"), at=NINE + HOUR, own=True)
    assert _serving(desk, row) == ["kept@acme.example"]


def test_an_address_from_before_e_mail_was_off_does_not_come_back(desk: Desk) -> None:
    """The client had said: no mail."""
    client = desk.client()
    _set(desk, client, _mail("old@acme.example"))
    _set(desk, client, folder=FOLDER, at=NINE + HOUR)
    row = _set(desk, client, _mail("new@acme.example"), at=NINE + 2 * HOUR, own=True)
    (box,) = desk.read(settings.mailboxes_serving, row)
    assert (box.address, box.confirmed_at) == ("new@acme.example", None), "its deliveries are held"


def test_anothers_mailbox_is_one_that_does_not_exist(desk: Desk) -> None:
    """Confirming it would tell that it is there."""
    client, other = desk.client(), desk.client()
    _set(desk, client, _mail("a@acme.example"), own=True)
    (box,) = desk.do(settings.list_mailboxes, client.id)
    for id_ in (box.id, "mbx_unknown"):
        with pytest.raises(NotFound):
            desk.do_as(client_actor(other.id), settings.confirm_mailbox, id_, at=NINE)


def test_an_address_stands_in_the_evidence_by_id_only(desk: Desk) -> None:
    """Erasing a person breaks no proof."""
    client = desk.client()
    _set(desk, client, _mail("jeanne.doe@acme.example"))
    assert "jeanne" not in desk.records()
    box = desk.do(settings.list_mailboxes, client.id)[0]
    assert box.id in desk.records()


def test_two_clients_may_write_to_one_address(desk: Desk) -> None:
    """An accountant of several clients: each has its own mailbox row and confirmation."""
    one, two = desk.client(), desk.client()
    _set(desk, one, _mail("a@accountant.example"))
    _set(desk, two, _mail("a@accountant.example"), own=True)
    boxes = desk.read(lambda tx: tx.exec(select(Mailbox)).all())
    assert {box.client_id: box.confirmed_at is not None for box in boxes} == {one.id: True, two.id: False}


def test_a_contract_goes_to_the_folders_that_take_it(desk: Desk) -> None:
    """The first folder takes all; further ones all or named contracts; a disabled one none."""
    client, (one, two) = desk.contracts(2)
    first, all_too = desk.do(folders.list_folders, client.id)[0], desk.do(folders.create_folder, client.id, "plant-b")
    named = desk.do(folders.create_folder, client.id, "plant-c", formats=["xml"], contract_ids=[two.id])

    def of(contract_id: str | None) -> list[str]:
        return [folder.id for folder in desk.read(settings.folders_for, client.id, contract_id)]

    assert of(one.id) == of(None) == [first.id, all_too.id]
    assert of(two.id) == [first.id, all_too.id, named.id]

    def disable(tx: Any) -> None:
        folder = tx.get(Folder, first.id)
        folder.disabled_at = NINE
        tx.add(folder)

    desk.database.write(disable)
    assert of(one.id) == [all_too.id]


def test_a_folder_is_made_once_and_for_the_clients_own_contracts(desk: Desk) -> None:
    """The same again is the same row; other facts under its log-in are a conflict."""
    (client, (contract,)), (_, (foreign,)) = desk.contracts(1), desk.contracts(1)
    made = desk.do(folders.create_folder, client.id, "plant-b", contract_ids=[contract.id, contract.id])
    again = desk.do(folders.create_folder, client.id, "plant-b", contract_ids=[contract.id])
    assert again.id == made.id
    assert len(desk.read(lambda tx: tx.exec(select(FolderContract)).all())) == 1
    with pytest.raises(Conflict, match="taken"):
        desk.do(folders.create_folder, client.id, "plant-b")
    with pytest.raises(Conflict, match="taken"):
        desk.do(folders.create_folder, client.id, "plant-b", contract_ids=[contract.id], formats=["xml"])
    with pytest.raises(Refused):
        desk.do(folders.create_folder, client.id, "plant-c", contract_ids=[foreign.id])
    with pytest.raises(Denied):
        desk.do_as(client_actor(client.id), folders.create_folder, client.id, "plant-d")


def test_a_contract_that_comes_later_can_have_its_settings_now(desk: Desk) -> None:
    """Settings follow instants, bonds follow days."""
    client = desk.client()
    contract = desk.contract(desk.company(client), from_day=TODAY + dt.timedelta(days=90))
    assert _set(desk, client, folder=FOLDER, contract_id=contract.id).contract_id == contract.id
