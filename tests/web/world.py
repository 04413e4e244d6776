"""An API on real parts, with two clients that must never see each other's things, and a token of every role."""

import asyncio
import contextlib
import datetime as dt
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway import access, clock
from gateway.access import Actor, Role
from gateway.config import Settings
from gateway.domain.deliveries import Attempt, Delivery
from gateway.domain.documents import Document
from gateway.domain.states import Channel, DeliveryState, DocumentState, Kind, Nature
from gateway.evidence import record
from gateway.intake import process as intake_process
from gateway.intake.read import ReadLimits
from gateway.intake.receive import Intake
from gateway.parties import passwords, registry, settings, subscriptions
from gateway.parties.settings import ByEmail, ByFolder
from gateway.pools import ThreadPool, WorkerProcesses
from gateway.sealing import process as sealing_process
from gateway.sealing.renditions import Renditions
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, Transaction
from gateway.web.app import Parts, create_app

ADMIN = Actor("cli:test", "operator", None, Role.ADMIN)
SELLER = "123456782"
TODAY = dt.date(2026, 9, 15)
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40


@dataclass
class Party:
    """A client with a company, a contract, a folder, a mailbox, a key, a token, and two documents."""

    client: str
    company: str
    siren: str
    contract: str
    number: str
    folder: str
    mailbox: str
    key: str
    subscription: str
    token: str
    password: str = ""
    document: str = ""  # sealed, with a mail delivery that failed
    quarantined: str = ""
    delivery: str = ""


@dataclass
class World:
    """The application, its parts, and what is in it."""

    parts: Parts
    app: Any
    intake: WorkerProcesses
    sealers: WorkerProcesses
    tokens: dict[str, str] = field(default_factory=dict)
    parties: list[Party] = field(default_factory=list)
    token_ids: dict[str, str] = field(default_factory=dict)
    rows: list[Document] = field(default_factory=list)  # what a test adds, to find it again

    def write(self, step: Callable[[Transaction], Any]) -> Any:
        """In one transaction."""
        return self.parts.db.write(step)

    @contextlib.asynccontextmanager
    async def api(self, token: str | None) -> AsyncIterator[httpx.AsyncClient]:
        """A caller with this token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            yield client

    def ask(self, method: str, path: str, token: str | None = None, **request: Any) -> httpx.Response:
        """One request; the path is below /api/v1 unless it is absolute. `token`: a role of `tokens`, or a secret."""
        secret = self.tokens.get(token, token) if token else None

        async def one() -> httpx.Response:
            async with self.api(secret) as client:
                return await client.request(method, path if path.startswith("//") else f"/api/v1{path}", **request)

        return asyncio.run(one())

    def run(self, act: Callable[[httpx.AsyncClient], Awaitable[Any]], token: str = "admin") -> Any:
        """What `act` does as one caller."""

        async def main() -> Any:
            async with self.api(self.tokens[token]) as client:
                return await act(client)

        return asyncio.run(main())


@contextlib.contextmanager
def world(tmp_path: Path, db: Database) -> Iterator[World]:
    """An API on `db`, with two parties in it."""
    made = build(tmp_path, db)
    try:
        for name, siren in (("Apuron PV 2", "534010764"), ("Été & Fils", "732829320")):
            made.parties.append(made.write(functools.partial(_party, name=name, siren=siren)))
        for party in made.parties:
            made.write(functools.partial(_documents, blobs=made.parts.blobs, party=party))
        for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER, Role.AUDITOR):
            token, secret = made.write(functools.partial(_token, role=role))
            made.tokens[role.value], made.token_ids[role.value] = secret, token.id
        made.tokens |= {"own": made.parties[0].token, "foreign": made.parties[1].token}
        yield made
    finally:
        made.parts.pool.close()
        made.intake.close()
        made.sealers.close()


def build(tmp_path: Path, db: Database, **sections: dict[str, Any]) -> World:
    """The application on real parts, and nothing in it."""
    sections.setdefault("issuer", {})["sellers"] = (SELLER,)
    made = Settings(store={"directory": tmp_path / "state", "free_space_floor_percent": 0}, **sections)  # type: ignore[arg-type]
    blobs = LocalBlobs(tmp_path / "state" / "blobs")
    pool = ThreadPool("web", 4, 100)
    readers = WorkerProcesses("readers", 1, 30, intake_process.start, (ReadLimits.of(made.intake),))
    sealers = WorkerProcesses("sealers", 1, 30, sealing_process.start, (sealing_process.SealSetup.of(made.seal),))
    intake = Intake(made.intake, made.issuer, lambda: False, db, blobs, readers, sealers, pool, lambda: None)
    parts = Parts(made, db, blobs, intake, Renditions(db, blobs, sealers, pool), pool, lambda: None)
    return World(parts, create_app(parts), readers, sealers)


def _token(tx: Transaction, role: Role) -> Any:
    return access.create_token(tx, ADMIN, role, f"operator:{role}")


def _party(tx: Transaction, name: str, siren: str) -> Party:
    client = registry.create_client(tx, ADMIN, name)
    tx.flush()
    company = registry.create_company(tx, ADMIN, siren, name, client.id)
    contract = registry.create_contract(tx, ADMIN, f"CARD-S-{siren[:4]}", "CARD_S", siren, today=TODAY)
    tx.flush()
    folder = settings.folders_for(tx, client.id, contract.id)[0]
    address = f"compta@{siren}.example"
    settings.set_delivery_settings(tx, ADMIN, client.id, ByEmail(True, (address,)), ByFolder(True), at=clock.now())
    mailbox = settings.list_mailboxes(tx, ADMIN, client.id)[0]
    key = _key(tx, client.id)
    item = subscriptions.subscribe(
        tx, ADMIN, client.id, [contract.id], dt.date(2026, 1, 1), terms_version="1", today=TODAY, reason="test"
    )[0]
    assert item.subscription_id is not None
    _, secret = access.create_token(tx, ADMIN, "erp", f"client:{client.id}")
    return Party(
        client.id,
        company.id,
        siren,
        contract.id,
        contract.number,
        folder.id,
        mailbox.id,
        key,
        item.subscription_id,
        secret,
        passwords.add_password(tx, ADMIN, client.id, "$argon2id$v=19$test", "erp").id,
    )


def _key(tx: Transaction, client_id: str) -> str:
    import asyncssh

    from gateway.parties import sshkeys

    public = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    return sshkeys.add_key(tx, ADMIN, client_id, public, "erp").id


def _documents(tx: Transaction, blobs: Any, party: Party) -> None:
    blob = blobs.put(PDF + party.siren.encode())
    sealed = document(party, f"F-{party.siren}", blob.sha256, blob.size)
    waiting = document(party, f"Q-{party.siren}", blob.sha256, blob.size)
    waiting.state, waiting.nature, waiting.accepted_key = DocumentState.QUARANTINED, None, None
    waiting.sealed_sha256 = waiting.sealed_size = None
    tx.add_all([sealed, waiting])
    tx.flush()
    now = clock.now()
    delivery = Delivery(
        document_id=sealed.id,
        client_id=party.client,
        channel=Channel.EMAIL,
        destination=party.mailbox,
        state=DeliveryState.FAILED,
        state_reason="550 no such user",
        attempts=1,
        last_reply="550 5.1.1 no such user",
        message_id="m1@gateway.example",
        retry_since=now,
        created_at=now,
        updated_at=now,
    )
    tx.add(delivery)
    tx.flush()
    tx.add(
        Attempt(
            delivery_id=delivery.id,
            number=1,
            started_at=now,
            ended_at=now,
            outcome="failed",
            phase="rcpt",
            relay="mx.example",
            reply="550 5.1.1 no such user",
        )
    )
    record(tx, "document.quarantined", waiting.id, document=waiting.id, reason="JavaScript inside")
    record(tx, "delivery.planned", delivery.id, document=sealed.id, channel="email", destination=party.mailbox, again=0)
    party.document, party.quarantined, party.delivery = sealed.id, waiting.id, delivery.id


def document(party: Party, number: str, sha256: str = "0" * 64, size: int = 1, **values: Any) -> Document:
    """A sealed invoice of a party, as a row; not added to anything."""
    row = Document(
        kind=Kind.INVOICE,
        number=number,
        issue_date=dt.date(2026, 9, 1),
        type_code="380",
        seller=SELLER,
        key=f"invoice:{SELLER}:2026:{number}",
        accepted_key=f"invoice:{SELLER}:2026:{number}",
        contract_id=party.contract,
        company_id=party.company,
        client_id=party.client,
        currency="EUR",
        nature=Nature.ORIGINAL,
        nature_reason="subscribed on the issue date",
        subscription_id=party.subscription,
        state=DocumentState.SEALED,
        received_sha256=sha256,
        received_size=size,
        received_at=clock.now(),
        source="api",
        facts={},
        sealed_sha256=sha256,
        sealed_size=size,
        updated_at=clock.now(),
    )
    for name, value in values.items():
        setattr(row, name, value)
    return row
