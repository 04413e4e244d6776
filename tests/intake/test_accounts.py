"""Documents that the billing system uploads by an account: accepted once, or refused with a reason beside them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from gateway import config
from gateway.daemon import open_core
from gateway.demo.authority import Authority
from gateway.domain.states import DocumentState
from gateway.intake.accounts import AccountSpools, prepare
from gateway.parties import registry, settings, sshkeys
from gateway.store.database import Database, Transaction, sqlite_url
from tests import journey
from tests.conftest import Processes
from tests.intake.test_spool import small
from tests.journey import Journey, Look
from tests.test_journey import Daemon, settings_file, until


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    with journey.opened(tmp_path_factory.mktemp("gateway"), keys=False) as made:
        yield made


def test_what_an_account_uploaded_is_accepted_once_or_refused_with_its_reason(gate: Journey, tmp_path: Path) -> None:
    """The spool's rules, the account as its source; another account's trouble is not theirs."""
    spools = AccountSpools(tmp_path, 4, 1_000_000, gate.core.intake, gate.core.blobs, gate.core.work)
    assert gate.run(spools.turn()) == 0  # nobody has uploaded yet
    number = journey.number()
    root, other = prepare(tmp_path / "fld_1"), prepare(tmp_path / "fld_2")
    (root / "new" / "a.pdf").write_bytes(small(number))
    (root / "new" / "b.pdf").write_bytes(b"no PDF")
    (other / "new" / "again.pdf").write_bytes(small(number))
    assert gate.run(spools.turn()) == 3
    (document,) = gate.documents(number=number)
    assert (document.state, document.source) == (DocumentState.RECEIVED, "account")
    assert [path.name for path in (root / "new").iterdir()] == []
    assert (root / "refused" / "b.pdf").read_bytes() == b"no PDF"
    assert json.loads((root / "refused" / "b.pdf.reason.json").read_text())["reason"]
    assert {fact["actor"] for fact in gate.facts("document.submitted_again", document=document.id)} == {"fld_2"}


def test_an_account_gets_no_document_and_is_made_once(gate: Journey) -> None:
    """It is the issuer's own: a document must not be published into it, whoever it is of."""

    def step(tx: Transaction) -> None:
        client = registry.create_client(tx, journey.OPERATOR, "Billing", "fr", "billing", is_intake=True)
        assert registry.create_client(tx, journey.OPERATOR, "Billing", "fr", "billing", is_intake=True) is client
        with pytest.raises(Exception, match="there is a client"):
            registry.create_client(tx, journey.OPERATOR, "Billing", "fr", "billing")
        assert settings.folders_for(tx, client.id, None) == []

    gate.core.db.write(step)


def test_an_upload_survives_a_kill_right_after_its_answer_and_half_of_one_does_not(
    tmp_path: Path, processes: Processes
) -> None:
    """Durable first, answer second."""
    path = settings_file(tmp_path, Authority.create(tmp_path / "authority"), 1)
    key = asyncssh.generate_private_key("ssh-ed25519")
    number = journey.number()

    def parties(tx: Transaction) -> None:
        client = registry.create_client(tx, journey.OPERATOR, "Billing", "fr", "billing", is_intake=True)
        line = key.export_public_key().decode()
        sshkeys.add_key(tx, journey.OPERATOR, client.id, line, "key")

    async def declared() -> None:
        async with open_core(config.load(path)) as core:
            await asyncio.to_thread(journey.declare, core.db)
            await asyncio.to_thread(core.db.write, parties)

    async def scene() -> None:
        await declared()
        daemon = Daemon(processes, path, tmp_path / "said")
        async with (
            asyncssh.connect(
                *await daemon.sftp(), username="billing", client_keys=[key], known_hosts=None, config=None
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            assert await sftp.listdir("/") == ["intake"]
            half = await sftp.open("/intake/half.pdf", "wb")
            await half.write(b"%PDF" * 1000)
            whole = await sftp.open("/intake/whole.pdf", "wb")
            await whole.write(small(number))
            await whole.close()
            daemon.process.kill()
            daemon.process.wait()
        again = Daemon(processes, path, tmp_path / "said-again")
        await again.sftp()
        look = Look(Database.open(sqlite_url(tmp_path / "state" / "gateway.db")))
        try:
            await until(lambda: len(look.documents(number=number)) == 1, again.said)
            await until(lambda: not list((tmp_path / "state" / "intake").glob("*/new/*")), again.said)
            assert not list((tmp_path / "state" / "intake").glob("*/*/*"))
        finally:
            look.db.close()

    asyncio.run(scene())
