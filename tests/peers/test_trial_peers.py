"""Test documents as the programs that clients run pull them: OpenSSH's sftp, lftp over SFTP and over FTPS."""

import asyncio
import hashlib
from pathlib import Path

from tests.dropfolder.test_sandbox_tests import make, rows
from tests.dropfolder.world import World
from tests.peers import requires
from tests.peers.test_ftps_peers import Client as FtpsClient
from tests.peers.test_sftp_peers import Client, world
from tests.servers import ftps_world
from tests.servers.sftp_world import listening

__all__ = ["world"]
pytestmark = requires("sftp", "lftp")


def check(world: World, directory: Path) -> None:
    """Everything was pulled whole and deleted, and none of it is a receipt."""
    found = rows(world)
    assert len(found) == 2
    for row in found:
        assert hashlib.sha256((directory / row.name).read_bytes()).hexdigest() == row.sha256
        assert row.fully_read_at is not None and row.removed_at is not None
    assert not world.entries() and not world.events("entry") and not world.events("delivery")


def test_sftp_gets_them_by_their_mark_and_deletes_them(world: World, tmp_path: Path) -> None:
    """`get -p *_TEST.pdf`: the pattern of the real night with one word changed."""
    make(world, 2)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            status, said = await Client(tmp_path / "client", listener).sftp(
                "cd /sandbox", "get -p *_TEST.pdf", "rm *_TEST.pdf", "ls -l"
            )
            assert status == 0, said

    asyncio.run(main())
    check(world, tmp_path / "client")


def test_lftp_mirrors_them_and_removes_the_source_over_sftp(world: World, tmp_path: Path) -> None:
    """One command, as in many crontabs."""
    make(world, 2)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            client = Client(tmp_path / "client", listener)
            status, said = await client.lftp("mirror --Remove-source-files -I *_TEST.pdf /sandbox .")
            assert status == 0, said

    asyncio.run(main())
    check(world, tmp_path / "client")


def test_lftp_mirrors_them_and_removes_the_source_over_ftps(world: World, tmp_path: Path) -> None:
    """The same over the other protocol."""
    make(world, 2)
    with ftps_world.listening(world, tmp_path) as listener:
        status, said = FtpsClient(tmp_path / "client", listener).lftp(
            "mirror --Remove-source-files -I *_TEST.pdf /sandbox ."
        )
        assert status == 0, said
    check(world, tmp_path / "client")
