"""The nothing-missing proof as a client and its auditor have it: pulled by their programs, checked by `openssl`."""

import asyncio
import csv
import datetime as dt
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway import clock
from gateway.delivery import orders
from gateway.domain.folders import Folder, FolderEvent
from gateway.dropfolder.manifests import ManifestMaker
from gateway.pools import ThreadPool
from gateway.sealing import process
from tests.dropfolder.test_manifests import Here
from tests.dropfolder.world import PARIS, World
from tests.keys.authority import Authority
from tests.peers import program, requires
from tests.peers.test_ftps_peers import Client as FtpsClient
from tests.peers.test_ftps_peers import world
from tests.peers.test_sftp_peers import Client as SftpClient
from tests.servers import ftps_world, sftp_world

__all__ = ["world"]
DAY = dt.timedelta(days=1)


@pytest.fixture
def root(tmp_path: Path, world: World) -> Path:
    """A folder with five numbers that began three days ago, and a manifest of each; the root of their signatures."""
    authority = Authority()
    content, password = authority.write_pkcs12(tmp_path, authority.signing_key())
    found = authority.write_root(tmp_path)
    process.prepare(process.SealSetup(content, password, (found,), (), "", 100, "B-B"))
    deliveries = world.publish(*(b"%d" % number for number in range(4)))
    world.db.write(lambda tx: orders.withdraw(tx, world.delivery(deliveries[1]).document_id, "op", "wrong recipient"))
    world.set(Folder, world.folder.id, created_at=clock.now() - 3 * DAY)
    world.db.write(lambda tx: tx.execute(sa.update(FolderEvent).values(at=clock.now() - 2 * DAY)))
    pool = ThreadPool("work", 2)
    maker = ManifestMaker(world.db, world.blobs, PARIS, "Enerdis", Here(), pool)  # type: ignore[arg-type]
    while asyncio.run(maker.turn()):
        pass
    pool.close()
    return found


def check(client: Path, root: Path) -> None:
    """By openssl, by `gateway manifest verify` with the files alone, and by a reader of CSV."""
    pulled, documents = client / "manifest", client / "inbox"
    manifests = sorted(pulled.glob("manifest-*.json"))
    assert len(manifests) >= 2  # yesterday's may be made in some minutes
    for one in manifests:
        command = [program("openssl"), "cms", "-verify", "-binary", "-inform", "DER", "-in", f"{one}.p7s"]
        rest = ["-content", str(one), "-CAfile", str(root), "-purpose", "any", "-out", "/dev/null"]
        subprocess.run([*command, *rest], check=True, capture_output=True)
    verify = [sys.executable, "-m", "gateway", "manifest", "verify", str(pulled), "--ca", str(root)]
    done = subprocess.run([*verify, "--entries", str(documents)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows = []
    for path in sorted(pulled.glob("index-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file, strict=True))
    assert [row["sequence"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert {one.name for one in documents.iterdir()} < {row["name"] for row in rows}


@requires("sftp", "openssl")
def test_openssh_pulls_the_proof_and_it_holds(world: World, tmp_path: Path, root: Path) -> None:
    """Recursively, as a nightly script does it."""

    async def main() -> None:
        async with sftp_world.listening(world, tmp_path) as listener:
            await asyncio.sleep(1.1)
            client = SftpClient(tmp_path / "client", listener)
            status, output = await client.sftp("get -pr manifest", "get -r inbox")
            assert status == 0, output

    asyncio.run(main())
    check(tmp_path / "client", root)


@requires("lftp", "openssl")
def test_lftp_mirrors_the_proof_over_ftps_and_it_holds(world: World, tmp_path: Path, root: Path) -> None:
    """A second mirror finds nothing new: sizes and times are those of the files."""
    with ftps_world.listening(world, tmp_path) as listener:
        time.sleep(1.1)
        client = FtpsClient(tmp_path / "client", listener)
        status, output = client.lftp("mirror manifest manifest; mirror inbox inbox")
        assert status == 0, output
        before = {path: path.stat().st_ino for path in (tmp_path / "client" / "manifest").iterdir()}
        status, output = client.lftp("mirror --verbose manifest manifest")
        assert (status, output.strip()) == (0, "")
        assert before == {path: path.stat().st_ino for path in (tmp_path / "client" / "manifest").iterdir()}
    check(tmp_path / "client", root)
