"""The legacy listener: what ten-year-old programs need, for clients with a permit alone, from their own addresses."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from structlog.testing import capture_logs

from gateway import clock
from gateway.config import SftpLegacySettings, SftpSettings
from gateway.domain.folders import Folder, LegacyPermit, SshKey
from gateway.pools import ThreadPool
from gateway.servers import sftpd
from gateway.servers.sftpd import SftpServer
from gateway.servers.ssh_algorithms import LEGACY, MODERN
from tests.dropfolder.world import World
from tests.servers.ftps_world import PASSWORD, with_password
from tests.servers.sftp_world import Listener, Raw, eventually, listening

HERE = ["127.0.0.0/8"]
# What each of them offers that is neither DES, RC4, MD5, DSA nor 1,024 bits, as its source has it.
OLD: dict[str, dict[str, Any]] = {
    "JSch 0.1.5x": {
        "kex_algs": ["diffie-hellman-group14-sha1"], "encryption_algs": ["aes128-ctr", "aes128-cbc"],
        "mac_algs": ["hmac-sha1"], "server_host_key_algs": ["ssh-rsa"], "signature_algs": ["ssh-rsa"],
    },
    "paramiko 1.16": {
        "kex_algs": ["diffie-hellman-group14-sha1"], "encryption_algs": ["aes128-cbc"],
        "mac_algs": ["hmac-sha1"], "server_host_key_algs": ["ssh-rsa"], "signature_algs": ["ssh-rsa"],
    },
    "SSH.NET 2016": {
        "kex_algs": ["diffie-hellman-group14-sha1"], "encryption_algs": ["aes256-ctr", "aes256-cbc"],
        "mac_algs": ["hmac-sha2-256", "hmac-sha1"], "server_host_key_algs": ["ssh-rsa"], "signature_algs": ["ssh-rsa"],
    },
}  # fmt: skip


def permit(world: World, **values: Any) -> LegacyPermit:
    """A permit for the client, in force unless the values say otherwise; its folder is bound to this machine."""
    world.set(Folder, world.folder.id, networks=HERE)
    now = clock.now()
    facts: dict[str, Any] = {"client_id": world.client.id, "reason": "old ERP", "created_by": "test", "created_at": now}
    row = LegacyPermit(**{**facts, "ends_at": now + dt.timedelta(days=1), **values})
    world.add(row)
    return row


def rsa_key(world: World) -> asyncssh.SSHKey:
    """The folder's key, which old programs can use."""
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    world.set(SshKey, world.key.id, fingerprint=key.get_fingerprint())
    return key


@pytest.mark.parametrize("program", OLD)
def test_an_old_program_with_a_permit_pulls(world: World, tmp_path: Path, program: str) -> None:
    """Key exchange, host key and log-in by SHA-1; on the main listener the same program is refused."""
    permit(world)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            key = rsa_key(world)
            (name,) = listener.publish(b"old but paid for")
            async with (
                listener.sftp(port=listener.legacy_port, client_keys=[key], **OLD[program]) as sftp,
                sftp.open(f"inbox/{name}", "rb") as file,
            ):
                content: Any = await file.read()
                assert content == b"old but paid for"
            with pytest.raises(asyncssh.KeyExchangeFailed):
                async with listener.connect(client_keys=[key], **OLD[program]):
                    pass

    asyncio.run(main())


def test_the_main_listener_takes_no_sha_1_signature(world: World, tmp_path: Path) -> None:
    """asyncssh announces our list and verifies whatever it knows; the log says what the client signed with."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            key = rsa_key(world)
            (pair,) = asyncssh.load_keypairs([key])
            pair.sig_algorithms = [b"ssh-rsa"]
            with capture_logs() as logs:
                with pytest.raises(asyncssh.PermissionDenied):
                    async with listener.connect(client_keys=[pair], signature_algs=["ssh-rsa"]):
                        pass
                await eventually(lambda: any(one["event"] == "login.failed" for one in logs))
            (failed,) = [one for one in logs if one["event"] == "login.failed"]
            assert failed["reasons"] == ["signature ssh-rsa"]
            async with listener.sftp(client_keys=[key]) as sftp:
                assert await sftp.listdir("inbox") == []

    asyncio.run(main())


def test_nothing_broken_is_offered_even_there() -> None:
    """DES, RC4, MD5 and DSA are out, and what Terrapin breaks where no strict key exchange is spoken."""
    for offer in (MODERN, LEGACY):
        offered = [*offer.key_exchange, *offer.ciphers, *offer.macs, *offer.signatures]
        for word in ("des", "arcfour", "rc4", "md5", "dss", "group1-", "-96", "group-exchange", "blowfish", "cast"):
            assert not [name for name in offered if word in name]
    assert not [name for name in (*LEGACY.ciphers, *LEGACY.macs) if "chacha20" in name or "etm" in name]
    modern = [*MODERN.key_exchange, *MODERN.ciphers, *MODERN.macs, *MODERN.signatures]
    assert not [name for name in modern if name.endswith(("sha1", "cbc")) or name == "ssh-rsa"]


@pytest.mark.parametrize(
    ("values", "networks"),
    [
        (None, HERE),
        ({"ends_at": clock.now() - dt.timedelta(seconds=1)}, HERE),
        ({"revoked_at": clock.now()}, HERE),
        ({}, None),
    ],
    ids=["no permit", "ended", "revoked", "no networks any more"],
)
def test_who_has_no_permit_is_told_so_once_its_key_was_right(
    world: World, tmp_path: Path, values: dict[str, Any] | None, networks: list[str] | None
) -> None:
    """And who has no key is told nothing of permits."""
    if values is not None:
        permit(world, **values)
    world.set(Folder, world.folder.id, networks=networks)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            with pytest.raises(
                (asyncssh.DisconnectError, asyncssh.ChannelOpenError), match=r"permit|closed"
            ) as refusal:
                async with listener.sftp(port=listener.legacy_port):
                    pass
            assert isinstance(refusal.value, asyncssh.ChannelOpenError) or "ask for one" in str(refusal.value)
            stranger = asyncssh.generate_private_key("ssh-ed25519")
            with pytest.raises(asyncssh.PermissionDenied):
                async with listener.connect(port=listener.legacy_port, client_keys=[stranger]):
                    pass
        assert world.sessions() == []

    asyncio.run(main())


def test_a_permit_opens_from_the_listed_addresses_alone(world: World, tmp_path: Path) -> None:
    """An address that is not listed is refused before anything is said of permits."""
    permit(world)
    world.set(Folder, world.folder.id, networks=["192.0.2.0/24"])

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            with pytest.raises(asyncssh.PermissionDenied):
                async with listener.connect(port=listener.legacy_port):
                    pass

    asyncio.run(main())


def test_a_permit_for_another_folder_opens_nothing(world: World, tmp_path: Path) -> None:
    """It may name one folder of a client that has several."""
    other = Folder(client_id=world.client.id, user_name="acme-2", formats=["pdf"], created_at=clock.now())
    world.add(other)
    row = permit(world, folder_id=other.id)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            with pytest.raises((asyncssh.DisconnectError, asyncssh.ChannelOpenError)):
                async with listener.sftp(port=listener.legacy_port):
                    pass
            world.set(LegacyPermit, row.id, folder_id=world.folder.id)
            async with listener.sftp(port=listener.legacy_port) as sftp:
                assert await sftp.listdir("inbox") == []

    asyncio.run(main())


def test_a_password_needs_a_permit_too(world: World, tmp_path: Path) -> None:
    """Where the settings let passwords in."""
    row = permit(world)
    with_password(world)

    async def main() -> None:
        by_password = {"client_keys": None, "password": PASSWORD, "username": "acme"}
        async with listening(world, tmp_path, passwords=True) as listener:
            async with listener.sftp(port=listener.legacy_port, **by_password) as sftp:
                assert await sftp.listdir("inbox") == []
            world.set(LegacyPermit, row.id, revoked_at=clock.now())
            with pytest.raises((asyncssh.DisconnectError, asyncssh.ChannelOpenError)):
                async with listener.sftp(port=listener.legacy_port, **by_password):
                    pass

    asyncio.run(main())


@pytest.mark.parametrize("end", ["revoked", "over"])
def test_the_end_of_a_permit_ends_its_sessions(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Within seconds; those on the main listener go on."""
    monkeypatch.setattr(sftpd, "SWEEP_SECONDS", 0.1)
    row = permit(world)

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.sftp() as modern:
            async with listener.connect(port=listener.legacy_port) as connection:
                await Raw.open(connection)
                ended: dict[str, Any] = {"revoked_at": clock.now()} if end == "revoked" else {"ends_at": clock.now()}
                world.set(LegacyPermit, row.id, **ended)
                await asyncio.wait_for(connection.wait_closed(), 10)
            assert await modern.listdir("inbox") == []

    asyncio.run(main())


def test_the_two_listeners_share_their_limits(world: World, tmp_path: Path) -> None:
    """A client has as many connections as it has, by whichever port it comes."""
    permit(world)

    async def main() -> None:
        async with (
            listening(world, tmp_path, connections_per_client=2) as listener,
            listener.sftp(),
            listener.sftp(port=listener.legacy_port),
        ):
            for port in (listener.port, listener.legacy_port):
                with pytest.raises((asyncssh.DisconnectError, asyncssh.ChannelOpenError)):
                    async with listener.sftp(port=port):
                        pass

    asyncio.run(main())


def test_a_modern_client_is_signed_by_sha_2_there_too(world: World, tmp_path: Path) -> None:
    """Old clients before and beside it leave no trace in the host key."""
    permit(world)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            key = rsa_key(world)
            for algorithm in ("ssh-rsa", "rsa-sha2-256", "ssh-rsa", "rsa-sha2-512"):
                await _host_key(listener, key, algorithm)
            await asyncio.gather(*(_host_key(listener, key, name.decode()) for name in LEGACY.rsa * 3))

    asyncio.run(main())


async def _host_key(listener: Listener, key: asyncssh.SSHKey, algorithm: str) -> None:
    options = {"client_keys": [key], "server_host_key_algs": [algorithm]}
    async with listener.connect(port=listener.legacy_port, **options) as connection:
        assert connection.get_server_host_key().get_algorithm() == "ssh-rsa"


def test_it_is_off_unless_the_settings_say_otherwise(world: World, tmp_path: Path) -> None:
    """One port, as before."""

    async def main() -> None:
        pool = ThreadPool("folder", 1)
        server = SftpServer(SftpSettings(listen="127.0.0.1:0"), world.folders, pool, tmp_path, SftpLegacySettings())
        assert len(await server.start()) == 1
        await server.close()
        pool.close()

    asyncio.run(main())
