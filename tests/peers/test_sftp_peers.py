"""The drop folder as the programs that clients run see it: OpenSSH's sftp and scp, lftp, curl."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from gateway import clock
from gateway.domain.folders import Folder, ReceiptMode, SshKey
from gateway.store.blobs import LocalBlobs
from tests.dropfolder.world import World, on_sqlite
from tests.peers import program, requires
from tests.servers.sftp_world import Listener, eventually, listening

pytestmark = requires("sftp")
CONTENTS = [hashlib.sha256(b"%d" % i).digest() * (50 + 3000 * i * i) for i in range(7)]  # up to 3.4 MB
SSH = (
    "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=known_hosts", "-o", "IdentitiesOnly=yes",
    "-o", "IdentityFile=id", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
)  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, blobs: LocalBlobs) -> Iterator[World]:
    with on_sqlite(tmp_path, blobs) as made:
        yield made


class Client:
    """A client's directory with its key, and the programs run in it."""

    def __init__(self, directory: Path, listener: Listener) -> None:
        self.directory = directory
        self.listener = listener
        directory.mkdir(exist_ok=True)
        listener.key.write_private_key(directory / "id")
        listener.key.write_public_key(directory / "id.pub")
        (directory / "id").chmod(0o600)

    async def run(self, *command: str | Path, stdin: str = "") -> tuple[int, str]:
        """Exit status, and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *map(str, command), cwd=self.directory, env={"HOME": str(self.directory), "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def sftp(self, *commands: str) -> tuple[int, str]:
        """OpenSSH's sftp in batch mode: it stops at the first command that fails."""
        where = ("-P", str(self.listener.port), "acme@127.0.0.1")
        return await self.run(program("sftp"), *SSH, "-b", "-", *where, stdin="\n".join(commands))

    async def lftp(self, script: str) -> tuple[int, str]:
        connect = f"ssh -a -x {' '.join(SSH)}"
        settings = (
            f"set cmd:fail-exit yes; set net:max-retries 1; set net:timeout 20; set sftp:connect-program {connect!r}"
        )
        where = f"open -u acme,x -p {self.listener.port} sftp://127.0.0.1"
        result = await self.run(program("lftp"), "--norc", "-c", f"{settings}; {where}; {script}")
        await eventually(lambda: not self.listener.server.connections)  # it does not wait for the answer to a CLOSE
        return result

    async def curl(self, path: str, *options: str) -> tuple[int, str]:
        key = ("--insecure", "--key", "id", "--pubkey", "id.pub", "-u", "acme:")
        url = f"sftp://127.0.0.1:{self.listener.port}{path}"
        return await self.run(program("curl"), "-sS", *key, url, *options)

    def got(self, folder: str = ".") -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.directory / folder).glob("*_ORIG*")}


Story = Callable[[Client, list[str]], Awaitable[None]]


def tell(world: World, tmp_path: Path, story: Story, mode: ReceiptMode = ReceiptMode.DELETE) -> None:
    """Publish the documents and let a client do what it does."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            names = listener.publish(*CONTENTS)
            await story(Client(tmp_path / "client", listener), names)

    world.set(Folder, world.folder.id, receipt_mode=mode)
    asyncio.run(main())


def received(world: World) -> list[bool]:
    return [entry.received_at is not None for entry in world.entries()]


HABITS = [  # commands on one document, and whether they are the receipt in mode delete
    (["get {0} {1}", "rm {0}"], True),
    (["get {0} {1}", "get {0} {1}"], False),
    (["mkdir done", "rename {0} done/{0}", "get done/{0} {1}", "rm done/{0}"], True),
    (["rename {0} {0}.done", "get {0}.done {1}"], True),
    (["get {0} {1}", "rename {0} {0}.done", "ls -l"], True),
    (["get {0} {1}", "chmod 600 {0}", "ls -l"], False),
    (["get {0} {1}", "reget {0} {1}"], False),
]


@pytest.mark.parametrize("mode", list(ReceiptMode))
def test_every_habit_ends_green_in_every_mode(world: World, tmp_path: Path, mode: ReceiptMode) -> None:
    """An ERP's script stops at the first command that fails: none may, whatever the folder's mode."""

    async def story(client: Client, names: list[str]) -> None:
        for name, content, (commands, _) in zip(names, CONTENTS, HABITS, strict=True):
            copy = f"copy_of_{name}"
            code, output = await client.sftp("cd inbox", *(command.format(name, copy) for command in commands))
            assert code == 0, output
            assert client.got()[copy] == content

    tell(world, tmp_path, story, mode)
    receipts = {ReceiptMode.DELETE: [habit[1] for habit in HABITS], ReceiptMode.FULL_READ: [True] * len(HABITS)}
    assert received(world) == receipts.get(mode, [False] * len(HABITS))


def test_a_download_that_is_killed_and_resumed_is_received(world: World, tmp_path: Path) -> None:
    """reget after a kill -9: what the first one had taken, and the rest."""

    async def story(client: Client, names: list[str]) -> None:
        name, content = names[-1], CONTENTS[-1]
        where = ("-P", str(client.listener.port), "acme@127.0.0.1")
        killed = await asyncio.create_subprocess_exec(
            program("sftp"), *SSH, "-l", "8000", "-b", "-", *where, cwd=client.directory, stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert killed.stdin is not None
        killed.stdin.write(f"get inbox/{name}\n".encode())
        await eventually(lambda: sum(map(len, client.got().values())) > 500_000)
        killed.kill()
        await killed.wait()
        await eventually(lambda: not client.listener.server.connections)
        assert 500_000 < len(client.got()[name]) < len(content)
        code, output = await client.sftp(f"reget inbox/{name}")
        assert code == 0, output
        assert client.got() == {name: content}

    tell(world, tmp_path, story, ReceiptMode.FULL_READ)
    assert received(world) == [False] * 6 + [True]


def test_sftp_gets_all_removes_all_and_finds_the_archive(world: World, tmp_path: Path) -> None:
    """The commonest errand; sizes and times in the listing are those of the files."""

    async def story(client: Client, names: list[str]) -> None:
        code, output = await client.sftp("cd inbox", "ls -l", "get -p *", "rm *", "ls", "cd ../archive", "ls -l")
        assert code == 0, output
        assert client.got() == dict(zip(names, CONTENTS, strict=True))
        lines = [line.split() for line in output.splitlines() if line.startswith("-r--r-----")]
        assert [(int(line[4]), line[8]) for line in lines] == [
            (len(content), name) for name, content in zip(names, CONTENTS, strict=True)
        ]
        assert {int((client.directory / name).stat().st_mtime) for name in names} == {
            entry.mtime for entry in world.entries()
        }

    tell(world, tmp_path, story)
    assert received(world) == [True] * 7


REFUSALS = {
    "rm inbox/none": "No such file",
    "get inbox/none": "not found",
    "get ../../../../etc/passwd": "not found",
    "put id": "Permission denied",
    "put id inbox/id": "Permission denied",
    "mkdir x": "Permission denied",
    "rename inbox archive/x": "Failure",
    "rename inbox/{0} archive/x": "Permission denied",
    "rename inbox/{0} inbox/{1}": "Failure",
    "rmdir inbox": "Permission denied",
    "ln -s /etc/passwd inbox/x": "Operation unsupported",
    "ln inbox/{0} inbox/x": "not support",
}


def test_sftp_says_why_not(world: World, tmp_path: Path) -> None:
    """In OpenSSH's own words for each status; nothing has changed afterwards."""

    async def story(client: Client, names: list[str]) -> None:
        for command, said in REFUSALS.items():
            code, output = await client.sftp(command.format(*names))
            assert code == 1, output
            assert said in output, output

    tell(world, tmp_path, story)
    assert all(entry.listed and entry.path is None for entry in world.entries())


def test_removed_before_reading_is_no_receipt(world: World, tmp_path: Path) -> None:
    """And the bytes are still in the archive."""

    async def story(client: Client, names: list[str]) -> None:
        month = world.entry(names[0]).month.replace("-", "/")
        code, output = await client.sftp(f"rm inbox/{names[0]}")
        assert code == 0, output
        assert not any(received(world))
        code, output = await client.sftp(f"get archive/{month}/{names[0]}")
        assert code == 0, output
        assert client.got() == {names[0]: CONTENTS[0]}

    tell(world, tmp_path, story)
    assert received(world) == [True, *[False] * 6]


def test_scp_copies_and_ends_with_status_0(world: World, tmp_path: Path) -> None:
    """OpenSSH 9's scp speaks SFTP; the old protocol is told what to use instead."""

    async def story(client: Client, names: list[str]) -> None:
        scp = Path(program("sftp")).with_name("scp")
        where = ("-P", str(client.listener.port), f"acme@127.0.0.1:inbox/{names[6]}", ".")
        code, output = await client.run(scp, "-s", *SSH, *where)
        assert code == 0, output
        assert client.got() == {names[6]: CONTENTS[6]}
        code, output = await client.run(scp, "-O", *SSH, *where)
        assert code != 0
        assert "SFTP" in output

    tell(world, tmp_path, story, ReceiptMode.FULL_READ)
    assert received(world) == [*[False] * 6, True]


@requires("lftp")
def test_lftp_mirrors_and_removes(world: World, tmp_path: Path) -> None:
    """The whole inbox, sources removed; a second run finds nothing."""

    async def story(client: Client, names: list[str]) -> None:
        for _ in range(2):
            code, output = await client.lftp("mirror --Remove-source-files --parallel=2 inbox here")
            assert code == 0, output
        assert client.got("here") == dict(zip(names, CONTENTS, strict=True))

    tell(world, tmp_path, story)
    assert received(world) == [True] * 7


@requires("lftp")
@pytest.mark.parametrize("script", ["pget -n 4 inbox/{0} -o a_ORIG; cls", "get inbox/{0} -o a_ORIG; cls"])
def test_lftp_reads_in_parallel_chunks(world: World, tmp_path: Path, script: str) -> None:
    """Four handles on one file, each a part: together they are a full read.

    With nothing to do after a get, lftp ends so fast that its ssh often takes the CLOSE along unsent: cls waits.
    """

    async def story(client: Client, names: list[str]) -> None:
        code, output = await client.lftp(script.format(names[6]))
        assert code == 0, output
        assert client.got() == {"a_ORIG": CONTENTS[6]}

    tell(world, tmp_path, story, ReceiptMode.FULL_READ)
    assert received(world) == [*[False] * 6, True]


@requires("lftp")
def test_lftp_moves_and_lists(world: World, tmp_path: Path) -> None:
    """mv, mkdir, cls, du, find: what its users type."""

    async def story(client: Client, names: list[str]) -> None:
        code, output = await client.lftp(
            f"cd inbox; mkdir done; mv {names[0]} done/{names[0]}; cls -l; find; du; "
            f"cat done/{names[0]} > a_ORIG; rm {names[1]}"
        )
        assert code == 0, output
        assert f"done/{names[0]}" in output
        assert client.got()["a_ORIG"] == CONTENTS[0]

    tell(world, tmp_path, story)
    assert received(world) == [True, *[False] * 6]


@requires("curl")
def test_curl_resumes_where_it_was_cut(world: World, tmp_path: Path) -> None:
    """The first half, then the rest at its offset; then it is removed."""

    async def story(client: Client, names: list[str]) -> None:
        if "sftp" not in (await client.run(program("curl"), "--version"))[1]:
            pytest.skip("this curl was built without SFTP")
        half = len(CONTENTS[6]) // 2
        (client.directory / "a_ORIG").write_bytes(CONTENTS[6][:half])
        path = f"/inbox/{names[6]}"
        code, output = await client.curl(path, "-r", f"0-{half - 1}", "-o", "half_ORIG")
        assert code == 0, output
        assert world.entry(names[6]).fully_read_at is None
        code, output = await client.curl(path, "-C", "-", "-o", "a_ORIG", "-Q", f"-rm {path}")
        assert code == 0, output
        assert client.got() == {"half_ORIG": CONTENTS[6][:half], "a_ORIG": CONTENTS[6]}

    tell(world, tmp_path, story)
    assert received(world) == [*[False] * 6, True]


@requires("ssh-keygen")
def test_openssh_logs_in_with_every_kind_of_key(world: World, tmp_path: Path) -> None:
    """Ed25519, ECDSA and RSA, as ssh-keygen makes them, against both host keys."""

    async def story(client: Client, names: list[str]) -> None:
        for kind, host_key in (("ed25519", "ssh-ed25519"), ("ecdsa", "rsa-sha2-256"), ("rsa", "rsa-sha2-512")):
            (client.directory / "id").unlink()
            await client.run(program("ssh-keygen"), "-q", "-t", kind, "-N", "", "-f", "id")
            _, printed = await client.run(program("ssh-keygen"), "-l", "-f", "id.pub")
            world.add(
                SshKey(
                    folder_id=world.folder.id, fingerprint=printed.split()[1], public_key="-", label=kind,
                    created_by="test", created_at=clock.now(),
                )
            )  # fmt: skip
            where = ("-P", str(client.listener.port), "acme@127.0.0.1")
            options = (*SSH, "-o", f"HostKeyAlgorithms={host_key}")
            code, output = await client.run(program("sftp"), *options, "-b", "-", *where, stdin="ls inbox")
            assert code == 0, output

    tell(world, tmp_path, story)


SIZES = [(5, 1), (1_000, 10), (32_768, 64), (64_000, 2)]  # -B: bytes a request, -R: requests at once


@pytest.mark.parametrize(("size", "requests"), SIZES)
def test_any_size_and_number_of_requests_gives_the_same_bytes(
    world: World, tmp_path: Path, size: int, requests: int
) -> None:
    """As OpenSSH's own tests of its client do it, against its server."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            content = os.urandom(min(size * 300, 3_000_000) + 1)
            (name,) = listener.publish(content)
            client = Client(tmp_path / "client", listener)
            where = ("-P", str(listener.port), "acme@127.0.0.1")
            status, said = await client.run(
                program("sftp"), *SSH, "-B", str(size), "-R", str(requests), "-b", "-", *where,
                stdin=f"get inbox/{name}",
            )  # fmt: skip
            assert status == 0, said
            assert client.got()[name] == content

    asyncio.run(main())


def test_a_batch_ends_where_it_fails_patterns_select_and_a_url_names_the_file(world: World, tmp_path: Path) -> None:
    """`-` in front lets a command fail; sftp://user@host:port/path is one download."""

    async def story(client: Client, names: list[str]) -> None:
        status, said = await client.sftp("-get inbox/none", "get inbox/*_ORIG.pdf", "lmkdir again", "lcd again", "ls")
        assert status == 0, said
        assert set(client.got()) == set(names)
        status, _ = await client.sftp("get inbox/none", "lmkdir never")
        assert status == 1
        assert not (client.directory / "never").exists()
        url = f"sftp://acme@127.0.0.1:{client.listener.port}/inbox/{names[0]}"
        status, said = await client.run(program("sftp"), *SSH, url, "again/")
        assert status == 0, said
        assert set(client.got("again")) == {names[0]}

    tell(world, tmp_path, story)
