"""Sealing waits visibly for its key, follows the order of acceptance, and one bad document takes only itself away."""

import datetime as dt
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from sqlmodel import select

from gateway import clock
from gateway.config import Settings
from gateway.delivery import orders
from gateway.demo.authority import Authority
from gateway.domain.documents import Document, Seal
from gateway.domain.states import Channel, DeliveryState, DocumentState, Nature
from gateway.errors import Unavailable
from gateway.intake import quarantine
from gateway.keys.load import load_pkcs12
from gateway.keys.trust import Trust
from gateway.pools import ThreadPool, WorkerProcesses
from gateway.sealing import pades, process
from gateway.sealing.seal import Sealer
from gateway.sealing.validate import full_validate
from gateway.store.blobs import LocalBlobs, read
from gateway.store.database import Database, Transaction
from tests import journey
from tests.journey import CARD_I, NOT_SUBSCRIBED, Journey, Look, Parties

T = TypeVar("T")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """With a key; shared, so each test has numbers of its own and seals all that it submits."""
    with journey.opened(tmp_path_factory.mktemp("gateway"), intake={"workers": 1}) as made:
        yield made


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Journey, Authority]]:
    """The settings name a key that is not there yet."""
    directory = tmp_path_factory.mktemp("gateway")
    later, authority = directory / "later", Authority.create(directory / "keys")
    seal = {
        "certificate": later / "seal.p12", "password_file": later / "seal.password", "trust": (authority.root,),
        "workers": 1,
    }  # fmt: skip
    with journey.opened(directory, keys=False, intake={"workers": 1}, seal=seal) as made:
        yield made, authority


def submitted(gate: Journey, contract: str = journey.CARD_S) -> str:
    return gate.submit(journey.invoice(journey.number(), contract)).document_id


def seal_of(gate: Look, document: str) -> Seal:
    return gate.db.read(lambda tx: tx.exec(select(Seal).where(Seal.document_id == document)).one())


def test_a_document_is_sealed_verified_and_planned_in_one_transaction(gate: Journey) -> None:
    """Its seal's row, its deliveries, its evidence; the bytes were kept before."""
    document = submitted(gate)
    assert gate.seal() == 1
    row, seal = gate.document(document), seal_of(gate, document)
    assert (row.state, row.state_reason, row.due_at, row.lease_owner) == (DocumentState.SEALED, "", None, None)
    assert row.sealed_sha256 == seal.sha256 and row.sealed_sha256 != row.received_sha256
    assert (seal.level, seal.made_by) == ("B-B", "gateway")
    assert seal.verification["full_validation"]["signatures"] == 1  # the first of a worker
    content = read(gate.core.blobs, seal.sha256)
    assert len(content) == row.sealed_size
    full_validate(content, Trust.load((gate.authority.root,)), clock.now())
    assert {one.state for one in gate.deliveries(document_id=document)} == {DeliveryState.PLANNED}
    events = gate.events(document=document)
    assert events == ["document.received", "document.sealed", "delivery.planned", "delivery.planned"]
    (said,) = gate.facts("document.sealed", document=document)
    assert said["sha256"] == seal.sha256 and "verification" not in said and len(said["verification_sha256"]) == 64
    assert gate.seal() == 0
    assert gate.leftovers() == []


def test_what_is_no_original_and_no_copy_is_not_sealed(gate: Journey) -> None:
    """A duplicate's original is on paper."""
    document = submitted(gate, NOT_SUBSCRIBED)
    assert gate.seal() == 0
    row = gate.document(document)
    assert (row.nature, row.state, row.sealed_sha256) == (Nature.DUPLICATE, DocumentState.RECEIVED, None)


def test_a_batch_is_sealed_in_the_order_of_acceptance(gate: Journey) -> None:
    """Whatever worker is done first: the ledger and the deliveries have the order in which they came in."""
    documents = [submitted(gate, contract) for contract in (journey.CARD_S, CARD_I) * 3]
    sealer = gate.new_sealer(batch=4)
    assert [gate.run(sealer.turn()) for _ in range(2)] == [6, 0], "two transactions"
    sealed = [row.subject for row in gate.records("document.sealed") if row.subject in documents]
    assert sealed == documents
    planned = [row.document_id for row in gate.deliveries(channel=Channel.FOLDER) if row.document_id in documents]
    assert planned == documents


def test_a_document_that_ends_its_worker_is_quarantined_alone(gate: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody ever answers for its bytes: the process is ended at the deadline, the others are sealed."""
    bad, good = submitted(gate), submitted(gate)
    submitted(gate)
    path = gate.core.blobs.path(gate.document(bad).received_sha256)
    path.rename(kept := path.with_name("kept"))
    os.mkfifo(path)
    monkeypatch.setattr(gate.core.sealers, "_deadline", 6.0)
    assert gate.seal() == 3
    path.unlink()
    kept.rename(path)
    row = gate.document(bad)
    assert (row.state, row.due_at, row.sealed_sha256) == (DocumentState.QUARANTINED, None, None)
    assert "not done within" in row.state_reason
    assert gate.events(document=bad) == ["document.received", "document.quarantined"]
    assert gate.document(good).state is DocumentState.SEALED
    assert gate.deliveries(document_id=bad) == []
    # An operator looks, and lets it go on.
    gate.db.write(lambda tx: quarantine.accept(tx, bad, "tok_operator", "it was the disk", "gateway"))
    assert gate.seal() == 1
    assert gate.document(bad).state is DocumentState.SEALED


def test_missing_bytes_quarantine_their_document_alone(gate: Journey) -> None:
    bad, good = submitted(gate), submitted(gate)
    gate.core.blobs.remove(gate.document(bad).received_sha256)
    assert gate.seal() == 2
    row = gate.document(bad)
    assert (row.state, row.state_reason) == (DocumentState.QUARANTINED, "its bytes are missing from the store")
    assert gate.document(good).state is DocumentState.SEALED


def test_changed_bytes_quarantine_their_document_alone(gate: Journey) -> None:
    """As a failing disk changes them; nothing of it leaves."""
    bad, good = submitted(gate), submitted(gate)
    path = gate.core.blobs.path(gate.document(bad).received_sha256)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"\n")
    assert gate.seal() == 2
    row = gate.document(bad)
    assert row.state is DocumentState.QUARANTINED
    assert row.state_reason == "the store holds other bytes than were received"
    assert gate.document(good).state is DocumentState.SEALED


def test_a_transaction_that_is_run_again_settles_the_same(gate: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL rolls a deadlocked one back, and it is repeated."""
    missing, document = submitted(gate), submitted(gate)
    path = gate.core.blobs.path(gate.document(missing).received_sha256)
    path.rename(path.with_suffix(".away"))
    write = gate.core.db.write

    def twice(step: Callable[[Transaction], T]) -> T:
        def again(tx: Transaction) -> T:
            with tx.begin_nested() as first:
                step(tx)
                first.rollback()
            return step(tx)

        return write(again)

    monkeypatch.setattr(gate.core.db, "write", twice)
    assert gate.seal() == 2
    states = (gate.document(missing).state, gate.document(document).state)
    assert states == (DocumentState.QUARANTINED, DocumentState.SEALED)
    assert seal_of(gate, document).sha256 == gate.document(document).sealed_sha256


@pytest.mark.parametrize("meanwhile", ["withdrawn", "replaced"])
def test_what_was_withdrawn_or_replaced_meanwhile_is_not_sealed(gate: Journey, meanwhile: str) -> None:
    """The order came while a worker was at it: its result is dropped, and nothing is planned."""
    number = journey.number()
    document = gate.submit(journey.invoice(number)).document_id
    second = gate.submit(journey.invoice(number, kwh=2000)).document_id if meanwhile == "replaced" else ""
    sealer = gate.new_sealer()
    seal = sealer._seal

    async def and_meanwhile(row: Document, source: Path, target: Path) -> object:
        result = await seal(row, source, target)
        if row.id == document and meanwhile == "withdrawn":
            gate.db.write(lambda tx: orders.withdraw(tx, document, "tok_operator", "wrong"))
        elif row.id == document:
            gate.db.write(lambda tx: quarantine.replace(tx, second, "tok_operator", "corrected", "gateway"))
        return result

    sealer._seal = and_meanwhile  # type: ignore[method-assign, assignment]
    gate.run(sealer.turn())
    row = gate.document(document)
    assert (row.state, row.sealed_sha256) == (DocumentState.WITHDRAWN, None)
    assert gate.deliveries(document_id=document) == []
    assert "document.sealed" not in gate.events(document=document)
    assert gate.seal() == (1 if second else 0)
    if second:
        assert gate.document(second).state is DocumentState.SEALED


def test_a_document_that_arrives_sealed_by_the_issuer_is_kept_as_it_is(tmp_path: Path) -> None:
    """No second seal over the first: the bytes that came are the bytes that leave."""
    issuer = Authority.create(tmp_path / "issuer")
    trust = {"trust": (issuer.root,), "issuer_certificates": (issuer.seal.certificate,), "workers": 1}
    with journey.opened(tmp_path / "gateway", keys=False, intake={"workers": 1}, seal=trust) as gate:
        key = load_pkcs12(issuer.seal.pkcs12, issuer.seal.password_file)
        content = pades.seal(journey.invoice(journey.number()), key, "Facture", clock.now())
        document = gate.submit(content).document_id
        assert gate.seal() == 1
        row, seal = gate.document(document), seal_of(gate, document)
        assert row.sealed_sha256 == row.received_sha256 == seal.sha256
        assert (seal.made_by, seal.certificate_sha256) == ("issuer", key.certificate_sha256)
        assert read(gate.core.blobs, row.sealed_sha256) == content
        assert len(gate.deliveries(document_id=document)) == 2


def make_due(gate: Look, *documents: str) -> None:
    for document in documents:
        gate.set(gate.document(document), due_at=clock.now() - dt.timedelta(seconds=1))


def test_without_a_key_documents_wait_visibly_and_go_on_when_it_is_there(
    keyless: tuple[Journey, Authority],
) -> None:
    """No restart: the file appears, and the next look seals. Said once, not at every look."""
    gate, authority = keyless
    documents = [submitted(gate), submitted(gate)]
    assert gate.seal() == 2
    for document in documents:
        row = gate.document(document)
        assert row.state is DocumentState.WAITING
        assert "seal.p12" in row.state_reason and "/" not in row.state_reason
        assert row.due_at is not None and row.due_at > clock.now()
    assert gate.seal() == 0
    make_due(gate, *documents)
    assert gate.seal() == 2
    assert gate.events(document=documents[0]) == ["document.received", "document.waiting"]
    assert gate.deliveries() == []
    later = gate.core.settings.seal.certificate
    assert later is not None
    later.parent.mkdir()
    shutil.copy(authority.seal.password_file, later.with_suffix(".password"))
    shutil.copy(authority.seal.pkcs12, later)
    make_due(gate, *documents)
    assert gate.seal() == 2
    for document in documents:
        assert gate.document(document).state is DocumentState.SEALED
        assert gate.events(document=document)[2] == "document.sealed"


def test_after_the_clock_was_set_back_nothing_is_sealed_before_the_last_seal(
    gate: Journey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seal dated before the one in front of it would be doubted; what waits goes on by itself."""
    sealer, first = gate.new_sealer(), submitted(gate)
    assert gate.run(sealer.turn()) == 1
    second, real = submitted(gate), time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() - 600)
        with pytest.raises(Unavailable, match="clock was set back"):
            gate.run(sealer.turn())
    assert gate.document(second).state is DocumentState.RECEIVED
    assert gate.run(sealer.turn()) == 1
    assert seal_of(gate, first).sealed_at < seal_of(gate, second).sealed_at


# Leases, on both databases: claiming needs no process.


class Claims(Look):
    """Sealers that only claim."""

    def __init__(self, db: Database, blobs: LocalBlobs, pool: ThreadPool) -> None:
        super().__init__(db)
        self.blobs = blobs
        self.pool = pool
        self.parties: Parties = journey.declare(db)
        self.workers = WorkerProcesses("sealers", 1, 30, process.start, (process.SealSetup.of(Settings().seal),))

    def sealer(self) -> Sealer:
        return Sealer(Settings().seal, self.db, self.blobs, self.workers, self.pool, lambda: None)

    def claim(self, sealer: Sealer) -> list[str]:
        return [row.id for row in self.db.write(sealer._claim)]


@pytest.fixture
def claims(database: Database, blobs: LocalBlobs) -> Iterator[Claims]:
    pool = ThreadPool("work", 2)
    made = Claims(database, blobs, pool)
    yield made
    pool.close()
    made.workers.close()


def due(claims: Claims, count: int = 1) -> list[str]:
    party = claims.parties.foundry
    return journey.sealed(
        claims.db, claims.blobs, party, journey.CARD_S, count, planned=False,
        state=DocumentState.RECEIVED, sealed_sha256=None, sealed_size=None,
        due_at=clock.now() - dt.timedelta(seconds=1),
    )  # fmt: skip


def test_a_claimed_document_is_another_gateway_s_only_when_the_lease_is_over(claims: Claims) -> None:
    """Its own sealer takes it up again at once: the turn before ended in an outage. On SQLite there is no other."""
    (document,) = due(claims)
    first, second = claims.sealer(), claims.sealer()
    assert claims.claim(first) == [document]
    assert claims.claim(first) == [document]
    if claims.db.is_sqlite:
        assert claims.claim(second) == [document]  # whoever held it is dead: one process writes here
        return
    assert claims.claim(second) == []
    claims.set(claims.document(document), lease_until=clock.now() - dt.timedelta(seconds=1))
    assert claims.claim(second) == [document]
    assert claims.claim(first) == []


def test_the_result_of_a_lease_that_was_taken_over_is_dropped(claims: Claims) -> None:
    """Two seals of one document would be two originals."""
    (document,) = due(claims)
    first = claims.sealer()
    claims.claim(first)
    claims.set(claims.document(document), lease_owner="another")
    assert claims.db.write(lambda tx: first._still_ours(tx, [document])) == set()


def test_claims_come_in_the_order_of_acceptance(claims: Claims) -> None:
    documents = due(claims, 5)
    assert claims.claim(claims.sealer()) == documents
