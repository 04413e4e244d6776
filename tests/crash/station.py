"""What a round of the crash loop needs: a state directory with its parties, the settings, a spool, a mailbox server."""

import asyncio
import contextlib
import datetime as dt
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

from gateway import clock, config
from gateway.access import Actor, Role
from gateway.demo import invoices
from gateway.demo.authority import Authority
from gateway.demo.mailbox import Mailbox
from gateway.parties import registry, settings, sshkeys, subscriptions
from gateway.store import migrations
from gateway.store.database import Database, Transaction, sqlite_url

DRIVER = Path(__file__).with_name("driver.py")
MAIL_DOMAIN = "clients.example"
FROM = "factures@gateway.example"
OPERATOR = Actor("tok_operator", "operator", None, Role.OPERATOR)
SUBSCRIBED = ("CARD-S-000101", "CARD-I-000201")  # the third contract of the demo gets duplicates


@dataclass(frozen=True)
class Template:
    """What all rounds share, made once: keys, a database with the parties, and the documents."""

    directory: Path
    authority: Authority
    users: dict[str, Path]  # log-in name -> private key

    @property
    def database(self) -> Path:
        return self.directory / "gateway.db"

    @property
    def secret(self) -> Path:
        return self.directory / "verp.secret"


def today() -> dt.date:
    return clock.day_of(clock.now(), config.IssuerSettings().zone)


def make_template(directory: Path) -> Template:
    template = Template(directory, Authority.create(directory / "authority", FROM), {})
    template.secret.touch(mode=0o600)
    template.secret.write_bytes(secrets.token_bytes(32))
    migrations.upgrade(sqlite_url(template.database))
    db = Database.open(sqlite_url(template.database))
    for company in dict.fromkeys(company for company, _ in invoices.CONTRACTS):
        db.write(partial(_declare, template=template, company=company))
    db.close()
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
        self.directory = directory
        self.template = template
        self.state, self.spool = directory / "state", directory / "spool"
        for folder in (self.state, self.spool / "tmp", self.spool / "new"):
            folder.mkdir(mode=0o700, parents=True)
        shutil.copy(template.database, self.state / "gateway.db")
        self.mailbox = Mailbox(directory / "mailbox", MAIL_DOMAIN)
        self.config = directory / "gateway.toml"

    @contextlib.contextmanager
    def mail(self) -> Iterator[None]:
        """The mailbox server, in a thread of its own; the settings file is written once its port is known."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            port = asyncio.run_coroutine_threadsafe(self.mailbox.start(), loop).result(10)
            self._write_settings(port)
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
            "store": {"directory": str(self.state), "free_space_floor_percent": 0.1},
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

    def offer(self, name: str, content: bytes, order: int) -> None:
        """Put a file into the spool as a billing system does; it arrived as number `order`."""
        path = self.spool / "tmp" / name
        path.write_bytes(content)
        os.utime(path, (order, order))
        path.rename(self.spool / "new" / name)

    def is_settled(self) -> bool:
        """Nothing goes on by itself any more."""
        query = "SELECT {0} FROM document WHERE {0} UNION ALL SELECT {0} FROM delivery WHERE {0} LIMIT 1"
        uri = f"file:{self.state}/gateway.db?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10)) as database:
            condition = "due_at IS NOT NULL OR lease_until IS NOT NULL"
            return database.execute(query.format(condition)).fetchone() is None

    @contextlib.contextmanager
    def start(self, kind: str = "either", kill_at: int = 0, when: str = "after") -> Iterator["subprocess.Popen[str]"]:
        """A daemon in a session of its own; what of it is left at the end is killed."""
        command = [sys.executable, str(DRIVER), str(self.config), kind, str(kill_at), when]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as daemon:
            try:
                yield daemon
            finally:
                daemon.kill()


def _credential(of: Any) -> dict[str, str]:
    return {"certificate": str(of.pkcs12), "password_file": str(of.password_file)}


def living(session: int) -> set[int]:
    """The processes of a session that have not ended; zombies have."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, of, *_ = (path / "stat").read_text().rpartition(")")[2].split()
            if int(of) == session and state not in "ZX":
                found.add(int(path.name))
    return found


def wait_until_gone(session: int, seconds: float = 5.0) -> set[int]:
    """What still lives of a session after that time; whatever it is, it is ended then."""
    deadline = time.monotonic() + seconds
    while (left := living(session)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left
