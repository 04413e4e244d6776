"""The database goes away under a thousand sessions: what is open is served, and no receipt is given unrecorded."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from gateway.servers import sftp_connection
from gateway.servers.sftp_packets import Status, Type
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests import cluster, peers
from tests.dropfolder.world import World
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
