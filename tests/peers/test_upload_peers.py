"""Writing into the sandbox as the programs that clients run do it: OpenSSH's sftp and scp, lftp, curl."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh

from tests.dropfolder.world import World
from tests.peers import program, requires
from tests.peers.test_sftp_peers import SSH, Client, world
from tests.servers.sftp_world import listening
from tests.servers.test_uploads import content, listed

__all__ = ["world"]
pytestmark = requires("sftp")
CONTENT = os.urandom(700_001)


def tell(world: World, tmp_path: Path, story: Callable[[Client], Awaitable[None]]) -> None:
    """A client with a file of some size, and what it does with it."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            client = Client(tmp_path / "client", listener)
            (client.directory / "a.pdf").write_bytes(CONTENT)
            await story(client)

    asyncio.run(main())


def test_sftp_puts_renames_and_is_told_that_it_cannot_resume(world: World, tmp_path: Path) -> None:
    """`reput` would continue a file that may not be the same any more."""

    async def story(client: Client) -> None:
        status, said = await client.sftp(
            "put -p a.pdf /sandbox/a.part", "rename /sandbox/a.part /sandbox/a.pdf", "chmod 600 /sandbox/a.pdf",
            "df /sandbox", "put a.pdf /sandbox/a.pdf",
        )  # fmt: skip
        assert status == 0, said
        with (client.directory / "a.pdf").open("ab") as file:
            file.write(b"more")
        status, said = await client.sftp("reput a.pdf /sandbox/a.pdf")
        assert status != 0 or content(world, "a.pdf") == CONTENT + b"more", said

    tell(world, tmp_path, story)
    assert content(world, "a.pdf") in (CONTENT, CONTENT + b"more")


def test_scp_puts_twice_and_ends_with_0(world: World, tmp_path: Path) -> None:
    """It opens without TRUNC and sets the size at the end; the second time the file is there."""

    async def story(client: Client) -> None:
        for _ in range(2):
            status, said = await client.run(
                Path(program("sftp")).with_name("scp"),
                *SSH,
                "-P",
                str(client.listener.port),
                "a.pdf",
                "acme@127.0.0.1:/sandbox/a.pdf",
            )
            assert status == 0, said
        (client.directory / "a.pdf").write_bytes(b"short")
        status, said = await client.run(
            Path(program("sftp")).with_name("scp"),
            *SSH,
            "-p",
            "-P",
            str(client.listener.port),
            "a.pdf",
            "acme@127.0.0.1:/sandbox/a.pdf",
        )
        assert status == 0, said

    tell(world, tmp_path, story)
    assert content(world, "a.pdf") == b"short"


@requires("lftp")
def test_lftp_puts_and_mirrors_a_folder_up(world: World, tmp_path: Path) -> None:
    """`mirror -R` makes the folders that it needs."""

    async def story(client: Client) -> None:
        (client.directory / "tree" / "in").mkdir(parents=True)
        (client.directory / "tree" / "in" / "b.txt").write_bytes(b"b")
        status, said = await client.lftp("put a.pdf -o /sandbox/a.pdf; mirror -R tree /sandbox/tree")
        assert status == 0, said

    tell(world, tmp_path, story)
    assert content(world, "a.pdf") == CONTENT
    assert content(world, "tree/in/b.txt") == b"b"


@requires("curl")
def test_curl_uploads(world: World, tmp_path: Path) -> None:
    """`curl -T`, which looks at the folder before."""

    async def story(client: Client) -> None:
        status, said = await client.curl("/sandbox/a.pdf", "-T", "a.pdf")
        assert status == 0, said

    tell(world, tmp_path, story)
    assert listed(world) == ["a.pdf"]
    assert content(world, "a.pdf") == CONTENT


@requires("psftp", "puttygen")
def test_psftp_puts_and_gets_it_back(world: World, tmp_path: Path) -> None:
    """The idea of OpenSSH's putty-transfer.sh, which needs a shell: PuTTY's own packets, both ways."""

    async def story(client: Client) -> None:
        await client.run(program("puttygen"), "id", "-O", "private", "-o", "id.ppk")
        (client.directory / "job").write_text("put a.pdf sandbox/a.pdf\nget sandbox/a.pdf b.pdf\nquit\n")
        host_key = asyncssh.import_public_key(client.listener.server.host_key).get_fingerprint()
        where = ("-P", str(client.listener.port), "-b", "job", "acme@127.0.0.1")
        status, said = await client.run(program("psftp"), "-batch", "-hostkey", host_key, "-i", "id.ppk", *where)
        assert status == 0, said
        assert (client.directory / "b.pdf").read_bytes() == CONTENT

    tell(world, tmp_path, story)
    assert content(world, "a.pdf") == CONTENT
