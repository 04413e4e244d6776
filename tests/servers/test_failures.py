"""Who cannot log in, and why: in words that tell the person who must mend it what to do."""

import asyncio
import contextlib
import datetime as dt
import ftplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from sqlmodel import select

from gateway import clock
from gateway.domain.folders import FailedConnection, Folder, SshKey
from gateway.dropfolder.failures import Failure
from gateway.errors import Unavailable
from gateway.pools import ThreadPool
from gateway.servers import failures
from gateway.servers.causes import CAUSES, of_login, of_tls
from gateway.servers.failures import Failures
from tests.dropfolder.world import World
from tests.servers import ftps_world
from tests.servers.sftp_world import Listener, eventually, listening
from tests.servers.test_sftp_legacy import OLD
from tests.servers.test_sftpd import REFUSED


def kept(world: World) -> list[FailedConnection]:
    return list(world.db.read(lambda tx: tx.exec(select(FailedConnection).order_by(FailedConnection.id)).all()))


async def refused(listener: Listener, **options: Any) -> FailedConnection:
    """Fail to log in; what was kept of it."""
    before = len(kept(listener.world))
    with pytest.raises((*REFUSED, asyncssh.KeyExchangeFailed, asyncssh.ChannelOpenError)):
        async with listener.sftp(**options):
            pass
    await eventually(lambda: not listener.server.connections)
    await listener.server.sweep()
    (row,) = kept(listener.world)[before:]
    return row


def test_a_negotiation_that_fails_says_what_was_offered_and_what_is_needed(world: World, tmp_path: Path) -> None:
    """That there is no common algorithm helps nobody: which, of what kind, and what to do."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            row = await refused(listener, **OLD["JSch 0.1.5x"])
            assert (row.code, row.protocol, row.user_name) == ("negotiation", "sftp", "")
            for part in (
                "offers only diffie-hellman-group14-sha1 as key exchange",
                "offers only ssh-rsa as host key",
                "needs one of ssh-ed25519, rsa-sha2-512, rsa-sha2-256",
                "hmac-sha1 as MAC",
                "ask the operator for a permit of the legacy listener",
            ):
                assert part in row.cause
            row = await refused(
                listener, port=listener.legacy_port, mac_algs=["hmac-md5"], encryption_algs=["aes128-cbc"]
            )
            assert (row.code, row.protocol) == ("negotiation", "sftp_legacy")
            assert "hmac-md5 as MAC" in row.cause and "permit" not in row.cause

    asyncio.run(main())


def test_each_log_in_that_fails_is_kept_with_its_cause(world: World, tmp_path: Path) -> None:
    """The client is told nothing; the operator reads it here."""
    past = clock.now() - dt.timedelta(seconds=1)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
            row = await refused(listener, client_keys=[rsa])
            assert (row.code, row.user_name) == ("unknown_key", "acme") and rsa.get_fingerprint() in row.cause
            assert "asyncssh" in row.banner.lower()
            world.set(SshKey, world.key.id, fingerprint=rsa.get_fingerprint())
            (pair,) = asyncssh.load_keypairs([rsa])
            pair.sig_algorithms = [b"ssh-rsa"]
            row = await refused(listener, client_keys=[pair], signature_algs=["ssh-rsa"])
            assert row.code == "signature" and "ssh-rsa only; this listener needs rsa-sha2-256" in row.cause
            row = await refused(listener, client_keys=[rsa], port=listener.legacy_port)
            assert row.code == "no_permit"
            assert (await refused(listener, client_keys=[rsa], username="nobody")).code == "unknown_user"
            for table, row_id, values, code in (
                (SshKey, world.key.id, {"expires_at": past}, "key_expired"),
                (SshKey, world.key.id, {"revoked_at": past}, "key_revoked"),
                (Folder, world.folder.id, {"networks": ["192.0.2.0/24"]}, "address"),
                (Folder, world.folder.id, {"disabled_at": past}, "folder_disabled"),
            ):
                world.set(table, row_id, **values)
                row = await refused(listener, client_keys=[rsa])
                assert (row.code, CAUSES[code] in row.cause) == (code, True)
                world.set(table, row_id, **dict.fromkeys(values))

    asyncio.run(main())


def test_a_limit_that_was_reached_is_kept_too_and_a_mere_probe_is_not(world: World, tmp_path: Path) -> None:
    """A load balancer that looks whether the port answers, every five seconds, is no failure."""

    async def main() -> None:
        async with listening(world, tmp_path, connections_before_login_per_source=1) as listener:
            first = await asyncio.open_connection("127.0.0.1", listener.port)
            await first[0].readline()
            second = await asyncio.open_connection("127.0.0.1", listener.port)
            assert await second[0].read() == b""
            for _, writer in (first, second):
                writer.close()
            await eventually(lambda: not listener.server.connections)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.read()
            writer.close()
            await eventually(lambda: not listener.server.connections)
            await listener.server.sweep()
            assert [row.code for row in kept(world)] == ["connections_before_login_per_source", "protocol"]

    asyncio.run(main())


@pytest.fixture
def ftps(world: World, tmp_path: Path) -> Iterator[ftps_world.Listener]:
    with ftps_world.listening(world, tmp_path) as listener:
        yield listener


def _old_tls(ftps: ftps_world.Listener) -> None:
    context = ftps.context()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    _handshake(ftps, context)


def _other_ciphers(ftps: ftps_world.Listener) -> None:
    context = ftps.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-SHA256")
    _handshake(ftps, context)


def _no_trust(ftps: ftps_world.Listener) -> None:
    _handshake(ftps, ssl.create_default_context())


def _handshake(ftps: ftps_world.Listener, context: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", ftps.implicit_port), 10) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="localhost").recv(10)


def _in_clear(ftps: ftps_world.Listener) -> None:
    with ftplib.FTP(timeout=10) as client:
        client.connect("127.0.0.1", ftps.port)
        with contextlib.suppress(ftplib.Error):
            client.login("acme", "x")


def _plain_to_implicit(ftps: ftps_world.Listener) -> None:
    with socket.create_connection(("127.0.0.1", ftps.implicit_port), 10) as raw:
        raw.sendall(b"USER acme\r\n")
        with contextlib.suppress(OSError):
            raw.recv(100)


def _wrong_password(ftps: ftps_world.Listener) -> None:
    with pytest.raises(ftplib.error_perm), ftps.session(password="wrong"):
        pass


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("attempt", "code"),
    [
        (_old_tls, "tls_version"),
        (_other_ciphers, "tls_cipher"),
        (_no_trust, "tls_certificate"),
        (_in_clear, "tls_required"),
        (_plain_to_implicit, "tls_plain"),
        (_wrong_password, "wrong_password"),
    ],
)
def test_over_ftps_each_failure_has_its_cause(ftps: ftps_world.Listener, attempt: Any, code: str) -> None:
    """Version, ciphers, trust, no TLS at all: a program says "handshake failure" for each of them."""
    attempt(ftps)

    async def found() -> None:
        for _ in range(100):
            await ftps.server.sweep()
            if kept(ftps.world):
                return
            await asyncio.sleep(0.05)

    ftps.run(found())
    (row,) = kept(ftps.world)
    assert (row.code, row.cause, row.protocol) == (code, CAUSES[code], "ftps")


# -- on the way to the database


class Sink:
    """Stands for the database."""

    def __init__(self) -> None:
        self.is_away = False
        self.kept: list[Failure] = []

    def __call__(self, noted: Sequence[Failure]) -> None:
        if self.is_away:
            raise Unavailable("away")
        self.kept += noted


def test_of_one_source_so_many_a_day_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who guesses all day is told once, not a million times; the next day counts anew."""
    sink, pool = Sink(), ThreadPool("test", 1)
    of = Failures(sink, per_source=3)
    for number in range(10):
        of.note("sftp", f"2001:db8::{number}", "root", "unknown_user", "…")
    of.note("sftp", "192.0.2.1", "\x1b[2J\udcff", "unknown_user", "…")
    asyncio.run(of.flush(pool))
    assert len(sink.kept) == 4 and sink.kept[-1].user_name == "?[2J\\udcff"
    tomorrow = clock.now() + dt.timedelta(days=1)
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    of.note("sftp", "2001:db8::1", "root", "unknown_user", "…")
    asyncio.run(of.flush(pool))
    assert len(sink.kept) == 5
    pool.close()


def test_while_the_database_is_away_the_newest_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded memory; they are written once it is back."""
    monkeypatch.setattr(failures, "WAITING", 5)
    sink, pool = Sink(), ThreadPool("test", 1)
    of = Failures(sink, per_source=100)
    sink.is_away = True
    for number in range(4):
        of.note("sftp", "192.0.2.1", f"user-{number}", "unknown_user", "…")
        asyncio.run(of.flush(pool))
    for number in range(4, 9):
        of.note("sftp", "192.0.2.1", f"user-{number}", "unknown_user", "…")
    asyncio.run(of.flush(pool))
    sink.is_away = False
    asyncio.run(of.flush(pool))
    assert [one.user_name for one in sink.kept] == [f"user-{number}" for number in range(4, 9)]
    pool.close()


def test_a_key_that_is_known_tells_more_than_those_that_an_agent_also_holds() -> None:
    """An agent offers six keys that nobody knows, and the one that has expired."""
    code, cause = of_login(["unknown_key SHA256:a", "key_expired SHA256:b", "unknown_key SHA256:c"])
    assert code == "key_expired" and "SHA256:b" in cause
    assert of_login([])[0] == "no_login"
    assert of_login(["too_many_keys"])[1] == CAUSES["too_many_keys"]


def test_what_openssl_says_of_something_new_is_passed_on() -> None:
    """Its words are better than none."""
    assert of_tls("[('SSL routines', '', 'something new')]")[1].endswith("something new')]")
