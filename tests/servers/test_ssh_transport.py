"""The levers inside asyncssh's transport: the same bytes, the same rules on the wire, and stock where in doubt."""

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from structlog.testing import capture_logs

from gateway.servers import ssh_transport
from gateway.servers.sftpd import SftpServer
from gateway.servers.ssh_algorithms import MODERN
from tests.dropfolder.world import World
from tests.servers.sftp_world import Listener, listening

LEVERS = ("STEER", "SILENT", "CACHED", "LARGE", "DIRECT", "QUIET", "KEPT", "PROMPT")


async def _fetch(listener: Listener, name: str, **options: Any) -> tuple[bytes, asyncssh.SSHClientConnection]:
    async with (
        listener.connect(**options) as connection,
        connection.start_sftp_client() as client,
        client.open(f"inbox/{name}", "rb", block_size=200_000) as file,
    ):
        return bytes(await file.read()), connection


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """New keys after each 300 KB, not after a gigabyte."""
    stock = SftpServer._options
    monkeypatch.setattr(SftpServer, "_options", lambda self, offer: {**stock(self, offer), "rekey_bytes": 300_000})


async def _same_across_keys(cipher: str, world: World, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    async with listening(world, tmp_path) as listener:
        (name,) = listener.publish(content)
        fetched, _ = await _fetch(listener, name, encryption_algs=[cipher])
        assert fetched == content


@pytest.mark.parametrize("cipher", MODERN.ciphers)
def test_a_download_across_new_keys_is_the_same_bytes_with_each_cipher(
    cipher: str, often: None, world: World, tmp_path: Path
) -> None:
    """The fast way is left and found again at each key exchange; a byte or a counter too many would end it."""
    asyncio.run(_same_across_keys(cipher, world, tmp_path))


async def _stat_behind_a_lost_packet(world: World, tmp_path: Path) -> None:
    async with (
        listening(world, tmp_path) as listener,
        listener.connect(encryption_algs=["aes128-gcm@openssh.com"]) as connection,
        connection.start_sftp_client() as client,
    ):
        assert await client.exists("inbox")
        encryption: Any = connection._send_encryption
        encryption.encrypt_packet(0, bytes(4), bytes(16))  # sent, and taken out of the stream on its way
        await client.stat("inbox")


def test_a_packet_that_is_missing_ends_the_connection(world: World, tmp_path: Path) -> None:
    """The counter of AES-GCM stands for the packet's number (RFC 5647 7.1): to try the next one too would hide it."""
    with pytest.raises((asyncssh.Error, OSError)) as caught, capture_logs() as logs:
        asyncio.run(_stat_behind_a_lost_packet(world, tmp_path))
    assert "MAC" in f"{caught.value!r} {logs}"


@pytest.mark.parametrize("off", LEVERS)
def test_each_lever_can_be_switched_off_alone(
    off: str, often: None, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in one must not cost the others."""
    monkeypatch.setattr(ssh_transport, off, False)
    asyncio.run(_same_across_keys("aes128-gcm@openssh.com", world, tmp_path))


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["chacha20-poly1305@openssh.com", "aes128-ctr", "aes128-gcm@openssh.com"], "aes128-gcm@openssh.com"),
        (["chacha20-poly1305@openssh.com", "aes128-ctr"], "chacha20-poly1305@openssh.com"),
    ],
)
def test_who_knows_gcm_is_led_to_it_and_nobody_else(
    offered: list[str], chosen: str, world: World, tmp_path: Path
) -> None:
    """OpenSSH prefers chacha20, which costs twice as much; PuTTY and JSch have no GCM."""

    async def scenario() -> None:
        async with listening(world, tmp_path) as listener, listener.connect(encryption_algs=offered) as connection:
            assert connection.get_extra_info("recv_cipher") == chosen
            assert connection.get_extra_info("send_cipher") == chosen
            assert connection._strict_kex, "the answer to Terrapin holds"

    asyncio.run(scenario())


def test_a_client_that_waits_for_our_key_exchange_gets_it(world: World, tmp_path: Path) -> None:
    """RFC 4253 7.1 lets both sides begin; one that waits for the other must not wait for ever."""

    async def scenario() -> None:
        async with listening(world, tmp_path) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"SSH-2.0-patient\r\n")
            assert (await reader.readline()).startswith(b"SSH-2.0-gateway")
            head = await asyncio.wait_for(reader.readexactly(6), 5)
            assert head[5] == 20, "MSG_KEXINIT"
            offered = await reader.readexactly(int.from_bytes(head[:4], "big") - 2)
            assert b"chacha20-poly1305@openssh.com" in offered
            writer.close()

    asyncio.run(scenario())


def test_another_version_of_the_library_is_served_by_its_own_connection(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the levers reach into may mean something else there."""
    monkeypatch.setattr(ssh_transport, "VERSION", "2.23.")

    async def scenario() -> None:
        with capture_logs() as logs:
            async with listening(world, tmp_path) as listener:
                (name,) = listener.publish(b"%PDF-")
                assert (await _fetch(listener, name))[0] == b"%PDF-"
        assert {line["log_level"] for line in logs if line["event"] == "sftp.stock_transport"} == {"warning"}

    asyncio.run(scenario())


def test_this_library_is_the_one_that_it_was_written_for(world: World, tmp_path: Path) -> None:
    """Else every listener would quietly be slow."""

    async def scenario() -> None:
        with capture_logs() as logs:
            async with listening(world, tmp_path):
                pass
        assert not [line for line in logs if line["event"] == "sftp.stock_transport"]

    asyncio.run(scenario())


async def _seconds_of_a_client_that_writes_in_pieces(world: World, tmp_path: Path) -> float:
    """A hundred questions; the length of each packet goes out alone, the rest when the system lets it."""
    async with listening(world, tmp_path) as listener, listener.connect() as connection:
        transport = connection._transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        whole = transport.write
        async with connection.start_sftp_client() as client:

            def in_pieces(data: bytes) -> None:
                for piece in (data[:4], data[4:]):
                    whole(piece)

            transport.write = in_pieces
            began = time.monotonic()
            for _ in range(100):
                await client.stat("inbox")
            return time.monotonic() - began


def test_a_client_that_writes_in_pieces_is_not_kept_waiting_for_acknowledgements(world: World, tmp_path: Path) -> None:
    """Its system holds back what follows until ours has acknowledged (Nagle): with ours left alone, four seconds."""
    assert asyncio.run(_seconds_of_a_client_that_writes_in_pieces(world, tmp_path)) < 2
