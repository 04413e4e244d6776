"""The drop folder over FTPS as the programs that clients run see it: curl and lftp, explicit and implicit TLS."""

import hashlib
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.domain.folders import Folder, ReceiptMode
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.cluster import Cluster
from tests.dropfolder.world import World, on_sqlite
from tests.peers import program, requires
from tests.servers.ftps_world import PASSWORD, Listener, listening

CONTENTS = [hashlib.sha256(b"%d" % i).digest() * (50 + 3000 * i * i) for i in range(7)]  # up to 3.4 MB


@pytest.fixture
def world(tmp_path: Path, blobs: LocalBlobs) -> Iterator[World]:
    with on_sqlite(tmp_path, blobs) as made:
        yield made


class Client:
    """A client's directory, and the programs run in it."""

    def __init__(self, directory: Path, listener: Listener) -> None:
        self.directory = directory
        self.listener = listener
        directory.mkdir()

    def _run(self, *command: str | Path) -> tuple[int, str]:
        done = subprocess.run(
            command, cwd=self.directory, env={"HOME": str(self.directory), "PATH": os.environ["PATH"]}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def curl(self, path: str, *options: str, implicit: bool = False) -> tuple[int, str]:
        port, scheme = (self.listener.implicit_port, "ftps") if implicit else (self.listener.port, "ftp")
        trust = ("--ssl-reqd", "--cacert", str(self.listener.certificate), "-u", f"acme:{PASSWORD}")
        return self._run(program("curl"), "-sS", *trust, f"{scheme}://localhost:{port}{path}", *options)

    def lftp(self, script: str, *, implicit: bool = False) -> tuple[int, str]:
        settings = (
            f"set cmd:fail-exit yes; set net:max-retries 1; set net:timeout 20; set ftp:ssl-force yes; "
            f"set ssl:ca-file {self.listener.certificate}; set ftp:ssl-protect-data yes"
        )
        port, scheme = (self.listener.implicit_port, "ftps") if implicit else (self.listener.port, "ftp")
        where = f"open -u acme,{PASSWORD} -p {port} {scheme}://localhost"
        return self._run(program("lftp"), "--norc", "-c", f"{settings}; {where}; {script}")

    def got(self, folder: str = ".") -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.directory / folder).rglob("*_ORIG*")}


@pytest.fixture
def client(world: World, tmp_path: Path) -> Iterator[Client]:
    with listening(world, tmp_path) as listener:
        yield Client(tmp_path / "client", listener)


def published(client: Client) -> dict[str, bytes]:
    """Names and bytes of what was published."""
    return dict(zip(client.listener.publish(*CONTENTS), CONTENTS, strict=True))


def received(client: Client) -> list[bool]:
    return [entry.received_at is not None for entry in client.listener.world.entries()]


@requires("curl")
@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
def test_curl_pulls_what_was_published_and_it_counts_as_read(client: Client, implicit: bool) -> None:
    """One connection a file, as cron jobs do it; the answer comes only once the read is recorded."""
    world = client.listener.world
    world.set(Folder, world.folder.id, receipt_mode=ReceiptMode.FULL_READ)
    wanted = published(client)
    status, listed = client.curl("/inbox/", "--list-only", implicit=implicit)
    assert (status, listed.split()) == (0, list(wanted))
    for name in wanted:
        assert client.curl(f"/inbox/{name}", "-o", name, implicit=implicit) == (0, "")
    assert client.got() == wanted
    assert all(received(client))


@requires("curl")
def test_curl_resumes_and_deletes(client: Client) -> None:
    """The rest of a file that was cut, then everything once more for the receipt, then the delete."""
    name, content = list(published(client).items())[-1]
    (client.directory / name).write_bytes(content[:1_000_000])
    assert client.curl(f"/inbox/{name}", "-C", "-", "-o", name)[0] == 0
    assert client.got() == {name: content}
    assert client.listener.world.entry(name).fully_read_at is None
    assert client.curl(f"/inbox/{name}", "-o", name, "-Q", f"-DELE /inbox/{name}")[0] == 0
    assert client.listener.world.entry(name).received_at is not None


@requires("lftp")
@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
def test_lftp_mirrors_with_removal_in_parallel(client: Client, implicit: bool) -> None:
    """What most nightly jobs do; every file arrives once and is received."""
    wanted = published(client)
    status, said = client.lftp("mirror --Remove-source-files --parallel=3 inbox got", implicit=implicit)
    assert status == 0, said
    assert client.got("got") == wanted
    assert all(received(client))
    assert client.lftp("cls inbox", implicit=implicit) == (0, "")


@requires("lftp")
def test_lftp_renames_lists_and_is_told_what_does_not_exist(client: Client) -> None:
    """rename + get is a receipt; a name that is not there is an error that names it."""
    wanted = published(client)
    name = next(iter(wanted))
    status, said = client.lftp(f"cd inbox; mkdir done; mv {name} done/{name}; get done/{name}")
    assert status == 0, said
    assert client.got() == {name: wanted[name]}
    assert received(client)[0]
    status, said = client.lftp("get inbox/nothing.pdf")
    assert status != 0 and "nothing.pdf" in said


@requires("lftp")
def test_a_handshake_that_waits_costs_no_cpu(client: Client) -> None:
    """pyftpdlib would ask whether it can write until the client speaks: 48 CPU seconds per 1,000 files."""
    names = client.listener.publish(*[os.urandom(20_000) for _ in range(60)])
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    status, said = client.lftp("mirror inbox got")
    used = resource.getrusage(resource.RUSAGE_SELF)
    assert status == 0, said
    assert len(client.got("got")) == len(names)
    spent = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 0.03 * len(names) + 0.2 * (time.monotonic() - began), spent


@requires("lftp", "curl", "postgres")
def test_a_folder_on_postgresql_is_pulled_and_received_the_same(
    postgresql: Cluster, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """Reads, deletes and receipts of parallel connections meet in one folder's row there."""
    url = postgresql.create()
    database = Database.open(url)
    world = World(database, blobs)
    with listening(world, tmp_path) as listener:
        client = Client(tmp_path / "client", listener)
        wanted = published(client)
        status, said = client.lftp("mirror --Remove-source-files --parallel=3 inbox got")
        assert (status, client.got("got")) == (0, wanted), said
        assert all(received(client))
        name = next(iter(wanted))
        assert client.curl(f"/archive/{month(world)}/{name}", "-o", "again") == (0, "")
        assert (client.directory / "again").read_bytes() == wanted[name]
    world.close()
    database.close()
    postgresql.drop(url)


def month(world: World) -> str:
    """Where the archive has what was published."""
    return world.entries()[0].month.replace("-", "/")
