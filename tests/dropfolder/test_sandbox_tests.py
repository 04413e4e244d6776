"""Test documents: seen and pulled as an entry would be, and never counted as one."""

import datetime as dt
import hashlib
from typing import Any

import pytest
from sqlmodel import select

from gateway import clock, invoices
from gateway.config import FolderSettings
from gateway.domain.parties import Company, CompanyHolding, ContractHolding
from gateway.domain.sandbox import SandboxTest
from gateway.dropfolder import sandbox_tests
from gateway.dropfolder.sandbox import HEAD
from gateway.dropfolder.sandbox_tests import Made
from gateway.errors import Conflict, NotFound, Refused
from gateway.sealing import trial
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.dropfolder.conftest import Time
from tests.dropfolder.test_sandbox import blobs_kept, put
from tests.dropfolder.world import PARIS, World, get, names

WHO = "tok_erp"


def make(world: World, count: int = 1, **limits: Any) -> list[SandboxTest]:
    """As the API does it, without its worker processes."""
    settings = FolderSettings(**limits)
    wanted = world.db.read(lambda tx: sandbox_tests.plan(tx, world.folder, count, settings, PARIS))
    files = []
    for one in wanted:
        contents = {"pdf": trial.make, "xml": invoices.xml}
        for ending, name in one.names.items():
            content = contents[ending](one.facts)
            blob = world.blobs.put(bytes(HEAD) + content)
            digest = hashlib.sha256(content).hexdigest()
            files.append(Made(one.facts.number, ending, name, blob.sha256, digest, len(content)))
    return world.db.write(lambda tx: sandbox_tests.keep(tx, world.folder, files, settings, WHO, "first try"))


def rows(world: World) -> list[SandboxTest]:
    return list(world.db.read(lambda tx: tx.exec(select(SandboxTest).order_by(SandboxTest.id)).all()))


def hold(world: World, siren: str = "534010764", name: str = "Apuron PV 2") -> None:
    """The world's contract belongs to a company of its client."""
    now = clock.now()
    company = Company(siren=siren, name=name, created_at=now)
    world.add(company)
    world.add(CompanyHolding(company_id=company.id, client_id=world.client.id, from_day=dt.date(2020, 1, 1)))
    world.add(ContractHolding(contract_id=world.contract.id, company_id=company.id, from_day=dt.date(2020, 1, 1)))


def test_it_is_named_by_the_folder_s_template_with_test_in_number_and_nature(world: World, at: Time) -> None:
    """A program that picks files by their names picks it by one changed word; by none it is ORIG, COPY or DATA."""
    at.wall = dt.datetime(2026, 11, 24, 19, 15, 30, 250_000, dt.UTC).timestamp()
    hold(world)
    assert [row.name for row in make(world)] == ["20261124_C-acme_TEST-20261124-201530250-01_TEST.pdf"]
    at.pass_(1)
    world.folder.name_template = "INV-{nature}-{number}"
    assert [row.name for row in make(world)] == ["INV-TEST-TEST-20261124-201531250-01.pdf"]


@pytest.mark.parametrize("formats", [("pdf",), ("xml",), ("pdf", "xml")])
def test_it_comes_in_the_folder_s_formats(database: Database, blobs: LocalBlobs, at: Time, formats: Any) -> None:
    """As an invoice would."""
    world = World(database, blobs, formats=formats)
    made = make(world, 2)
    assert [row.format for row in made] == [*formats, *formats]
    assert sorted(names(world.visit(), "/sandbox")) == sorted(row.name for row in made)
    for row in made:
        content = get(world.visit(), f"/sandbox/{row.name}")
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (row.sha256, row.size)
        assert content.startswith(b"%PDF" if row.format == "pdf" else b"<?xml")


def test_it_names_the_client_s_own_companies_and_contracts_in_turn(world: World) -> None:
    """A program that routes by them is tried too; a name that no page can show is no obstacle, nor a foreign number."""
    hold(world, name="Société Ωmega")
    plan = world.db.read(lambda tx: sandbox_tests.plan(tx, world.folder, 2, FolderSettings(), PARIS))
    assert [one.facts.contract.number for one in plan] == ["C-acme", "C-acme"]
    assert {one.facts.buyer.name for one in plan} == {"Société ?mega"}
    assert len({one.facts.number for one in plan}) == 2
    world.set(Company, world.db.read(lambda tx: tx.exec(select(Company)).one()).id, siren="BE0403019261")
    assert make(world)[0].size


def test_a_client_without_a_contract_can_try_too(world: World) -> None:
    """Before its first invoice it may have none."""
    assert "_TEST_TEST-" in make(world)[0].name


def test_an_account_of_the_billing_system_has_no_sandbox(world: World) -> None:
    """It would never see them."""
    world.folder.is_intake = True
    with pytest.raises(Refused, match="hands documents in"):
        make(world)


def test_it_is_no_entry_no_number_and_no_receipt(world: World) -> None:
    """What the folder counts and proves is about real documents only."""
    (row,) = make(world)
    visit = world.visit()
    assert names(visit) == []
    get(visit, f"/sandbox/{row.name}")
    visit.remove(f"/sandbox/{row.name}")
    assert world.entries() == []
    assert world.events("delivery") == world.events("entry") == []
    assert visit.highest_sequence == 0


def test_what_was_read_of_it_is_recorded_as_a_test_s(world: World, at: Time) -> None:
    """By whom, how much, and the whole of it over two sessions; then that it went."""
    (row,) = make(world)
    path, half = f"/sandbox/{row.name}", row.size // 2
    get(world.visit(), path, (0, half))
    assert (rows(world)[0].read_ranges, rows(world)[0].fully_read_at) == ([[0, half]], None)
    visit = world.visit()
    get(visit, path, (half, row.size))
    assert rows(world)[0].fully_read_at == at.now()
    visit.remove(path)
    assert rows(world)[0].removed_at == at.now()
    said = [body["facts"] for body in world.bodies("test_document.read")]
    assert [(one["bytes"], one["fully_read"]) for one in said] == [(half, False), (row.size - half, True)]
    assert all(one["name"] == row.name and one["session"] and one["address"] for one in said)
    (gone,) = world.bodies("test_document.removed")
    assert gone["facts"]["fully_read"] is True and gone["subject"] == row.id and gone["document"] is None
    (made,) = world.bodies("test_document.made")
    assert (made["facts"]["actor"], made["facts"]["reason"]) == (WHO, "first try")


def test_a_lost_connection_and_a_look_prove_nothing(world: World) -> None:
    """What was under way may not have arrived; who opens and closes has read nothing."""
    (row,) = make(world)
    visit = world.visit()
    lost = visit.ask(visit.open, f"/sandbox/{row.name}")
    lost.read(0, row.size)
    visit.abandon([lost])
    get(visit, f"/sandbox/{row.name}", (row.size, 10))
    assert rows(world)[0].read_ranges == []
    assert world.bodies("test_document.read") == []


def test_a_renamed_one_stays_one_and_an_uploaded_one_becomes_none(world: World) -> None:
    """A client renames before it reads; a file that it put in its place is its own."""
    first, second = make(world, 2)
    visit = world.visit()
    visit.rename(f"/sandbox/{first.name}", "/sandbox/mine.pdf")
    get(visit, "/sandbox/mine.pdf")
    assert rows(world)[0].fully_read_at is not None
    put(visit, f"/sandbox/{second.name}", b"my own")
    get(visit, f"/sandbox/{second.name}")
    assert rows(world)[1].fully_read_at is None
    listed = world.db.read(lambda tx: sandbox_tests.listed(tx, world.folder.id, 10))
    assert {row.id: is_there for row, is_there in listed} == {first.id: True, second.id: False}


def test_it_takes_the_client_s_quota_and_all_of_a_request_is_made_or_none(world: World, at: Time) -> None:
    """Bytes, files, documents a request and a day: each limit says itself."""
    put(world.visit(), "/sandbox/a", bytes(800_000))
    before = world.db.read(lambda tx: len(sandbox_tests.listed(tx, world.folder.id, 10)))
    with pytest.raises(Refused) as refused:
        make(world, 3, sandbox_megabytes=1)
    assert refused.value.code == "quota"
    assert names(world.visit(), "/sandbox") == ["a"] and before == len(rows(world)) == 0
    for limits, code in (
        ({"sandbox_files": 3}, "too_many_files"),
        ({"test_documents": 2}, "too_many"),
        ({"test_documents_a_day": 2}, "too_many_today"),
    ):
        with pytest.raises(Refused) as refused:
            make(world, 3, **limits)
        assert refused.value.code == code
    make(world, 2, test_documents_a_day=2)
    at.pass_(1)
    with pytest.raises(Refused, match="at most 2 test documents"):
        make(world, 1, test_documents_a_day=2)
    at.pass_(86_400)
    assert make(world, 1, test_documents_a_day=2)


def test_two_requests_in_the_same_millisecond_do_not_give_two_the_same_number(world: World, at: Time) -> None:
    """The second one is told to ask again; what the first one made stays."""
    (row,) = make(world)
    with pytest.raises(Conflict, match="ask again"):
        make(world)
    assert names(world.visit(), "/sandbox") == [row.name]
    at.pass_(0.001)
    assert make(world)[0].number != row.number


def test_it_is_removed_by_its_id_and_only_in_its_own_folder(
    world: World, database: Database, blobs: LocalBlobs
) -> None:
    """What is not yours is not there; a file that the client wrote is not removed so."""
    other = World(database, blobs, user="other")
    (row,) = make(world)
    put(world.visit(), "/sandbox/own.txt", b"x")
    for folder, file in ((other.folder.id, row.id), (world.folder.id, "sbx_none")):
        with pytest.raises(NotFound):
            database.write(lambda tx, f=folder, i=file: sandbox_tests.remove(tx, f, i, WHO))  # type: ignore[misc]
    database.write(lambda tx: sandbox_tests.remove(tx, world.folder.id, row.id, WHO))
    assert names(world.visit(), "/sandbox") == ["own.txt"]
    kept = blobs_kept(blobs)
    world.folders.expire_uploads(clock.now())
    assert blobs_kept(blobs) == kept - 1
    assert world.bodies("test_document.removed")[0]["facts"]["actor"] == WHO


def test_it_goes_after_some_days_and_what_happened_stays_in_the_ledger(world: World, at: Time) -> None:
    """As every file of the sandbox."""
    (row,) = make(world)
    get(world.visit(), f"/sandbox/{row.name}")
    at.pass_(31 * 86_400)
    assert world.folders.expire_uploads(clock.now()) == 1
    assert names(world.visit(), "/sandbox") == [] and rows(world) == []
    assert len(world.bodies("test_document.read")) == 1
