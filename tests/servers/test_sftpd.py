"""The listener: who comes in, who does not, what they may ask SSH for, and how it ends."""

import asyncio
import contextlib
import datetime as dt
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import sqlalchemy as sa
from asyncssh.constants import MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import UInt32
from structlog.testing import capture_logs

from gateway import clock
from gateway.config import SftpSettings
from gateway.domain.folders import Folder, FolderPassword, SshKey
from gateway.domain.parties import Client
from gateway.dropfolder.visit import Visit
from gateway.errors import ConfigError, Unavailable
from gateway.pools import ThreadPool
from gateway.servers import sftp_connection, sftpd
from gateway.servers.sftp_packets import Type
from gateway.servers.sftpd import SftpServer
from tests.dropfolder.world import World
from tests.servers.ftps_world import PASSWORD, with_password
from tests.servers.sftp_world import Listener, Raw, eventually, handle, listening, request, u32, u64
from tests.servers.test_sftp_protocol import s

REFUSED = (asyncssh.PermissionDenied, asyncssh.ConnectionLost, asyncssh.DisconnectError, ConnectionError)


async def refusal(listener: Listener, **options: Any) -> list[Any]:
    """Try to log in, fail, and the reasons that the log gives."""
    with capture_logs() as logs:
        with pytest.raises(REFUSED):
            async with listener.connect(**options):
                pass
        await eventually(lambda: any(entry["event"] == "login.failed" for entry in logs))
    (failed,) = [entry for entry in logs if entry["event"] == "login.failed"]
    return [reason.split()[0] for reason in failed["reasons"]]


def test_a_refused_log_in_says_why_in_the_log_alone(world: World, tmp_path: Path) -> None:
    """Unknown user, unknown key, revoked, expired, disabled: one and the same answer for the client."""
    past = clock.now() - dt.timedelta(seconds=1)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            other = asyncssh.generate_private_key("ssh-ed25519")
            assert await refusal(listener, username="nobody") == ["unknown_user"]
            assert await refusal(listener, client_keys=[other]) == ["unknown_key"]
            for name in ("a b", "../acme", "acme' OR '1", "x" * 65, "é"):
                assert await refusal(listener, username=name) == ["user_name_format"]
            for table, row, column, value, reason in (
                (SshKey, world.key.id, "expires_at", past, "key_expired"),
                (SshKey, world.key.id, "revoked_at", past, "key_revoked"),
                (Folder, world.folder.id, "disabled_at", past, "folder_disabled"),
                (Client, world.client.id, "disabled_at", past, "client_disabled"),
                (Folder, world.folder.id, "networks", ["192.0.2.0/24", "2001:db8::/32"], "address"),
            ):
                world.set(table, row, **{column: value})
                assert await refusal(listener) == [reason]
                world.set(table, row, **{column: None})
            async with listener.sftp() as sftp:
                assert await sftp.listdir("inbox") == []

    asyncio.run(main())


def test_a_password_is_not_asked_for_unless_the_settings_say_so(world: World, tmp_path: Path) -> None:
    """Nor keyboard-interactive, nor host-based: keys alone."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            with pytest.raises(asyncssh.PermissionDenied):
                async with listener.connect(client_keys=None, password="x", kbdint_auth=True):
                    pass
            methods = await asyncssh.get_server_auth_methods("127.0.0.1", listener.port, username="acme", config=None)
            assert methods == ["publickey"]

    asyncio.run(main())


def test_an_agent_may_offer_many_keys_but_not_for_ever(world: World, tmp_path: Path) -> None:
    """OpenSSH gives up after six; here the seventh may be the right one, the thirtieth is a guess."""
    others = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(sftp_connection.KEYS_TRIED + 1)]

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            async with listener.sftp(client_keys=[*others[:10], listener.key]) as sftp:
                assert await sftp.listdir("inbox") == []
            with pytest.raises(REFUSED):
                async with listener.connect(client_keys=[*others, listener.key]):
                    pass

    asyncio.run(main())


def test_two_keys_are_valid_at_once(world: World, tmp_path: Path) -> None:
    """A key is rotated without a night in between; the session's record says which one it was."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            second = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
            row = SshKey(
                folder_id=world.folder.id, fingerprint=second.get_fingerprint(), public_key="ssh-rsa AAAA", label="new",
                created_by="test", created_at=clock.now(),
            )  # fmt: skip
            world.add(row)
            async with listener.sftp(), listener.sftp(client_keys=[second]) as sftp:
                await sftp.listdir("inbox")
            await eventually(lambda: all(session.ended_at for session in world.sessions()))
            assert {session.key_id for session in world.sessions()} == {world.key.id, row.id}
            used = world.db.read(lambda tx: tx.execute(sa.select(SshKey.last_used_at)).scalars().all())  # type: ignore[call-overload]
            assert all(used)

    asyncio.run(main())


def test_a_key_that_is_being_exchanged_shuts_nobody_out(world: World, tmp_path: Path) -> None:
    """An ERP goes on with the key that has expired, a connection a file: the new key must find the door open."""
    world.set(SshKey, world.key.id, expires_at=clock.now())

    async def main() -> None:
        async with listening(world, tmp_path, ban_after=3) as listener:
            for _ in range(6):
                assert await refusal(listener) == ["key_expired"]
            world.set(SshKey, world.key.id, expires_at=None)
            async with listener.sftp() as sftp:
                assert await sftp.listdir("inbox") == []
            world.set(Folder, world.folder.id, disabled_at=clock.now())
            for _ in range(6):
                assert await refusal(listener) == ["folder_disabled"]

    asyncio.run(main())


def test_a_revoked_key_ends_its_open_sessions(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds, whatever they are doing; others go on."""
    monkeypatch.setattr(sftpd, "SWEEP_SECONDS", 0.1)

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            await Raw.open(connection)
            world.set(SshKey, world.key.id, revoked_at=clock.now())
            await asyncio.wait_for(connection.wait_closed(), 10)
            await eventually(lambda: not listener.server.connections)

    asyncio.run(main())


def test_a_key_that_is_revoked_during_a_transfer_is_out_within_ten_seconds(world: World, tmp_path: Path) -> None:
    """As the settings are: the sweep comes every five seconds, and it does not wait for the end of a file."""

    async def main() -> float:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(os.urandom(200_000))
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
                began = time.monotonic()
                world.set(SshKey, world.key.id, revoked_at=clock.now())
                with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                    while time.monotonic() - began < 20:
                        await raw.ask(Type.READ, file, u64(0), u32(32_768))
                await asyncio.wait_for(connection.wait_closed(), 5)
            with pytest.raises(REFUSED):
                async with listener.connect():
                    pass
            return time.monotonic() - began

    assert asyncio.run(main()) < 10


def test_the_sweep_survives_an_absent_database(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again; sessions are not ended for it."""
    monkeypatch.setattr(sftpd, "SWEEP_SECONDS", 0.05)
    read = world.db.read

    def away(_step: object) -> None:
        raise Unavailable("away")

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.sftp() as sftp:
            monkeypatch.setattr(world.db, "read", away)
            await asyncio.sleep(0.3)
            monkeypatch.setattr(world.db, "read", read)
            assert await sftp.listdir("inbox") == []
            world.set(SshKey, world.key.id, revoked_at=clock.now())
            await eventually(lambda: not listener.server.connections)

    asyncio.run(main())


def test_the_sweep_survives_what_nobody_foresaw(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that only reads, say: failed log-ins cannot be kept, and a revoked key must end its sessions."""
    monkeypatch.setattr(sftpd, "SWEEP_SECONDS", 0.05)
    tried = threading.Event()

    def only_reads(_failures: object) -> None:
        tried.set()
        raise sa.exc.InternalError("INSERT", {}, Exception("cannot execute INSERT in a read-only transaction"))

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect():
            monkeypatch.setattr(listener.server.failures, "_keep", only_reads)
            listener.server.failures.note("sftp", "192.0.2.9", "nobody", "unknown_user", "no such user")
            await eventually(tried.is_set)
            listener.server.failures.note("sftp", "192.0.2.9", "nobody", "unknown_user", "no such user")
            world.set(SshKey, world.key.id, revoked_at=clock.now())
            await eventually(lambda: not listener.server.connections)

    asyncio.run(main())


def test_an_idle_session_is_closed(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen minutes without a request; one request starts them again."""
    passed = 0.0
    real = clock.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: real() + passed)

    async def main() -> None:
        nonlocal passed
        async with listening(world, tmp_path, idle_minutes=15) as listener, listener.sftp() as sftp:
            await sftp.listdir("inbox")
            passed = 14 * 60
            await listener.server.sweep()
            await sftp.listdir("inbox")
            passed = 28 * 60
            await listener.server.sweep()
            await sftp.listdir("inbox")
            passed = 44 * 60
            await listener.server.sweep()
            await eventually(lambda: not listener.server.connections)

    asyncio.run(main())


def test_a_connection_that_nobody_answers_on_ends_and_gives_its_place_back(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NAT forgets a connection without a word; left open, it would eat the client's places for the next night."""
    monkeypatch.setattr(sftpd, "KEEPALIVE_SECONDS", 0.1)

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            assert len(listener.server.connections) == 1
            connection._transport.pause_reading()
            await eventually(lambda: not listener.server.connections)
            connection._transport.resume_reading()

    asyncio.run(main())


def test_who_does_not_log_in_is_closed(world: World, tmp_path: Path) -> None:
    """A socket that says nothing must not hold a place."""

    async def main() -> None:
        async with listening(world, tmp_path, login_seconds=1) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            assert (await reader.readline()).startswith(b"SSH-2.0-gateway")
            assert await asyncio.wait_for(reader.read(), 5) is not None
            writer.close()
            await eventually(lambda: not listener.server.connections)

    asyncio.run(main())


def test_idle_connections_of_one_address_do_not_shut_it_out_once_logged_in(world: World, tmp_path: Path) -> None:
    """The limit before log-in counts those that wait, not those that work."""

    async def main() -> None:
        async with listening(world, tmp_path, connections_before_login_per_source=2) as listener:
            async with listener.sftp(), listener.sftp(), listener.sftp() as sftp:
                waiting = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2)]
                for reader, _ in waiting:
                    await reader.readline()
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                assert await reader.read() == b""
                assert await sftp.listdir("inbox") == []
                for w in [writer, *(w for _, w in waiting)]:
                    w.close()
            await eventually(lambda: not listener.server.connections)
            async with listener.sftp() as sftp:
                assert await sftp.listdir("inbox") == []

    asyncio.run(main())


def test_a_client_has_its_number_of_connections(world: World, tmp_path: Path) -> None:
    """The next one is told why; a place that is given back can be taken."""

    async def main() -> None:
        async with listening(world, tmp_path, connections_per_client=2) as listener, listener.sftp():
            async with listener.sftp():
                with pytest.raises((asyncssh.DisconnectError, asyncssh.ChannelOpenError), match=r"too many|closed"):
                    async with listener.sftp():
                        pass
            await eventually(lambda: len(listener.server.connections) == 1)
            async with listener.sftp() as sftp:
                assert await sftp.listdir("inbox") == []

    asyncio.run(main())


def test_channels_of_a_connection_have_a_limit_and_come_back(world: World, tmp_path: Path) -> None:
    """Ten at once; a client that opens one a file on a connection held for hours is not cut off at the eleventh."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            for _ in range(3):
                clients = [await connection.start_sftp_client() for _ in range(sftp_connection.CHANNELS)]
                with pytest.raises(asyncssh.ChannelOpenError):
                    await connection.start_sftp_client()
                for client in clients:
                    client.exit()
                    await client.wait_closed()
                (served,) = listener.server.connections
                await eventually(lambda served=served: not served._channels)  # type: ignore[misc]
            assert len(world.sessions()) == 1

    asyncio.run(main())


def test_a_client_has_its_number_of_sessions_over_all_its_connections(world: World, tmp_path: Path) -> None:
    """The next one is told why; one that ended gives its place back."""

    async def main() -> None:
        async with (
            listening(world, tmp_path, sessions_per_client=3) as listener,
            listener.connect() as one,
            listener.connect() as two,
        ):
            first, _, _ = [await one.start_sftp_client(), await one.start_sftp_client(), await two.start_sftp_client()]
            with pytest.raises(asyncssh.ChannelOpenError, match="too many sessions of this client"):
                await two.start_sftp_client()
            first.exit()
            await first.wait_closed()
            client_id = world.client.id
            await eventually(lambda: listener.server.channels_of(client_id) == 2)
            assert await (await two.start_sftp_client()).listdir("inbox") == []

    asyncio.run(main())


def test_nothing_but_sftp_is_served(world: World, tmp_path: Path) -> None:
    """No shell, no command, no terminal, no forwarding in any direction, no other subsystem."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            for options in ({}, {"command": "id"}, {"command": "/bin/sh -c id"}, {"subsystem": "netconf"}):
                with pytest.raises(asyncssh.ChannelOpenError):
                    await connection.create_process(**options)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process(subsystem="sftp", term_type="xterm", request_pty="force")
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", listener.port)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_unix_connection("/run/x")
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_path("/tmp/x", "/tmp/y")
            async with connection.start_sftp_client() as sftp:
                assert await sftp.listdir("inbox") == []

    asyncio.run(main())


def test_the_old_scp_is_told_what_to_use(world: World, tmp_path: Path) -> None:
    """Its user otherwise sees "connection closed" and calls us."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            result = await connection.run("scp -f inbox/x")
            assert result.exit_status == 1
            assert "sftp" in str(result.stderr)

    asyncio.run(main())


def test_a_channel_ends_with_status_0(world: World, tmp_path: Path) -> None:
    """scp in SFTP mode copies everything and then reports failure without it."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            process = await connection.create_process(subsystem="sftp", encoding=None)
            process.stdin.write(b"\0\0\0\5\1\0\0\0\3")
            await process.stdout.read(20)
            process.stdin.write_eof()
            assert (await process.wait()).exit_status == 0

    asyncio.run(main())


def test_a_connection_that_is_lost_leaves_a_partial_read(world: World, tmp_path: Path) -> None:
    """Closing is not completing: every byte was given out, and still nobody closed the file."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(b"x" * 1000)
            connection = await listener.connect()
            raw = await Raw.open(connection)
            file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
            await raw.ask(Type.READ, file, u64(0), u32(600))
            await raw.ask(Type.READ, file, u64(600), u32(600))
            connection.abort()
            await eventually(lambda: bool(world.bodies("session.ended")))
        assert world.entry().read_ranges == []
        assert world.entry().fully_read_at is None
        facts = world.bodies("entry.read")[0]["facts"]
        assert (facts["closed_cleanly"], facts["sent"], facts["bytes"]) == (False, 1000, 0)

    asyncio.run(main())


def test_what_a_client_took_before_its_connection_was_lost_is_known_by_its_window(world: World, tmp_path: Path) -> None:
    """What it says it has taken counts; going on behind that shows the rest. The end alone would show nothing."""
    content, piece = os.urandom(4_000_000), 100_000

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(content)
            connection = await listener.connect()
            raw = await Raw.open(connection, window=262_144)
            file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
            for offset in range(0, 2_000_000, piece):
                await raw.ask(Type.READ, file, u64(offset), u32(piece))
            connection.abort()
            await eventually(lambda: bool(world.bodies("session.ended")))
            ((start, end),) = world.entry().read_ranges
            assert start == 0 and 2_000_000 - 400_000 < end < 2_000_000
            for offset, is_whole in ((3_900_000, False), (end + 50_000, True)):
                async with listener.sftp() as sftp, sftp.open(f"inbox/{name}", "rb") as rest:
                    assert await rest.read(4_000_000, offset) == content[offset:]  # type: ignore[comparison-overlap]
                assert (world.entry().fully_read_at is not None) is is_whole

    asyncio.run(main())


def test_a_window_that_a_client_widens_ahead_says_nothing_of_what_it_took(world: World, tmp_path: Path) -> None:
    """libssh opens with 64 kB and makes it 1.28 MB before it has read anything, PuTTY widens as it goes."""
    content = os.urandom(300_000)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(content)
            connection = await listener.connect()
            raw = await Raw.open(connection, window=64_000)
            file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
            raw._writer.channel.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(1_216_000))
            await raw.ask(Type.FSTAT, file)
            raw.pause()
            raw.send(*(request(Type.READ, file, u64(offset), u32(100_000)) for offset in range(0, 300_000, 100_000)))
            (served,) = listener.server.connections
            (channel,) = served._channels
            await eventually(lambda: channel._engine.position > 300_000)
            connection.abort()
            await eventually(lambda: bool(world.bodies("session.ended")))
            assert world.entry().read_ranges == []
            async with listener.sftp() as sftp, sftp.open(f"inbox/{name}", "rb") as looked:
                assert await looked.read(10, 0) == content[:10]  # type: ignore[comparison-overlap]
            assert world.entry().fully_read_at is None

    asyncio.run(main())


@pytest.mark.parametrize("by", [{"kbdint_auth": False}, {"password_auth": False}], ids=["password", "kbdint"])
def test_a_password_opens_the_folder_where_the_settings_allow_it(
    world: World, tmp_path: Path, by: dict[str, bool]
) -> None:
    """Some clients know nothing else, or only keyboard-interactive; keys go on to work, and the record tells which."""
    row = with_password(world)

    async def main() -> None:
        async with listening(world, tmp_path, passwords=True) as listener:
            (name,) = listener.publish(b"x" * 1000)
            async with listener.sftp(client_keys=None, password=PASSWORD, public_key_auth=False, **by) as sftp:
                await sftp.get(f"inbox/{name}", tmp_path / "got")
            async with listener.sftp() as sftp:
                assert await sftp.listdir("inbox") == [name]
            began = time.monotonic()
            wrong = {"client_keys": None, "password": "wrong-password-it-is", "public_key_auth": False, **by}
            assert set(await refusal(listener, **wrong)) == {"wrong_password"}
            assert time.monotonic() - began >= 1
            world.set(FolderPassword, row.id, revoked_at=clock.now())
            assert set(await refusal(listener, **wrong | {"password": PASSWORD})) == {"password_revoked"}

    asyncio.run(main())
    assert [session.password_id for session in world.sessions()] == [row.id, None]
    assert world.entry().fully_read_at is not None


def test_a_password_in_force_opens_however_many_ended_after_it(world: World) -> None:
    """An operator who gave and took back several must not have shut out the one that is in use."""
    used = with_password(world)
    for number in range(6):
        with_password(world, f"another-long-one-{number}", revoked_at=clock.now())
    with_password(world, "expired-long-one", expires_at=clock.now() - dt.timedelta(days=1))
    login = world.folders.log_in_with_password("acme", PASSWORD, "192.0.2.7")
    assert login.password_id == used.id


def test_a_session_is_recorded_with_what_the_client_called_itself(world: World, tmp_path: Path) -> None:
    """Which program, which algorithms, from where: what is needed when it goes wrong."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            async with listener.sftp(client_version="Erp_7.1") as sftp:
                await sftp.listdir("inbox")
            await eventually(lambda: bool(world.sessions() and world.sessions()[0].ended_at))

    asyncio.run(main())
    (session,) = world.sessions()
    assert session.banner == "Erp_7.1"
    assert "aes" in session.algorithms or "chacha20" in session.algorithms
    assert session.address_id


def test_what_a_client_calls_itself_is_kept_as_text_that_can_be_kept(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL takes no NUL: the session would not begin, and nothing else of its folder could be recorded."""
    monkeypatch.setattr(asyncssh.connection, "_validate_version", lambda _: b"Erp\0\x1b[31m")

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.sftp() as sftp:
            assert "inbox" in await sftp.listdir(".")

    asyncio.run(main())
    (session,) = world.sessions()
    assert session.banner == "Erp??[31m"


def test_a_drain_lets_a_transfer_finish(world: World, tmp_path: Path) -> None:
    """SIGTERM: who transfers nothing goes at once, nobody new comes, the open file is read to its end."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(b"x" * 1000)
            idle = await listener.connect()
            busy = await listener.connect()
            await Raw.open(idle)
            raw = await Raw.open(busy)
            file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
            drain = asyncio.create_task(listener.server.drain(10))
            await asyncio.wait_for(idle.wait_closed(), 5)
            with pytest.raises(OSError, match=r"refused|Connect"):
                await listener.connect()
            assert len((await raw.ask(Type.READ, file, u64(0), u32(1000)))[9:]) == 1000
            assert not drain.done()
            await raw.ask(Type.CLOSE, file)
            await asyncio.wait_for(drain, 5)
            await asyncio.wait_for(busy.wait_closed(), 5)
            assert world.entry().fully_read_at is not None

    asyncio.run(main())


def test_a_drain_ends_at_its_grace_time(world: World, tmp_path: Path) -> None:
    """A client that holds a file for ever does not hold the stop; what it read is recorded before it ends."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(b"x" * 1000)
            connection = await listener.connect()
            raw = await Raw.open(connection)
            handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
            await asyncio.wait_for(listener.server.drain(0.3), 5)
            await listener.server.close()
            assert len(world.bodies("entry.read")) == 1
            assert len(world.bodies("session.ended")) == 1

    asyncio.run(main())


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:x", "192.0.2.1:0"])
def test_an_address_that_cannot_be_used_is_named(world: World, tmp_path: Path, listen: str) -> None:
    """At start, with the key to change."""

    async def main() -> None:
        pool = ThreadPool("folder", 1)
        server = SftpServer(SftpSettings(listen=listen), world.folders, pool, tmp_path)
        with pytest.raises(ConfigError, match=r"sftp\.listen"):
            await server.start()
        pool.close()

    asyncio.run(main())


def test_ssh_audit_finds_no_failure(world: World, tmp_path: Path) -> None:
    """No broken or weak algorithm is offered; its exit status is 3 for a failure, 2 for a warning."""

    async def main() -> tuple[int, str]:
        async with listening(world, tmp_path) as listener:
            audit = [sys.executable, "-m", "ssh_audit", "-n", "--skip-rate-test", "-p", str(listener.port), "127.0.0.1"]
            process = await asyncio.create_subprocess_exec(
                *audit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path, env={"HOME": str(tmp_path)}
            )
            output, _ = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode is not None
            return process.returncode, output.decode()

    code, output = asyncio.run(main())
    assert "(kex)" in output
    assert "[fail]" not in output, output
    assert code in (0, 2), output


def test_what_was_asked_before_the_client_went_is_done(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lftp sends its last CLOSE and is gone; sent behind an answer that still waits, it counts all the same."""
    begin = threading.Event()
    shown = Visit.record_shown

    def slow(visit: Visit) -> None:
        begin.wait(10)
        shown(visit)

    monkeypatch.setattr(Visit, "record_shown", slow)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(b"x" * 1000)
            connection = await listener.connect()
            raw = await Raw.open(connection)
            directory = handle(await raw.ask(Type.OPENDIR, s("/inbox")))
            await raw.ask(Type.READDIR, directory)
            file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
            assert len((await raw.ask(Type.READ, file, u64(0), u32(1000)))[9:]) == 1000
            raw.send(
                request(Type.CLOSE, directory), request(Type.CLOSE, file), request(Type.REMOVE, s(f"/inbox/{name}"))
            )
            await asyncio.sleep(0.3)
            connection.abort()
            await eventually(lambda: not listener.server.connections)
            begin.set()
            await eventually(lambda: bool(world.bodies("session.ended")))
        assert world.entry().received_at is not None
        assert world.events()[-4:] == ["entry.removed", "entry.received", "delivery.received", "session.ended"]

    asyncio.run(main())


def test_a_read_that_was_not_answered_is_none(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READ and CLOSE behind a waiting answer, and the client goes: nothing was read, nothing is received."""
    begin = threading.Event()
    shown = Visit.record_shown

    def slow(visit: Visit) -> None:
        begin.wait(10)
        shown(visit)

    monkeypatch.setattr(Visit, "record_shown", slow)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(b"x" * 1000)
            connection = await listener.connect()
            raw = await Raw.open(connection)
            directory = handle(await raw.ask(Type.OPENDIR, s("/inbox")))
            await raw.ask(Type.READDIR, directory)
            file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
            raw.send(
                request(Type.CLOSE, directory), request(Type.READ, file, u64(0), u32(1000)), request(Type.CLOSE, file)
            )
            await asyncio.sleep(0.3)
            connection.abort()
            await eventually(lambda: not listener.server.connections)
            begin.set()
            await eventually(lambda: bool(world.bodies("session.ended")))
        assert world.entry().fully_read_at is None
        assert world.bodies("entry.read")[0]["facts"]["bytes"] == 0

    asyncio.run(main())
