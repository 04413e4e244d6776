"""What a round of the crash loop needs: documents, a state directory with its parties, a spool, a mailbox server."""

import asyncio
import contextlib
import datetime as dt
import functools
import hashlib
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import structlog
from cryptography import x509

from gateway import access, clock, config, invoices
from gateway.access import Actor, Role
from gateway.demo.authority import Authority
from gateway.demo.mailbox import Mailbox
from gateway.keys.load import load_pkcs12
from gateway.keys.trust import Trust
from gateway.parties import registry, settings, sshkeys, subscriptions
from gateway.store import migrations
from gateway.store.database import Database, Transaction, sqlite_url
from tests.crash.kill import NEVER, Point

ROOT = Path(__file__).parents[2]
MAIL_DOMAIN = "clients.example"
FROM = "factures@gateway.example"
OPERATOR = Actor("tok_operator", "operator", None, Role.ADMIN)
SUBSCRIBED = ("CARD-S-000101", "CARD-I-000201")  # the third contract of the demo gets duplicates


@dataclass(frozen=True)
class Offer:
    """A file to hand in, and its fate: accepted, duplicate, again (another one's bytes), quarantined or refused."""

    name: str
    content: bytes
    number: str
    fate: str
    sidecar: bytes = b""

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def make_offers(count: int) -> list[Offer]:
    """So many invoices; one of them twice, one number with other bytes, and a file that is no document."""
    made = []
    for order, (facts, content) in enumerate(invoices.series(count, today())):
        fate = "accepted" if facts.contract.number in SUBSCRIBED else "duplicate"
        sidecar = json.dumps({"number": facts.number}).encode() if order % 5 == 0 else b""
        made.append(Offer(f"{facts.number}.pdf", content, facts.number, fate, sidecar))
    (facts, other), *_ = invoices.series(1, today(), first=1, contracts=invoices.CONTRACTS[1:2])
    middle = len(made) // 2
    made.insert(middle, Offer("other-bytes.pdf", other, facts.number, "quarantined"))
    made.insert(middle, Offer("repeated.pdf", made[1].content, made[1].number, "again"))
    made.insert(middle, Offer("no-document.pdf", b"This is no PDF.", "", "refused", b"{}"))
    return made


@dataclass(frozen=True)
class Template:
    """What all rounds share, made once: keys, a database with the parties, and the documents."""

    directory: Path
    authority: Authority
    users: dict[str, Path]  # log-in name -> private key
    token: str  # of the API

    @property
    def database(self) -> Path:
        return self.directory / "gateway.db"

    @property
    def secret(self) -> Path:
        return self.directory / "verp.secret"

    @functools.cached_property
    def issuer(self) -> tuple[tuple[x509.Certificate, ...], Trust]:
        """The certificates that seals must have been made with, and the roots that they must lead to."""
        key = load_pkcs12(self.authority.seal.pkcs12, self.authority.seal.password_file)
        return (key.certificate, *key.chain), Trust.load((self.authority.root,))


def today() -> dt.date:
    return clock.day_of(clock.now(), config.IssuerSettings().zone)


def make_template(directory: Path) -> Template:
    authority = Authority.create(directory / "authority", FROM)
    database = directory / "gateway.db"
    migrations.upgrade(sqlite_url(database))
    db = Database.open(sqlite_url(database))
    try:
        _, token = db.write(lambda tx: access.create_token(tx, OPERATOR, "crash", "operator:operator"))
        template = Template(directory, authority, {}, token)
        for company in dict.fromkeys(company for company, _ in invoices.CONTRACTS):
            db.write(partial(_declare, template=template, company=company))
    finally:
        db.close()
    template.secret.touch(mode=0o600)
    template.secret.write_bytes(secrets.token_bytes(32))
    return template


def _declare(tx: Transaction, template: Template, company: invoices.Company) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    client = registry.create_client(tx, OPERATOR, company.name, user_name=f"user{company.siren}")
    template.users[f"user{company.siren}"] = private = template.directory / f"{company.siren}.key"
    private.touch(mode=0o600)
    private.write_bytes(key.export_private_key())
    registry.create_company(tx, OPERATOR, company.siren, company.name, client.id)
    numbers = [contract.number for of, contract in invoices.CONTRACTS if of == company]
    for of, contract in invoices.CONTRACTS:
        if of == company:
            registry.create_contract(tx, OPERATOR, contract.number, contract.type.value, of.siren, today=today())
    wanted = [number for number in numbers if number in SUBSCRIBED]
    subscriptions.subscribe(tx, OPERATOR, client.id, wanted, today(), terms_version="1", today=today())
    sshkeys.add_key(tx, OPERATOR, client.id, key.export_public_key().decode().strip(), "crash")
    by_email = settings.ByEmail(True, (f"{company.siren}@{MAIL_DOMAIN}",))
    by_folder = settings.ByFolder(True, ("pdf", "xml"), "delete")
    settings.set_delivery_settings(tx, OPERATOR, client.id, by_email, by_folder, at=clock.now())


class Station:
    """One round's directory, with a daemon that is started and killed in it."""

    def __init__(self, directory: Path, template: Template) -> None:
        """Of a directory that `new` made."""
        self.directory = directory
        self.template = template
        self.state, self.spool = directory / "state", directory / "spool"
        self.mailbox = Mailbox(directory / "mailbox", MAIL_DOMAIN)
        self.config = directory / "gateway.toml"
        self._count = directory / "count"

    @classmethod
    def new(cls, directory: Path, template: Template) -> "Station":
        """Parties are declared; nothing was handed in."""
        for folder in (directory / "state", directory / "spool" / "tmp", directory / "spool" / "new"):
            folder.mkdir(mode=0o700, parents=True)
        shutil.copy(template.database, directory / "state" / "gateway.db")
        return cls(directory, template)

    @contextlib.contextmanager
    def mail(self) -> Iterator[None]:
        """The mailbox server, in a thread of its own; the settings file is written once its port is known."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            port = asyncio.run_coroutine_threadsafe(self.mailbox.start(), loop).result(10)
            self._write_settings(port)
            with structlog.testing.capture_logs():  # a line for each message would hide what is wrong
                yield
        finally:
            asyncio.run_coroutine_threadsafe(self._close(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _close(self) -> None:
        await self.mailbox.stop()
        await asyncio.sleep(0.1)  # what hangs up needs a turn of the loop

    def _write_settings(self, port: int) -> None:
        authority = self.template.authority
        trust = [str(authority.root)]
        sections: dict[str, dict[str, Any]] = {
            "issuer": {"sellers": [invoices.DISTRIBUTOR.siren]},
            "store": {"directory": str(self.state), "free_space_floor_percent": 0.1, "reserve_megabytes": 0},
            "http": {"listen": "127.0.0.1:0"},
            "sftp": {"listen": "127.0.0.1:0", "grace_seconds": 5},
            "spool": {"directory": str(self.spool), "scan_seconds": 0.2, "batch": 10},
            "seal": _credential(authority.seal) | {"trust": trust, "batch": 10},
            "mail": _credential(authority.mail)
            | {"trust": trust, "from_address": FROM, "verp_secret_file": str(self.template.secret)}
            | {"relay_host": "127.0.0.1", "relay_port": port, "relay_tls": "off"},
            "delivery": {"poll_seconds": 0.2, "retry_minutes": [0.005], "retry_jitter_percent": 0},
            "log": {"level": "error", "format": "json"},
        }
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def offer(self, offer: Offer, order: int) -> None:
        """Put a file into the spool as a billing system does, its sidecar first; it arrived as number `order`."""
        parts = {f"{offer.name}.json": offer.sidecar, offer.name: offer.content}
        for name, content in parts.items():
            if content:
                path = self.spool / "tmp" / name
                path.write_bytes(content)
                os.utime(path, (order, order))
                path.rename(self.spool / "new" / name)

    def waiting(self) -> list[Path]:
        """Files of the spool that are not at their end."""
        ends = (self.spool / "refused", self.spool / "quarantined")
        return [path for path in self.spool.rglob("*") if path.is_file() and path.parent not in ends]

    def is_settled(self) -> bool:
        """Nothing goes on by itself any more."""
        query = "SELECT {0} FROM document WHERE {0} UNION ALL SELECT {0} FROM delivery WHERE {0} LIMIT 1"
        uri = f"file:{self.state}/gateway.db?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10)) as database:
            condition = "due_at IS NOT NULL OR lease_until IS NOT NULL"
            return database.execute(query.format(condition)).fetchone() is None

    @contextlib.contextmanager
    def start(self, point: Point = NEVER) -> Iterator["subprocess.Popen[str]"]:
        """A daemon in a session of its own; what of it is left at the end is killed."""
        self._count.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.crash.driver", str(self.config)]
        environment = self.environment() | point.environment(self._count)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as daemon:
            try:
                yield daemon
            finally:
                daemon.kill()

    @staticmethod
    def environment() -> dict[str, str]:
        """For programs of the gateway and of these tests: workers import what is counted in them."""
        return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore::UserWarning"}

    def counted(self) -> int:
        """How many kill points the running daemon, or the last one, came to."""
        return self._count.stat().st_size if self._count.exists() else 0


def _credential(of: Any) -> dict[str, str]:
    return {"certificate": str(of.pkcs12), "password_file": str(of.password_file)}


def living(session: int) -> dict[int, int]:
    """The processes of a session that have not ended, each with its parent; zombies have."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent, _, of, *_ = (path / "stat").read_text().rpartition(")")[2].split()
            if int(of) == session and state not in "ZX":
                found[int(path.name)] = int(parent)
    return found


def workers(daemon: int) -> list[int]:
    """The worker processes of a daemon: children of its fork server."""
    return [pid for pid, parent in living(daemon).items() if daemon not in (pid, parent)]


def wait_until_gone(session: int, seconds: float = 20.0) -> list[str]:
    """What still lives of a session after that time; whatever it is, it is ended then.

    A fork server that was just started looks whether anybody needs it only when it has loaded everything.
    """
    deadline = time.monotonic() + seconds
    while (left := living(session)) and time.monotonic() < deadline:
        time.sleep(0.02)
    commands = []
    for pid in left:
        with contextlib.suppress(OSError):
            commands.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
            os.kill(pid, signal.SIGKILL)
    return commands
