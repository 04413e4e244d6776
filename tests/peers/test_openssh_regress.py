"""What OpenSSH's own tests ask of a server, run with the machine's sftp and scp: the table of openssh_table.py."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from gateway.errors import NotFound
from tests.dropfolder.test_sandbox import put
from tests.dropfolder.world import World
from tests.peers import program, requires
from tests.peers.openssh_table import PAGE, STEPS, Step, page
from tests.peers.test_sftp_peers import SSH, Client, world
from tests.servers.sftp_world import listening
from tests.servers.test_uploads import content

__all__ = ["world"]
pytestmark = requires("sftp")
CONTENT = os.urandom(20_011)


def prepared(world: World, client: Client, place: str) -> Path:
    """A step's own directory on either side."""
    here, visit = client.directory / place, world.visit()
    (here / "box").mkdir(parents=True)
    for name in ("data", "lx", "ly", "box/inside"):
        (here / name).write_bytes(CONTENT)
    for name in ("", "/box"):
        visit.make_directory(f"/sandbox/{place}{name}")
    for name in ("data", "rx", "ry", "box/inside"):
        put(visit, f"/sandbox/{place}/{name}", CONTENT)
    put(visit, f"/sandbox/{place}/long", CONTENT + CONTENT)
    return here


async def run(step: Step, client: Client, place: str) -> tuple[int, str]:
    """Exit status, and what was said."""
    port = str(client.listener.port)
    known = {"user": "acme", "port": port, "place": place}
    arguments = [argument.format_map(known) for argument in step.arguments]
    tool = Path(program("sftp")).with_name(step.program)
    if step.program == "scp":
        return await client.run(tool, "-s", *SSH, "-P", port, *arguments)
    commands = [re.sub(r"\{place\}", place, command) for command in step.commands]
    commands += [f"ls -l {pattern}" for pattern, _, _ in step.lists]
    where = (
        arguments if any("://" in argument for argument in arguments) else [*arguments, "-P", port, "acme@127.0.0.1"]
    )
    if where[-1] == "acme@127.0.0.1":
        commands = [f"lcd {place}", f"cd /sandbox/{place}", *commands]
    batch = ["-b", "-"] if commands else []
    return await client.run(tool, *SSH, *batch, *where, stdin="\n".join(commands))


def check(step: Step, world: World, here: Path, place: str, status: int, said: str) -> None:
    """What must be true after a step."""
    assert (status == 0) is step.is_done, said
    for words in step.says:
        assert words in said
    for name in step.here:
        assert (here / name).read_bytes() == CONTENT, name
    for name in step.there:
        assert content(world, f"{place}/{name}") == CONTENT, name
    for name in step.gone:
        assert not (here / name).exists(), name
        with pytest.raises(NotFound):
            world.visit().stat(f"/sandbox/{place}/{name}")
    listings = said.split("sftp> ls -l ")[1:]
    for listing, (pattern, wanted, unwanted) in zip(listings, step.lists, strict=True):
        _, _, listed = listing.partition("\n")
        assert wanted in listed, pattern
        assert unwanted not in listed, pattern


SCRIPTS = list(dict.fromkeys(step.script for step in STEPS))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_of_openssh_finds_what_it_asks_for(script: str, world: World, tmp_path: Path) -> None:
    """Its own server is what programs around its client were written against; docs/openssh.md says what differs."""

    async def main() -> None:
        async with listening(world, tmp_path / "server") as listener:
            client = Client(tmp_path / "client", listener)
            for number, step in enumerate(step for step in STEPS if step.script == script):
                here = prepared(world, client, f"s{number}")
                status, said = await run(step, client, f"s{number}")
                try:
                    check(step, world, here, f"s{number}", status, said)
                except AssertionError as error:
                    raise AssertionError(f"{step.what}: {said}") from error

    (tmp_path / "server").mkdir()
    asyncio.run(main())


def test_the_page_tells_of_these_steps() -> None:
    """docs/openssh.md is printed from the table, never typed."""
    assert PAGE.read_text() == page(), "make docs/openssh.md"
