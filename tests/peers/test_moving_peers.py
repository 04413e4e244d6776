"""OpenSSH's own client after the move: the known_hosts and the key from before, nothing changed on its side."""

import asyncio
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncssh
import pytest

from gateway import clock
from gateway.access import Actor, Role
from gateway.domain.folders import Folder
from gateway.dropfolder import host_keys
from gateway.errors import Refused
from gateway.parties import moving_in
from gateway.parties.moving_in import Issuer, Line
from gateway.servers.host_key_files import HostKeyFiles, read
from gateway.servers.ssh_keys import public_line
from tests.dropfolder.world import World
from tests.peers import program, requires
from tests.servers.sftp_world import eventually, listening

from .test_sftp_peers import Client, world

__all__ = ["world"]
pytestmark = requires("sftp", "ssh-keygen")
STRICT = ("-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=known_hosts", "-o",
          "IdentitiesOnly=yes", "-o", "IdentityFile=id", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o",
          "UpdateHostKeys=yes")  # fmt: skip


async def _made_by_ssh_keygen(directory: Path, kind: str, passphrase: str = "") -> asyncssh.SSHKey:
    """A host key as a server before had it."""
    path = directory / f"ssh_host_{kind}_key"
    process = await asyncio.create_subprocess_exec(
        program("ssh-keygen"), "-q", "-t", kind, "-N", passphrase, "-f", path
    )
    assert await process.wait() == 0
    return read(path.read_bytes())


async def _pull(client: Client) -> tuple[int, str]:
    where = ("-P", str(client.listener.port), "acme@127.0.0.1")
    return await client.run(program("sftp"), *STRICT, "-b", "-", *where, stdin="get inbox/*")


def test_a_client_with_its_old_known_hosts_logs_in_and_learns_the_key_that_is_to_come(
    world: World, tmp_path: Path
) -> None:
    """A host key that changes without notice stops every ERP at once."""

    async def story() -> None:
        old, new = await _made_by_ssh_keygen(tmp_path, "rsa"), await _made_by_ssh_keygen(tmp_path, "ed25519")
        state = tmp_path / "state"
        state.mkdir()
        HostKeyFiles(state).install([old])
        HostKeyFiles(state).announce(new)
        async with listening(world, state) as listener:
            listener.publish(b"one", b"two")
            client = Client(tmp_path / "client", listener)
            known = tmp_path / "client" / "known_hosts"
            known.write_text(f"[127.0.0.1]:{listener.port} {public_line(old)}\n")
            assert (await _pull(client))[0] == 0
            assert len(client.got()) == 2
            await eventually(lambda: public_line(new) in known.read_text())
            assert public_line(old) in known.read_text()

            def proven() -> dict[str, int]:
                return {one.fingerprint: one.proven for one in world.db.read(host_keys.known)}

            await eventually(lambda: proven().get(new.get_fingerprint()) == 1)
        HostKeyFiles(state).serve(new.get_fingerprint())
        HostKeyFiles(state).retire(old.get_fingerprint())
        async with listening(world, state) as listener:
            known.write_text(known.read_text().replace(f":{client.listener.port}", f":{listener.port}"))
            assert (await _pull(Client(tmp_path / "client", listener)))[0] == 0

    asyncio.run(story())


def test_a_passphrase_of_openssh_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Half an answer would be to ask for a passphrase that then opens nothing."""
    with pytest.raises(Refused, match="ssh-keygen -p"):
        asyncio.run(_made_by_ssh_keygen(tmp_path, "ed25519", "secret"))


def test_a_script_that_goes_where_the_files_were_finds_them_and_itself_there(world: World, tmp_path: Path) -> None:
    """`cd`, `pwd`, a relative `get`, `rename` and `rm` under the old path."""

    async def story() -> tuple[int, str, Client]:
        world.set(Folder, world.folder.id, path_map=[["/out/factures", "/inbox"]])
        async with listening(world, tmp_path) as listener:
            one, two = listener.publish(b"one", b"two")
            client = Client(tmp_path / "client", listener)
            code, said = await client.sftp(
                "cd /out", "ls", "cd factures", "pwd", "get *_ORIG*", f"rename {one} /out/factures/done.pdf",
                f"rm {two}", "ls /inbox",
            )  # fmt: skip
            return code, said, client

    code, said, client = asyncio.run(story())
    assert code == 0, said
    assert "Remote working directory: /out/factures" in said
    assert sorted(client.got().values()) == [b"one", b"two"]
    assert [entry.received_at is not None for entry in world.entries()] == [True, True]


def test_an_account_that_was_imported_logs_in_as_before(world: World, tmp_path: Path) -> None:
    """Its name, its key out of authorized_keys, the old host key out of its known_hosts: nothing changed for it."""

    async def story() -> tuple[int, str]:
        old = await _made_by_ssh_keygen(tmp_path, "ecdsa")
        state = tmp_path / "state"
        state.mkdir()
        HostKeyFiles(state).install([old])
        key = asyncssh.generate_private_key("ssh-ed25519", comment="erp@fonderie")
        keys = f'from="127.0.0.0/8",restrict,command="internal-sftp" {key.export_public_key().decode()}'
        line = Line("Fonderie", "ftp.Fonderie@est", authorized_keys=keys)
        issuer = Issuer(clock.now().date(), ZoneInfo("Europe/Paris"), "1")
        (report,) = moving_in.take(world.db, Actor("cli:test", "operator", None, Role.ADMIN), [line], issuer)
        assert [one.outcome for one in report.keys] == ["added"]
        async with listening(world, state) as listener:
            listener.key = key
            client = Client(tmp_path / "client", listener)
            (client.directory / "known_hosts").write_text(f"[127.0.0.1]:{listener.port} {public_line(old)}\n")
            where = ("-P", str(listener.port), "ftp.Fonderie@est@127.0.0.1")
            return await client.run(program("sftp"), *STRICT, "-b", "-", *where, stdin="ls")

    code, said = asyncio.run(story())
    assert code == 0, said
    assert "inbox" in said
