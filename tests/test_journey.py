"""One invoice, all the way, by the daemon as it is started: spool → seal → drop folder over SFTP and signed mail."""

import asyncio
import email
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

from gateway import clock
from gateway.config import Settings
from gateway.daemon import open_core
from gateway.demo.authority import Authority
from gateway.demo.mailbox import Mailbox
from gateway.domain.states import Channel, DeliveryState, DocumentState, Nature
from gateway.keys.trust import Trust
from gateway.sealing.validate import full_validate
from gateway.store.database import Database, sqlite_url
from tests import journey
from tests.conftest import Processes
from tests.journey import CARD_I, CARD_S, NOT_SUBSCRIBED, SELLER, Look, Parties, Party


def settings_file(directory: Path, authority: Authority, relay_port: int) -> Path:
    """A configuration on loopback, any port."""
    secret = directory / "verp.secret"
    secret.write_bytes(os.urandom(32))
    secret.chmod(0o600)
    seal, mail = authority.seal, authority.mail
    trust = {"trust": [str(authority.root)]}
    sections: dict[str, dict[str, Any]] = {
        "issuer": {"sellers": [SELLER]},
        "store": {"directory": str(directory / "state"), "free_space_floor_percent": 0, "reserve_megabytes": 0},
        "http": {"listen": "127.0.0.1:0"},
        "sftp": {"listen": "127.0.0.1:0", "grace_seconds": 3},
        "spool": {"directory": str(directory / "spool"), "scan_seconds": 0.2},
        "intake": {"workers": 1},
        "seal": {"certificate": str(seal.pkcs12), "password_file": str(seal.password_file), "workers": 1} | trust,
        "mail": {
            "certificate": str(mail.pkcs12), "password_file": str(mail.password_file),
            "verp_secret_file": str(secret), "relay_port": relay_port, "relay_tls": "off",
        } | trust,
        "log": {"format": "json"},
    }  # fmt: skip
    path = directory / "gateway.toml"
    lines = [
        f"[{name}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in of.items()) for name, of in sections.items()
    ]
    path.write_text("\n".join(lines))
    return path


def declared(path: Path) -> Parties:
    """The parties, entered before the daemon starts."""
    from gateway import config

    async def scene(made: Settings) -> Parties:
        async with open_core(made) as core:
            return await asyncio.to_thread(journey.declare, core.db)

    return asyncio.run(scene(config.load(path)))


class Daemon:
    """`gateway serve` in a process of its own; what it says goes to a file."""

    def __init__(self, processes: Processes, path: Path, said: Path) -> None:
        self.said = said
        with said.open("ab") as file:
            self.process: subprocess.Popen[Any] = processes.start(
                sys.executable, "-m", "gateway", "--config", path, "serve", stdout=file, stderr=file
            )

    async def sftp(self) -> tuple[str, int]:
        """Where it listens, once it does."""
        for _ in range(800):
            for line in self.said.read_text().splitlines():
                if '"daemon.ready"' in line:
                    host, port = json.loads(line)["sftp"]
                    return host, port
            assert self.process.poll() is None, self.said.read_text()
            await asyncio.sleep(0.05)
        raise AssertionError(self.said.read_text())


async def until(condition: Callable[[], bool], said: Path) -> None:
    for _ in range(800):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(said.read_text()[-3000:])


async def pulled(address: tuple[str, int], party: Party, user: str, to: Path) -> dict[str, bytes]:
    """As an ERP does: list, get and delete each."""
    async with (
        asyncssh.connect(
            *address, username=user, client_keys=[party.private_key], known_hosts=None, config=None
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        names = [str(name) for name in await sftp.listdir("/inbox") if name not in (".", "..")]
        found = {}
        for name in names:
            await sftp.get(f"/inbox/{name}", to / name)
            found[name] = (to / name).read_bytes()
            await sftp.remove(f"/inbox/{name}")
        return found


def test_an_invoice_goes_all_the_way(tmp_path: Path, processes: Processes) -> None:
    """Three invoices into the spool: two originals reach their clients by both channels, the third is no original."""
    authority = Authority.create(tmp_path / "authority")
    domain = "000000026.example"

    async def scene() -> None:
        mailbox = Mailbox(tmp_path / "mailbox", domain)
        path = settings_file(tmp_path, authority, await mailbox.start())
        parties = await asyncio.to_thread(declared, path)
        daemon = Daemon(processes, path, tmp_path / "said")
        address = await daemon.sftp()
        look = Look(Database.open(sqlite_url(tmp_path / "state" / "gateway.db")))
        try:
            await travel(look, mailbox, parties, address, daemon)
        finally:
            look.db.close()
            await mailbox.stop()
        daemon.process.terminate()
        assert await asyncio.to_thread(daemon.process.wait, 20) == 0

    async def travel(look: Look, mailbox: Mailbox, parties: Parties, address: tuple[str, int], daemon: Daemon) -> None:
        numbers = {contract: journey.number() for contract in (CARD_S, CARD_I, NOT_SUBSCRIBED)}
        for contract, number in numbers.items():
            written = tmp_path / "spool" / "tmp" / "x"
            written.write_bytes(journey.invoice(number, contract))
            os.rename(written, tmp_path / "spool" / "new" / f"{number}.pdf")

        def of(contract: str) -> Any:
            return next(iter(look.documents(number=numbers[contract])), None)

        def has_left() -> bool:
            rows = look.deliveries()
            moved = (DeliveryState.PUBLISHED, DeliveryState.ACCEPTED, DeliveryState.FAILED)
            return len(rows) == 4 and all(row.state in moved for row in rows)

        await until(has_left, daemon.said)
        original, duplicate = of(CARD_S), of(NOT_SUBSCRIBED)
        assert (original.state, original.nature) == (DocumentState.SEALED, Nature.ORIGINAL)
        assert (duplicate.state, duplicate.nature) == (DocumentState.RECEIVED, Nature.DUPLICATE)
        # The solar plant's mail server is another domain's: it is refused there, and its folder has the file anyway.
        assert [row.state for row in look.deliveries(document_id=of(CARD_I).id, channel=Channel.EMAIL)] == [
            DeliveryState.FAILED
        ]
        (received,) = mailbox.messages()
        message = email.message_from_bytes(received.path.read_bytes())
        assert message.get_content_type() == "multipart/signed"
        mailed = [part.get_payload(decode=True) for part in message.walk() if part.get_filename() is not None]
        await asyncio.sleep(1.1)  # an entry is listed once its second is over
        folder = look.folder(parties.foundry.folder)
        files = await pulled(address, parties.foundry, folder.user_name, tmp_path)
        ((name, content),) = files.items()
        assert name == f"20250303_{CARD_S}_{numbers[CARD_S]}_ORIG.pdf"
        assert content in mailed
        trust = Trust.load((authority.root,))
        await asyncio.to_thread(full_validate, content, trust, clock.now())
        delivery = look.deliveries(document_id=original.id, channel=Channel.FOLDER)[0]
        assert delivery.state is DeliveryState.RECEIVED
        assert await pulled(address, parties.foundry, folder.user_name, tmp_path) == {}
        assert list((tmp_path / "spool" / "new").iterdir()) == []

    asyncio.run(scene())
