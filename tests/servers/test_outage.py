"""The database goes away, or hangs, under many sessions: what is open is served, no receipt is given unrecorded."""

import asyncio
import contextlib
import ftplib
import os
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import asyncssh
import pytest

from gateway.servers import sftp_connection
from gateway.servers.sftp_packets import Status, Type
from gateway.store import pulse
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests import cluster, peers
from tests.dropfolder.world import World
from tests.servers.ftps_world import get
from tests.servers.ftps_world import listening as ftps_listening
from tests.servers.sftp_world import Listener, Raw, handle, listening, status, u32, u64
from tests.servers.test_sftp_protocol import s
from tests.servers.test_sftpd import REFUSED

CONNECTIONS, CHANNELS = 50, 20
CONTENT = os.urandom(200_000)
BACK_SECONDS = 5.0


@pytest.fixture
def server() -> Iterator[cluster.Cluster]:
    """A PostgreSQL that this test alone may stop."""
    peers.require("postgres")
    with cluster.running(peers.program("postgres")) as running:
        yield running


async def names_in(raw: Raw) -> bytes:
    """A listing of the inbox, as it comes."""
    folder = handle(await raw.ask(Type.OPENDIR, s("/inbox")))
    return await raw.ask(Type.READDIR, folder)


async def sessions(listener: Listener) -> tuple[list[asyncssh.SSHClientConnection], list[list[Raw]]]:
    """A thousand channels, over fifty connections, each of which has been served."""
    connections = [await listener.connect() for _ in range(CONNECTIONS)]
    channels = [[await Raw.open(connection) for _ in range(CHANNELS)] for connection in connections]
    return connections, channels


@pytest.mark.postgresql
def test_a_thousand_sessions_outlive_the_database(
    server: cluster.Cluster, tmp_path: Path, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open files are read to their end, listings are those of before, a receipt waits; five seconds after the
    database's return everything is as it was, on the same connections.
    """
    monkeypatch.setattr(sftp_connection, "CHANNELS", CHANNELS)
    db = Database.open(server.create())
    world = World(db, blobs)

    async def main() -> None:
        limits = {"connections_per_client": 100, "sessions_per_client": 2000}
        async with listening(world, tmp_path, **limits) as listener:
            (name,) = listener.publish(CONTENT)
            connections, channels = await sessions(listener)
            files = [handle(await raws[0].ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0))) for raws in channels]
            assert all([name.encode() in await names_in(raws[0]) for raws in channels])
            await asyncio.to_thread(server.stop)
            for raws in channels:
                answers = await asyncio.gather(*(names_in(raw) for raw in raws))
                assert all(name.encode() in answer for answer in answers)
            for raws, file in zip(channels, files, strict=True):
                answer = await raws[0].ask(Type.READ, file, u64(0), u32(len(CONTENT)))
                assert answer[9:] == CONTENT
            answer = await channels[0][0].ask(Type.REMOVE, s(f"/inbox/{name}"))
            assert status(answer) == Status.FAILURE and b"try again" in answer
            answers = [await raws[0].ask(Type.CLOSE, file) for raws, file in zip(channels, files, strict=True)]
            assert all(status(answer) == Status.FAILURE and b"try again" in answer for answer in answers)
            with pytest.raises(REFUSED):
                async with listener.connect():
                    pass
            assert not any(entry.is_closed() for entry in connections)
            await asyncio.to_thread(server.start)
            returned = time.monotonic()
            for raws, file in zip(channels, files, strict=True):
                assert status(await raws[0].ask(Type.CLOSE, file)) == Status.OK
            async with listener.sftp() as sftp:
                await sftp.remove(f"inbox/{name}")
            assert time.monotonic() - returned < BACK_SECONDS
            for connection in connections:
                connection.abort()
        assert world.entry().fully_read_at is not None and world.entry().received_at is not None

    asyncio.run(main())
    world.close()
    db.close()


HANGS_FOR = pulse.EVERY_SECONDS + pulse.SILENT_SECONDS + 2.0  # until everybody has noticed, on a busy machine


async def seconds_of(work: Awaitable[object]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def refused_log_in(listener: Listener) -> None:
    with pytest.raises(asyncssh.DisconnectError, match="log-in is not possible at the moment; try again"):
        async with listener.connect():
            pass


async def refused(raw: Raw, kind: Type, of: bytes) -> None:
    answer = await raw.ask(kind, of)
    assert status(answer) == Status.FAILURE and b"try again" in answer


@pytest.mark.postgresql
def test_a_database_that_hangs_holds_nobody(server: cluster.Cluster, tmp_path: Path, blobs: LocalBlobs) -> None:
    """Its processes stand still: no connection breaks, and no answer comes. Within seconds all is as when it is away,
    however many wait for it; then at once; and it goes on when the database does.
    """
    db = Database.open(server.create())
    world = World(db, blobs)

    async def main() -> None:
        async with listening(world, tmp_path) as listener, contextlib.AsyncExitStack() as stack:
            (name,) = listener.publish(CONTENT)
            connections = [await stack.enter_async_context(listener.connect()) for _ in range(10)]
            raws = [await Raw.open(connection) for connection in connections]
            files = [handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0))) for raw in raws]
            assert name.encode() in await names_in(raws[0])
            server.hang()
            try:
                for raw, file in zip(raws, files, strict=True):
                    assert (await raw.ask(Type.READ, file, u64(0), u32(len(CONTENT))))[9:] == CONTENT
                removals = [seconds_of(refused(raw, Type.REMOVE, s(f"/inbox/{name}"))) for raw in raws]
                entering = [seconds_of(refused_log_in(listener)) for _ in range(4)]
                assert max(await asyncio.gather(*removals, *entering)) < HANGS_FOR
                assert name.encode() in await names_in(raws[0])
                closings = [seconds_of(refused(raw, Type.CLOSE, file)) for raw, file in zip(raws, files, strict=True)]
                assert max(await asyncio.gather(*closings, seconds_of(refused_log_in(listener)))) < 1.5
            finally:
                server.go_on()
            began = time.monotonic()
            while status(await raws[0].ask(Type.CLOSE, files[0])) != Status.OK:
                await asyncio.sleep(0.05)
            for raw, file in list(zip(raws, files, strict=True))[1:]:
                assert status(await raw.ask(Type.CLOSE, file)) == Status.OK
            async with listener.sftp() as sftp:
                await sftp.remove(f"inbox/{name}")
            assert time.monotonic() - began < BACK_SECONDS
        assert world.entry().fully_read_at is not None and world.entry().received_at is not None

    try:
        asyncio.run(main())
    finally:
        world.close()
        db.close()


@pytest.mark.postgresql
def test_ftps_is_not_held_either(server: cluster.Cluster, tmp_path: Path, blobs: LocalBlobs) -> None:
    """What asks the database waits beside the loop: a file under way arrives, its receipt and a log-in fail."""
    db = Database.open(server.create())
    world = World(db, blobs)
    try:
        with ftps_listening(world, tmp_path) as listener:
            (name,) = listener.publish(CONTENT)
            with listener.session() as client, listener.session() as other:
                assert client.nlst("inbox") == [name]
                data = client.transfercmd(f"RETR inbox/{name}")
                server.hang()
                try:
                    began = time.monotonic()
                    with pytest.raises(ftplib.error_temp, match="451 The database does not answer; try again"):
                        other.delete(f"inbox/{name}")
                    content = b"".join(iter(lambda: data.recv(65536), b""))
                    data.unwrap()  # type: ignore[attr-defined]
                    data.close()
                    with pytest.raises(ftplib.error_temp, match="451 The file was sent, but not recorded as read"):
                        client.voidresp()
                    with pytest.raises(ftplib.error_temp, match="421 The database does not answer"), listener.session():
                        pass
                    assert time.monotonic() - began < HANGS_FOR
                    assert client.nlst("inbox") == [name]
                finally:
                    server.go_on()
                assert content == CONTENT
                began = time.monotonic()
                while True:
                    with contextlib.suppress(ftplib.error_temp):
                        assert get(client, f"inbox/{name}") == CONTENT
                        client.delete(f"inbox/{name}")
                        break
                assert time.monotonic() - began < BACK_SECONDS
        assert world.entry().fully_read_at is not None and world.entry().received_at is not None
    finally:
        world.close()
        db.close()
