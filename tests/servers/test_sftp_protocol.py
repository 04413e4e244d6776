"""SFTP version 3 as clients meet it: answers, codes, order, limits."""

import asyncio
import struct
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import FolderSettings
from gateway.domain.folders import ReceiptMode
from gateway.dropfolder.folders import DropFolders
from gateway.dropfolder.visit import Visit
from gateway.errors import NotFound, Unavailable
from gateway.servers import sftp_engine
from gateway.servers import sftp_packets as wire
from gateway.servers.limits import Handles
from gateway.servers.sftp_engine import Call, Engine
from gateway.servers.sftp_packets import Malformed, Request, Status, Type
from tests.dropfolder.world import World
from tests.servers.sftp_world import Listener, Raw, eventually, handle, listening, request, status, u32, u64

CONTENT = bytes(range(256)) * 400  # 100 KB


def s(text: str | bytes) -> bytes:
    """A string field."""
    return wire.string(text.encode() if isinstance(text, str) else text)


def test_a_client_lists_reads_and_removes(world: World, tmp_path: Path) -> None:
    """The whole errand of an ERP, with asyncssh's client."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(CONTENT)
            async with listener.sftp() as sftp:
                assert sorted(await sftp.listdir("/")) == ["archive", "inbox", "manifest", "sandbox"]
                assert await sftp.listdir("inbox") == [name]
                attrs = await sftp.stat(f"inbox/{name}")
                assert (attrs.size, attrs.permissions, attrs.uid) == (len(CONTENT), 0o100440, 0)
                assert attrs.mtime == world.entry().mtime
                file: asyncssh.SFTPClientFile
                async with sftp.open(f"/inbox/{name}", "rb") as file:
                    assert bytes(await file.read()) == CONTENT  # type: ignore[arg-type]
                await sftp.remove(f"/inbox/{name}")
                assert await sftp.listdir("inbox") == []
                with pytest.raises(asyncssh.SFTPNoSuchFile):
                    await sftp.remove(f"/inbox/{name}")
                month = "/archive/" + world.entry().month.replace("-", "/")
                async with sftp.open(f"{month}/{name}", "rb") as file:
                    assert bytes(await file.read()) == CONTENT  # type: ignore[arg-type]

    asyncio.run(main())
    assert world.entry().received_at is not None


def test_every_refusal_has_its_code(world: World, tmp_path: Path) -> None:
    """2 for what is not there, 3 for what is not allowed, 8 for what does not exist: the wrong one stops clients."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            one, two = listener.publish(b"one", b"two")
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                read, write, create = u32(1), u32(0x2), u32(0x1A)
                attrs, over = u32(0), [s(f"/inbox/{one}"), s(f"/inbox/{two}")]
                expected = [
                    (Type.STAT, [s("/inbox/none")], Status.NO_SUCH_FILE),
                    (Type.LSTAT, [s("/etc/passwd")], Status.NO_SUCH_FILE),
                    (Type.STAT, [s("/inbox/../../../etc/passwd")], Status.NO_SUCH_FILE),
                    (Type.OPEN, [s("/inbox/none"), read, attrs], Status.NO_SUCH_FILE),
                    (Type.OPEN, [s("/inbox/new"), create, attrs], Status.PERMISSION_DENIED),
                    (Type.OPEN, [s(f"/inbox/{one}"), write, attrs], Status.PERMISSION_DENIED),
                    (Type.OPEN, [s("/inbox"), read, attrs], Status.FAILURE),
                    (Type.OPENDIR, [s(f"/inbox/{one}")], Status.NO_SUCH_FILE),
                    (Type.OPENDIR, [s("/archive/1999")], Status.NO_SUCH_FILE),
                    (Type.REMOVE, [s("/inbox/none")], Status.NO_SUCH_FILE),
                    (Type.REMOVE, [s("/inbox")], Status.FAILURE),
                    (Type.RENAME, over, Status.FAILURE),
                    (Type.RENAME, [s(f"/inbox/{one}"), s("/archive/x")], Status.PERMISSION_DENIED),
                    (Type.RENAME, [s("/inbox/none"), s("/inbox/x")], Status.NO_SUCH_FILE),
                    (Type.MKDIR, [s("/x"), attrs], Status.PERMISSION_DENIED),
                    (Type.MKDIR, [s("/inbox"), attrs], Status.FAILURE),
                    (Type.MKDIR, [s("/inbox/done"), attrs], Status.OK),
                    (Type.RMDIR, [s("/inbox/done")], Status.OK),
                    (Type.RMDIR, [s("/inbox/done")], Status.NO_SUCH_FILE),
                    (Type.RMDIR, [s("/inbox")], Status.PERMISSION_DENIED),
                    (Type.SETSTAT, [s(f"/inbox/{one}"), u32(4), u32(0o777)], Status.OK),
                    (Type.SETSTAT, [s("/inbox/none"), attrs], Status.NO_SUCH_FILE),
                    (Type.SETSTAT, [s(f"/inbox/{one}"), u32(1), u64(3)], Status.OK),
                    (Type.SETSTAT, [s(f"/inbox/{one}"), u32(1), u64(0)], Status.PERMISSION_DENIED),
                    (Type.SETSTAT, [s(f"/inbox/{one}"), u32(1)], Status.BAD_MESSAGE),
                    (Type.SYMLINK, [s("/inbox/x"), s("/etc/passwd")], Status.OP_UNSUPPORTED),
                    (Type.READLINK, [s(f"/inbox/{one}")], Status.OP_UNSUPPORTED),
                    (Type.EXTENDED, [s("hardlink@openssh.com"), s("/inbox/x"), s("/y")], Status.OP_UNSUPPORTED),
                    (Type.EXTENDED, [s("posix-rename@openssh.com"), *over], Status.FAILURE),
                    (Type.EXTENDED, [s("lsetstat@openssh.com"), s(f"/inbox/{one}"), attrs], Status.OK),
                    (Type.STAT, [s("/inbox/a\0b")], Status.FAILURE),
                    (Type.STAT, [s(b"/inbox/\xff")], Status.FAILURE),
                    (Type.STAT, [s("/" + "x" * 5000)], Status.FAILURE),
                    (Type.STAT, [u32(99)], Status.BAD_MESSAGE),
                    (Type.STAT, [], Status.BAD_MESSAGE),
                    (Type.READ, [s("nothing"), u64(0), u32(1)], Status.FAILURE),
                    (Type.CLOSE, [s("nothing")], Status.FAILURE),
                    (Type.WRITE, [s("nothing"), u64(0), s("x")], Status.FAILURE),
                    (77, [], Status.OP_UNSUPPORTED),
                    (Type.DATA, [], Status.OP_UNSUPPORTED),
                ]  # fmt: skip
                for kind, fields, code in expected:
                    answer = await raw.ask(kind, *fields)
                    assert status(answer) == int(code), (kind, fields)

    asyncio.run(main())
    assert {entry.name for entry in world.entries() if entry.listed} == {entry.name for entry in world.entries()}


def test_a_megabyte_of_path_costs_nothing(world: World, tmp_path: Path) -> None:
    """It held another server's loop for 24 seconds; the next request is answered as usual."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            raw = await Raw.open(connection)
            began = asyncio.get_running_loop().time()
            for path in (b"/" + b"../" * 350_000, b"/x" * 40_000, b"\0" * 10**6):
                assert status(await raw.ask(Type.REALPATH, s(path))) == Status.FAILURE
            answer = await raw.ask(Type.REALPATH, s("inbox/../archive/."))
            assert b"/archive" in answer
            assert asyncio.get_running_loop().time() - began < 5

    asyncio.run(main())


def test_pipelined_requests_are_answered_in_their_order(world: World, tmp_path: Path) -> None:
    """Clients send dozens of READs ahead; some answers wait for the database, none overtakes another."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(CONTENT)
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
                reads = [(offset, 1000) for offset in range(0, len(CONTENT), 1000)]
                raw.send(*(request(Type.READ, file, u64(o), u32(n), request_id=i) for i, (o, n) in enumerate(reads)))
                raw.send(
                    request(Type.CLOSE, file, request_id=1000),
                    request(Type.REMOVE, s(f"/inbox/{name}"), request_id=1001),
                )
                raw.send(request(Type.STAT, s(f"/inbox/{name}"), request_id=1002))
                got = b""
                for i in range(len(reads)):
                    answer = await raw.receive()
                    assert (answer[0], answer[1:5]) == (Type.DATA, u32(i))
                    got += answer[9:]
                assert got == CONTENT
                codes = [(answer[1:5], status(answer)) for answer in [await raw.receive() for _ in range(3)]]
                assert codes == [(u32(1000), 0), (u32(1001), 0), (u32(1002), Status.NO_SUCH_FILE)]

    asyncio.run(main())
    assert world.entry().received_at is not None


def test_reads_end_with_eof_and_take_any_offset(world: World, tmp_path: Path) -> None:
    """Offsets beyond the end, of 64 bits, sizes beyond any buffer."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(CONTENT * 4)
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
                for offset in (len(CONTENT) * 4, 1 << 62, (1 << 64) - 1):
                    assert status(await raw.ask(Type.READ, file, u64(offset), u32(10))) == Status.EOF
                answer = await raw.ask(Type.READ, file, u64(1), u32(0xFFFFFFFF))
                assert answer[9:] == (CONTENT * 4)[1 : 1 + sftp_engine.MAX_READ]
                assert len(answer) < wire.MAX_PACKET

    asyncio.run(main())
    assert world.entry().fully_read_at is None


def test_a_path_has_a_longest_length_that_is_a_setting(world: World, tmp_path: Path) -> None:
    """Every request that takes a path; 4,096 bytes unless the settings say otherwise."""

    async def main(folders: DropFolders, most: int) -> None:
        world.folders = folders
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            raw = await Raw.open(connection)
            for size, answer in ((most, Type.NAME), (most + 1, Type.STATUS)):
                assert (await raw.ask(Type.REALPATH, s("/" + "x" * (size - 1))))[0] == answer
            long = s("/inbox/" + "x" * most)
            for kind, rest in (
                (Type.STAT, b""),
                (Type.OPEN, u32(1) + u32(0)),
                (Type.OPENDIR, b""),
                (Type.RENAME, long),
            ):
                answered = await raw.ask(kind, long, rest)
                assert status(answered) == Status.FAILURE and f"at most {most} bytes".encode() in answered

    asyncio.run(main(world.folders, 4096))
    asyncio.run(main(DropFolders(world.db, world.blobs, FolderSettings(path_bytes=600)), 600))


def test_handles_have_a_limit_and_come_back(world: World, tmp_path: Path) -> None:
    """Descriptors are the gateway's, not one client's."""

    async def main() -> None:
        async with listening(world, tmp_path, handles_per_session=3) as listener:
            (name,) = listener.publish(b"one")
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                opening = (Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0))
                handles = [handle(await raw.ask(*opening)) for _ in range(2)]
                handles.append(handle(await raw.ask(Type.OPENDIR, s("/"))))
                assert status(await raw.ask(*opening)) == Status.FAILURE
                assert status(await raw.ask(Type.OPENDIR, s("/"))) == Status.FAILURE
                assert status(await raw.ask(Type.CLOSE, handles[0])) == Status.OK
                assert status(await raw.ask(Type.CLOSE, handles[0])) == Status.FAILURE
                handle(await raw.ask(*opening))

    asyncio.run(main())


def test_a_session_s_channels_share_its_handles(world: World, tmp_path: Path) -> None:
    """Ten channels of sixteen connections would otherwise hold every descriptor of the process."""

    async def main() -> None:
        async with listening(world, tmp_path, handles_per_session=3) as listener:
            listener.server.handles.limit = 4
            (name,) = listener.publish(b"one")
            opening = (Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0))
            async with listener.connect() as connection, listener.connect() as other:
                first, second, third = await Raw.open(connection), await Raw.open(connection), await Raw.open(other)
                for raw in (first, first, second, third):
                    handle(await raw.ask(*opening))
                for raw in (first, second, third):
                    assert status(await raw.ask(*opening)) == Status.FAILURE
                other.close()
                await other.wait_closed()
                await eventually(lambda: len(listener.server.connections) == 1)
                assert status(await first.ask(*opening)) == Status.FAILURE
                connection.close()
                await connection.wait_closed()
                await eventually(lambda: not listener.server.connections)
            async with listener.connect() as connection:  # every place has come back
                raw = await Raw.open(connection)
                for _ in range(3):
                    handle(await raw.ask(*opening))

    asyncio.run(main())


def test_extensions_say_what_they_are(world: World, tmp_path: Path) -> None:
    """limits, statvfs (a full disk that tells nothing of ours), fsync."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(b"one")
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                limits = struct.unpack(">QQQQ", (await raw.ask(Type.EXTENDED, s("limits@openssh.com")))[5:])
                assert limits == (wire.MAX_PACKET, sftp_engine.MAX_READ, sftp_engine.MAX_READ, 256)
                space = struct.unpack(">11Q", (await raw.ask(Type.EXTENDED, s("statvfs@openssh.com"), s("/inbox")))[5:])
                assert space[3:5] == (0, 0)
                file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
                assert (await raw.ask(Type.EXTENDED, s("fstatvfs@openssh.com"), file))[0] == Type.EXTENDED_REPLY
                assert status(await raw.ask(Type.EXTENDED, s("fsync@openssh.com"), file)) == Status.OK
                assert status(await raw.ask(Type.FSETSTAT, file, u32(0))) == Status.OK
                assert status(await raw.ask(Type.FSETSTAT, file, u32(1), u64(0))) == Status.PERMISSION_DENIED
                assert (await raw.ask(Type.FSTAT, file))[9:17] == u64(3)

    asyncio.run(main())


def test_a_large_listing_comes_in_packets_that_every_client_takes(world: World, tmp_path: Path) -> None:
    """Otherwise they say "message too long"; each name once, in the order of publication."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            names = listener.publish(*(b"%d" % i for i in range(450)))
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                directory = handle(await raw.ask(Type.OPENDIR, s("/inbox")))
                shown: list[str] = []
                while (answer := await raw.ask(Type.READDIR, directory))[0] == Type.NAME:
                    assert len(answer) < 34_000
                    fields = wire.Fields(answer, 5)
                    for _ in range(fields.u32()):
                        shown.append(fields.string().decode())
                        fields.string()
                        fields._position += 32
                assert status(answer) == Status.EOF
                assert shown == names
                assert status(await raw.ask(Type.CLOSE, directory)) == Status.OK
                assert world.sessions()[0].highest_sequence == 450

    asyncio.run(main())


@pytest.mark.parametrize("first", [request(Type.STAT, s("/")), b"\0\0\0\5\1\0\0\0\2", b"\0\0\0\1\1", b"SSH-2.0-x\r\n"])
def test_what_does_not_begin_as_sftp_3_is_closed(world: World, tmp_path: Path, first: bytes) -> None:
    """A request before INIT, version 2, half an INIT, another protocol."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            raw = await Raw.open(connection, init=False)
            raw.send(first)
            with pytest.raises(asyncio.IncompleteReadError):
                await asyncio.wait_for(raw.receive(), 10)

    asyncio.run(main())


def test_a_receipt_that_cannot_be_recorded_is_not_given(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is "try again"; the file stays open, and closing it again is the receipt."""
    world.set(type(world.folder), world.folder.id, receipt_mode=ReceiptMode.FULL_READ)
    write = world.db.write

    def away(_step: object) -> None:
        raise Unavailable("the database does not answer; try again")

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(b"one")
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
                assert (await raw.ask(Type.READ, file, u64(0), u32(10)))[9:] == b"one"
                monkeypatch.setattr(world.db, "write", away)
                answer = await raw.ask(Type.CLOSE, file)
                assert status(answer) == Status.FAILURE
                assert b"try again" in answer
                assert (await raw.ask(Type.READ, file, u64(0), u32(10)))[9:] == b"one"
                monkeypatch.setattr(world.db, "write", write)
                assert status(await raw.ask(Type.CLOSE, file)) == Status.OK
                assert world.entry().received_at is not None

    asyncio.run(main())


def test_a_full_pool_answers_try_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and the session goes on."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(b"one")
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                monkeypatch.setattr(listener.server.pool, "_limit", 0)
                assert status(await raw.ask(Type.REMOVE, s(f"/inbox/{name}"))) == Status.FAILURE
                monkeypatch.undo()
                assert status(await raw.ask(Type.REMOVE, s(f"/inbox/{name}"))) == Status.OK

    asyncio.run(main())


def test_what_nobody_foresaw_is_told_to_nobody(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No path, no text of an exception: a request still has an answer."""

    def broken(_self: Visit, _path: str) -> None:
        raise RuntimeError("/var/lib/gateway/secret")

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            raw = await Raw.open(connection)
            monkeypatch.setattr(Visit, "stat", broken)
            answer = await raw.ask(Type.STAT, s("/inbox"))
            assert status(answer) == Status.FAILURE
            assert b"secret" not in answer

    asyncio.run(main())


class Nothing:
    """A visit to a folder in which nothing is: what an engine needs at least."""

    has_seen_news = False

    def is_at_hand(self, path: str) -> bool:
        return True

    is_open_at_hand = is_at_hand

    def stat(self, path: str) -> object:
        raise NotFound("no such file")

    open = listing = stat

    def begin_at_once(self) -> bool:
        """Nobody is here."""
        return True


@settings(max_examples=400)
@given(st.sampled_from([*range(1, 22), 200, 255]), st.binary(max_size=60), st.booleans())
def test_any_bytes_have_an_answer(kind: int, body: bytes, is_whole: bool) -> None:
    """Never an exception but Malformed, which closes the channel."""
    engine = Engine(Nothing(), Handles(10))  # type: ignore[arg-type]
    engine.answer(Request(b"\1\0\0\0\3"))
    try:
        answer = engine.answer(Request(bytes((kind,)) + body, is_whole=is_whole))
    except Malformed:
        assert kind == Type.INIT or len(body) < 4
        return
    if isinstance(answer, Call):
        assert answer.request_id == body[:4]
    else:
        assert answer[5:9] == body[:4]
        assert int.from_bytes(answer[:4], "big") == len(answer) - 4


async def _slow_reader(listener: Listener, name: str, reads: int) -> None:
    async with listener.connect() as connection:
        raw = await Raw.open(connection, window=70_000)
        file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
        raw._reader._chan.pause_reading()
        raw.send(*(request(Type.READ, file, u64(0), u32(200_000)) for _ in range(reads)))
        (served,) = listener.server.connections
        await eventually(lambda: any(len(channel._requests) > 256 for channel in served._channels))
        await asyncio.sleep(0.5)
        (channel,) = served._channels
        assert channel._chan.get_write_buffer_size() < 300_000
        connection.abort()
        await eventually(lambda: not listener.server.connections)


def test_a_client_that_asks_much_and_takes_nothing_costs_no_memory(world: World, tmp_path: Path) -> None:
    """20,000 READs ahead with a closed window: requests wait as requests, one answer is held."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(CONTENT * 2)
            await _slow_reader(listener, name, 20_000)

    asyncio.run(main())
    (record,) = world.bodies("entry.read")
    assert record["facts"]["closed_cleanly"] is False


def test_large_requests_that_wait_are_counted_by_their_bytes(world: World, tmp_path: Path) -> None:
    """WRITEs of 250 kB behind a closed window: 256 of them on each of ten channels would be 640 MB."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(CONTENT * 2)
            async with listener.connect() as connection:
                raw = await Raw.open(connection, window=70_000)
                file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
                raw._reader._chan.pause_reading()
                raw.send(*(request(Type.READ, file, u64(0), u32(200_000)) for _ in range(2)))
                (served,) = listener.server.connections
                (channel,) = served._channels
                await eventually(lambda: channel._is_full)
                raw.send(*(request(Type.WRITE, file, u64(0), s(bytes(250_000))) for _ in range(60)))
                await eventually(lambda: not channel._is_reading)
                await asyncio.sleep(0.5)
                assert sum(len(one.body) for one in channel._requests) < 1_000_000
                raw._reader._chan.resume_reading()  # and it goes on once the answers are taken
                answers = [await raw.receive() for _ in range(62)]
                assert [answer[0] for answer in answers] == [Type.DATA] * 2 + [Type.STATUS] * 60

    asyncio.run(main())


def test_a_client_with_an_endless_window_that_takes_nothing_costs_no_memory(world: World, tmp_path: Path) -> None:
    """The window says yes, the network is full: answers stop there too."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(CONTENT * 20)
            async with listener.connect() as connection:
                raw = await Raw.open(connection, window=2**31)
                file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
                connection._transport.pause_reading()
                raw.send(*(request(Type.READ, file, u64(0), u32(255_000)) for _ in range(5_000)))
                (served,) = listener.server.connections
                await eventually(lambda: any(channel._is_congested for channel in served._channels))
                await asyncio.sleep(1)
                assert served._conn._transport.get_write_buffer_size() < 1_000_000  # type: ignore[union-attr]
                connection.abort()

    asyncio.run(main())


def test_a_close_counts_only_when_every_byte_was_taken(world: World, tmp_path: Path) -> None:
    """A client that sends READ and CLOSE ahead, takes a part of the answer and goes, has not read the file."""
    world.set(type(world.folder), world.folder.id, receipt_mode=ReceiptMode.FULL_READ)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            (name,) = listener.publish(CONTENT)
            async with listener.connect() as connection:
                raw = await Raw.open(connection, window=70_000)
                file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(1), u32(0)))
                raw._reader._chan.pause_reading()
                raw.send(request(Type.READ, file, u64(0), u32(200_000)), request(Type.CLOSE, file))
                await asyncio.sleep(0.5)
                connection.abort()
            await eventually(lambda: bool(world.bodies("entry.read")))

    asyncio.run(main())
    assert world.entry().fully_read_at is None


def test_the_month_s_list_is_as_long_as_listing_stat_and_handle_say(world: World, tmp_path: Path) -> None:
    """A client compares the length of what it got; meanwhile more is published."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.sftp() as sftp:
            await asyncio.to_thread(listener.publish, b"one", b"two")
            (shown,) = [one for one in await sftp.readdir("/manifest") if str(one.filename).endswith(".csv")]
            path = f"/manifest/{shown.filename!s}"
            assert (await sftp.stat(path)).size == shown.attrs.size
            async with sftp.open(path, "rb") as file:
                await asyncio.to_thread(listener.publish, b"three")
                content: Any = await file.read()
                assert len(content) == (await file.stat()).size == shown.attrs.size
            assert content.splitlines()[0].startswith(b"sequence,event,at,") and content.count(b"\r\n") == 3
            while (await sftp.stat(path)).size == shown.attrs.size:
                await asyncio.sleep(0.05)  # the folder is looked at once a second
            async with sftp.open(path, "rb") as file:
                longer: Any = await file.read()
                assert longer.count(b"\r\n") == 4
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.remove(path)

    asyncio.run(main())
