"""Test documents over SFTP and FTPS: seen, pulled whole, recorded as tests, and gone when they were deleted."""

import asyncio
import hashlib
from pathlib import Path

from gateway.servers.sftp_packets import Status, Type
from tests.dropfolder.test_sandbox_tests import make, rows
from tests.dropfolder.world import World
from tests.servers import ftps_world
from tests.servers.sftp_world import Raw, eventually, handle, listening, status, u32, u64
from tests.servers.test_uploads import READ, s


def test_over_sftp_it_is_listed_pulled_and_deleted_as_an_invoice_is(world: World, tmp_path: Path) -> None:
    """The whole chain of a client's night, and nothing of it is a receipt."""
    made = make(world, 2)

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.sftp() as sftp:
            entries = {entry.filename: entry.attrs for entry in await sftp.readdir("/sandbox")}
            for row in made:
                assert (entries[row.name].size, entries[row.name].mtime) == (row.size, int(row.made_at.timestamp()))
                await sftp.get(f"/sandbox/{row.name}", tmp_path / row.name)
                await sftp.remove(f"/sandbox/{row.name}")
            assert [name for name in await sftp.listdir("/sandbox") if not name.startswith(".")] == []
            assert [name for name in await sftp.listdir("/inbox") if not name.startswith(".")] == []

    asyncio.run(main())
    for row, after in zip(made, rows(world), strict=True):
        assert hashlib.sha256((tmp_path / row.name).read_bytes()).hexdigest() == row.sha256
        assert after.fully_read_at is not None and after.removed_at is not None
    assert not world.entries() and not world.events("entry") and not world.events("delivery")
    assert len(world.bodies("test_document.removed")) == 2


def test_over_sftp_a_handle_that_was_never_closed_proves_nothing(world: World, tmp_path: Path) -> None:
    """The connection was lost: nobody knows what arrived."""
    (row,) = make(world)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                file = handle(await raw.ask(Type.OPEN, s(f"/sandbox/{row.name}"), u32(READ), u32(0)))
                assert (await raw.ask(Type.READ, file, u64(0), u32(1000)))[0] == Type.DATA
            await eventually(lambda: world.sessions()[0].ended_at is not None)
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                file = handle(await raw.ask(Type.OPEN, s(f"/sandbox/{row.name}"), u32(READ), u32(0)))
                await raw.ask(Type.READ, file, u64(100), u32(50))
                assert status(await raw.ask(Type.CLOSE, file)) == Status.OK

    asyncio.run(main())
    assert (rows(world)[0].read_ranges, rows(world)[0].fully_read_at) == ([[100, 150]], None)


def test_over_ftps_it_is_listed_pulled_in_two_parts_and_deleted(world: World, tmp_path: Path) -> None:
    """MLSD, SIZE, REST, RETR, DELE, by Python's own client."""
    (row,) = make(world)
    path = f"/sandbox/{row.name}"
    with ftps_world.listening(world, tmp_path) as listener, listener.session() as client:
        facts = dict(client.mlsd("/sandbox"))
        assert int(facts[row.name]["size"]) == row.size
        whole = ftps_world.get(client, path)
        assert ftps_world.get(client, path, rest=1000) == whole[1000:]
        client.delete(path)
        assert client.nlst("/sandbox") == []
    assert hashlib.sha256(whole).hexdigest() == row.sha256
    (after,) = rows(world)
    assert after.fully_read_at is not None and after.removed_at is not None
    assert [body["facts"]["bytes"] for body in world.bodies("test_document.read")] == [row.size, row.size - 1000]
    assert world.events("entry") == world.events("delivery") == []
