"""A gateway to travel through: parties that an operator declared, invoices of the demo, and the parts of the daemon.

`declare` enters two clients on any database; `candidate` and `sealed` make documents for tests of one step, without
processes; `opened` builds the parts as the daemon does, with keys of the demo's authority and worker processes.
"""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import hashlib
import itertools
import json
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import sqlalchemy as sa
from sqlmodel import col, select

from gateway import clock, invoices
from gateway.access import Actor, Role
from gateway.config import IssuerSettings, Settings
from gateway.daemon import Core, open_core
from gateway.delivery import plan
from gateway.delivery.publish import Publisher
from gateway.demo.authority import Authority
from gateway.domain.deliveries import Attempt, Delivery
from gateway.domain.documents import Document
from gateway.domain.folders import Entry, Folder
from gateway.domain.ledger import Record
from gateway.domain.states import DocumentState, Kind, Nature
from gateway.intake import process as intake_process
from gateway.intake.accept import Candidate, Outcome
from gateway.intake.facts import Facts
from gateway.intake.read import Reading, ReadLimits
from gateway.intake.receive import Intake
from gateway.parties import registry, settings, sshkeys, subscriptions
from gateway.parties.settings import ByEmail, ByFolder
from gateway.pools import ThreadPool, WorkerProcesses
from gateway.sealing import process as sealing_process
from gateway.sealing.seal import Sealer
from gateway.store.blobs import Blob, Blobs
from gateway.store.database import Database, Transaction

T = TypeVar("T")
OPERATOR = Actor("tok_operator", "operator", None, Role.ADMIN)
SELLER = invoices.DISTRIBUTOR.siren
ISSUED = dt.date(2025, 3, 3)
SUBSCRIBED_FROM = dt.date(2025, 1, 1)
TODAY = dt.date(2025, 2, 1)
CARD_S, CARD_I, NOT_SUBSCRIBED = (contract.number for _, contract in invoices.CONTRACTS)
_numbers = itertools.count(1)


def number() -> str:
    """An invoice number that no test had before."""
    return f"F{next(_numbers):06d}"


@dataclass(frozen=True)
class Party:
    """A client with its company, contracts (id by number), folder, mailbox and SSH key."""

    client: str
    company: str
    siren: str
    folder: str
    mailbox: str
    contracts: dict[str, str]
    private_key: asyncssh.SSHKey


@dataclass(frozen=True)
class Parties:
    """Who is declared: the foundry holds CARD_S and NOT_SUBSCRIBED, the solar plant CARD_I."""

    foundry: Party
    solar: Party

    def holder(self, contract: str) -> Party:
        """Whose contract it is."""
        return next(party for party in (self.foundry, self.solar) if contract in party.contracts)


def declare(db: Database, formats: tuple[str, ...] = ("pdf",)) -> Parties:
    """Two clients with both channels on and three contracts, two of them subscribed."""
    found = [db.write(lambda tx, c=company: _declare(tx, c, formats)) for company in (invoices.FOUNDRY, invoices.SOLAR)]  # type: ignore[misc]
    return Parties(*found)


def _declare(tx: Transaction, company: invoices.Company, formats: tuple[str, ...]) -> Party:
    client = registry.create_client(tx, OPERATOR, company.name)
    row = registry.create_company(tx, OPERATOR, company.siren, company.name, client.id)
    contracts = {}
    for of, contract in invoices.CONTRACTS:
        if of == company:
            made = registry.create_contract(tx, OPERATOR, contract.number, contract.type, company.siren, today=TODAY)
            contracts[contract.number] = made.id
    subscribed = [one for one in contracts if one != NOT_SUBSCRIBED]
    subscriptions.subscribe(
        tx, OPERATOR, client.id, subscribed, SUBSCRIBED_FROM, terms_version="1", today=TODAY, reason="test"
    )
    choose(tx, client.id, ByEmail(True, (f"compta@{company.siren}.example",)), ByFolder(True, formats))
    mailbox = settings.list_mailboxes(tx, OPERATOR, client.id)[0]
    key = asyncssh.generate_private_key("ssh-ed25519")
    sshkeys.add_key(tx, OPERATOR, client.id, key.export_public_key().decode(), "erp")
    folder = settings.folders_for(tx, client.id, None)[0]
    return Party(client.id, row.id, company.siren, folder.id, mailbox.id, contracts, key)


def choose(tx: Transaction, client: str, email: ByEmail, folder: ByFolder, **scope: Any) -> None:
    """Delivery settings, by the operator, from a minute ago on: two clocks may differ a little."""
    at = clock.now() - dt.timedelta(minutes=1)
    settings.set_delivery_settings(tx, OPERATOR, client, email, folder, at=at, **scope)


def invoice(
    number: str,
    contract: str = CARD_S,
    issue_date: dt.date = ISSUED,
    *,
    kwh: int = 1000,
    corrects: str = "",
    buyer: invoices.Company | None = None,
) -> bytes:
    """A Factur-X invoice of the demo; a credit note when it corrects another."""
    holder, of = next((company, one) for company, one in invoices.CONTRACTS if one.number == contract)
    facts = invoices.InvoiceFacts(
        number=number,
        issue_date=issue_date,
        period_start=issue_date - dt.timedelta(days=30),
        period_end=issue_date,
        buyer=buyer or holder,
        contract=of,
        kwh=kwh,
        type_code="381" if corrects else "380",
        corrects=invoices.Preceding(corrects, issue_date) if corrects else None,
    )
    return invoices.make(facts)


def unknown_contract(contract: str) -> bytes:
    """An invoice for a contract that nobody entered."""
    of = dataclasses.replace(invoices.CONTRACTS[0][1], number=contract)
    start = ISSUED - dt.timedelta(days=30)
    return invoices.make(invoices.InvoiceFacts(number(), ISSUED, start, ISSUED, invoices.FOUNDRY, of, 1000))


def candidate(of: str, content: bytes = b"", contract: str = CARD_S, **facts: Any) -> Candidate:
    """What reading a document with this number would hand to the acceptance; its bytes are not in any store."""
    content = content or of.encode()
    stated: dict[str, Any] = {
        "kind": Kind.INVOICE, "number": of, "issue_date": ISSUED, "contract": contract, "type_code": "380",
        "seller": SELLER, "currency": "EUR", "total": Decimal("120.00"),
    }  # fmt: skip
    blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
    quarantine = facts.pop("quarantine", None)
    read = Reading(Facts(**(stated | facts)), quarantine, blob.sha256, blob.size, None, 0, is_signed=False)
    return Candidate(read, blob, None, "api", "tok_test")


@contextlib.contextmanager
def intake_on(db: Database, blobs: Blobs, floor_percent: float = 0, **issuer: Any) -> Iterator[Intake]:
    """The intake on a database; its worker processes start only if something is read."""
    defaults = Settings()
    pool = ThreadPool("work", 4)
    limits = (ReadLimits.of(defaults.intake),)
    readers = WorkerProcesses("readers", 1, 30, intake_process.start, limits)
    setup = (sealing_process.SealSetup.of(defaults.seal),)
    sealers = WorkerProcesses("sealers", 1, 30, sealing_process.start, setup)
    of = IssuerSettings(**({"sellers": (SELLER,)} | issuer))
    try:
        yield Intake(
            defaults.intake,
            of,
            lambda: blobs.free_percent() < floor_percent,
            db,
            blobs,
            readers,
            sealers,
            pool,
            lambda: None,
        )
    finally:
        for part in (pool, readers, sealers):
            part.close()


def sealed(
    db: Database, blobs: Blobs, party: Party, contract: str, count: int = 1, *, planned: bool = True, **values: Any
) -> list[str]:
    """Sealed originals as rows, with their deliveries planned; the documents' ids."""
    content = b"%PDF-1.7 sealed"
    pdf, xml = blobs.put(content), blobs.put(b"<xml/>")
    rows = []
    for _ in range(count):
        of = number()
        now = clock.now()
        stated: dict[str, Any] = {
            "kind": Kind.INVOICE, "number": of, "issue_date": ISSUED, "type_code": "380", "seller": SELLER,
            "key": of, "accepted_key": of, "contract_id": party.contracts[contract], "company_id": party.company,
            "client_id": party.client, "currency": "EUR", "total": Decimal("120.00"), "nature": Nature.ORIGINAL,
            "state": DocumentState.SEALED, "received_sha256": pdf.sha256, "received_size": pdf.size,
            "received_at": now, "source": "api", "facts": {}, "xml_sha256": xml.sha256, "xml_size": xml.size,
            "sealed_sha256": pdf.sha256, "sealed_size": pdf.size, "updated_at": now,
        }  # fmt: skip
        rows.append(Document(**(stated | values)))

    def keep(tx: Transaction) -> None:
        tx.execute(sa.insert(Document), [row.model_dump() for row in rows])
        if planned:
            plan.plan(tx, rows, clock.now() - dt.timedelta(seconds=1))

    db.write(keep)
    return [row.id for row in rows]


class Look:
    """What is in a database."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def document(self, document_id: str) -> Document:
        return self.db.read(lambda tx: tx.get_one(Document, document_id))

    def documents(self, **where: Any) -> list[Document]:
        return self._rows(Document, **where)

    def delivery(self, delivery_id: str) -> Delivery:
        return self.db.read(lambda tx: tx.get_one(Delivery, delivery_id))

    def deliveries(self, **where: Any) -> list[Delivery]:
        return self._rows(Delivery, **where)

    def attempts(self, **where: Any) -> list[Attempt]:
        return self._rows(Attempt, **where)

    def entries(self, **where: Any) -> list[Entry]:
        return self._rows(Entry, **where)

    def folder(self, folder_id: str) -> Folder:
        return self.db.read(lambda tx: tx.get_one(Folder, folder_id))

    def _rows(self, table: type[T], **where: Any) -> list[T]:
        query = select(table).order_by(col(table.id))  # type: ignore[attr-defined]
        for name, value in where.items():
            query = query.where(getattr(table, name) == value)
        return list(self.db.read(lambda tx: tx.exec(query).all()))

    def events(self, subject: str = "", document: str = "") -> list[str]:
        """The recorded events about a subject or a document, or all, oldest first."""
        return [row.event for row in self.records(subject=subject, document=document)]

    def records(self, event: str = "", subject: str = "", document: str = "") -> list[Record]:
        query = select(Record).order_by(col(Record.id))
        for column, value in ((Record.event, event), (Record.subject, subject), (Record.document_id, document)):
            if value:
                query = query.where(col(column) == value)
        return list(self.db.read(lambda tx: tx.exec(query).all()))

    def facts(self, event: str, **where: str) -> list[dict[str, Any]]:
        """What the records of an event say, oldest first."""
        return [json.loads(row.body)["facts"] for row in self.records(event, **where)]

    def set(self, row: Any, **values: Any) -> None:
        """Change a row as only time or a fault would."""
        table = type(row)
        self.db.write(lambda tx: tx.execute(sa.update(table).where(table.id == row.id).values(**values)))


class Journey(Look):
    """The parts of the daemon on a directory of their own, and one event loop to run them on."""

    def __init__(self, runner: asyncio.Runner, core: Core, authority: Authority, parties: Parties) -> None:
        super().__init__(core.db)
        self._runner = runner
        self.core = core
        self.authority = authority
        self.parties = parties
        self.sealer = self.new_sealer()
        self.publisher = Publisher(core.db, core.blobs, core.settings.issuer.zone, 500)

    def new_sealer(self, batch: int = 64) -> Sealer:
        """As another gateway on the same database would have it."""
        made = self.core.settings.seal.model_copy(update={"batch": batch})
        return Sealer(made, self.db, self.core.blobs, self.core.sealers, self.core.work, lambda: None)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def scratch(self, content: bytes) -> Path:
        path = self.core.blobs.scratch()
        path.write_bytes(content)
        return path

    def submit(self, content: bytes, sidecar: dict[str, str] | None = None) -> Outcome:
        """Through the one door behind every door."""
        beside = json.dumps(sidecar).encode() if sidecar else None
        return self.run(self.core.intake.submit(self.scratch(content), beside, "api", "tok_test"))

    def seal(self) -> int:
        """One turn of the sealer."""
        return self.run(self.sealer.turn())

    def leftovers(self) -> list[str]:
        """Names in the place for half-made files."""
        return [path.name for path in (self.core.settings.store.directory / "blobs" / "scratch").iterdir()]


def settings_for(directory: Path, authority: Authority | None, **sections: dict[str, Any]) -> Settings:
    """Settings on a directory, with an authority's keys; sections as in the file."""
    given: dict[str, dict[str, Any]] = {
        "issuer": {"sellers": (SELLER,)},
        "store": {"directory": directory / "state", "free_space_floor_percent": 0, "reserve_megabytes": 0},
        "spool": {"directory": directory / "spool"},
        "intake": {"workers": 2},
        "seal": {"workers": 2},
    }
    if authority is not None:
        seal = authority.seal
        given["seal"] |= {"certificate": seal.pkcs12, "password_file": seal.password_file, "trust": (authority.root,)}
    for name, values in sections.items():
        given[name] = given.get(name, {}) | values
    return Settings(**given)  # type: ignore[arg-type]


@contextlib.contextmanager
def opened(directory: Path, *, keys: bool = True, **sections: dict[str, Any]) -> Iterator[Journey]:
    """A gateway's parts, with its parties declared. `keys`: False: no certificate to seal with."""
    authority = Authority.create(directory / "authority")
    made = settings_for(directory, authority if keys else None, **sections)
    with asyncio.Runner() as runner:
        opening = open_core(made)
        core = runner.run(opening.__aenter__())
        try:
            yield Journey(runner, core, authority, declare(core.db))
        finally:
            runner.run(opening.__aexit__(None, None, None))


def ids(rows: Sequence[Any]) -> list[str]:
    return [row.id for row in rows]
