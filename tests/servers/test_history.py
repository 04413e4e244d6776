"""History over the protocols: listed, read whole, compared by digest, and never changed."""

import asyncio
import ftplib
import hashlib
import io
from pathlib import Path

import asyncssh
import pytest

from gateway.access import Actor, Role
from gateway.dropfolder import moving_in
from gateway.dropfolder.moving_in import Line, Rules
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.dropfolder.world import PARIS, World

from . import ftps_world, sftp_world

CONTENT = bytes(range(256)) * 300
MARCH = 1_709_290_800  # 2024-03-01T11:00:00Z
PLACE = "archive/2024/03/Facture n°1.pdf"


@pytest.fixture
def moved(database: Database, blobs: LocalBlobs) -> World:
    """A client that has moved in, for whom nothing was published yet."""
    world = World(database, blobs)
    blob = blobs.put(CONTENT)
    line = Line("acme", "Facture n°1.pdf", MARCH, blob.sha256, blob.size)
    moving_in.take(database, blobs, Actor("cli:test", "operator", None, Role.ADMIN), [line], Rules(PARIS, 10**6))
    return world


def test_over_sftp(moved: World, tmp_path: Path) -> None:
    """With the date that the file had before, and rights that say that it stays."""

    async def story() -> None:
        async with sftp_world.listening(moved, tmp_path) as listener, listener.sftp() as client:
            assert await client.listdir("archive/2024/03") == ["Facture n°1.pdf"]
            attrs = await client.stat(PLACE)
            assert (attrs.size, attrs.mtime, (attrs.permissions or 0) & 0o222) == (len(CONTENT), MARCH, 0)
            await client.get(PLACE, tmp_path / "got")
            for refused in (client.remove(PLACE), client.rename(PLACE, "inbox/mine.pdf"), client.open(PLACE, "w")):
                with pytest.raises(asyncssh.SFTPError):
                    await refused

    asyncio.run(story())
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert moved.events("entry.") == []


def test_over_ftps(moved: World, tmp_path: Path) -> None:
    """The same; HASH says the digest of what was imported."""
    with ftps_world.listening(moved, tmp_path) as listener, listener.session() as client:
        client.encoding = "utf-8"
        assert [name for name, _ in client.mlsd("archive/2024/03")] == ["Facture n°1.pdf"]
        assert ftps_world.get(client, PLACE) == CONTENT
        digest = hashlib.sha256(CONTENT).hexdigest()
        assert digest in client.sendcmd(f"HASH {PLACE}")
        with pytest.raises(ftplib.error_perm):
            client.delete(PLACE)
        with pytest.raises(ftplib.error_perm):
            client.rename(PLACE, "inbox/mine.pdf")
        with pytest.raises(ftplib.error_perm):
            client.storbinary(f"STOR {PLACE}", io.BytesIO(b"mine"))
    assert moved.events("entry.") == []
