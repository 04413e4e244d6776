"""Writing over SFTP and FTPS: what was closed is whole and stays, everything else is no file."""

import asyncio
import contextlib
import ftplib
import io
import os
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from gateway.errors import Unavailable
from gateway.servers import sftp_packets as wire
from gateway.servers.sftp_packets import Status, Type
from tests.dropfolder.test_sandbox import blobs_kept
from tests.dropfolder.world import World
from tests.dropfolder.world import names as names_in
from tests.servers import ftps_world
from tests.servers.sftp_world import Raw, eventually, handle, listening, request, status, u32, u64

READ, WRITE, APPEND, CREAT, TRUNC, EXCL = 1, 2, 4, 8, 16, 32
CONTENT = os.urandom(300_000)


def s(text: str | bytes) -> bytes:
    """A string field."""
    return wire.string(text.encode() if isinstance(text, str) else text)


def content(world: World, name: str) -> bytes:
    """What a file of the sandbox holds."""
    visit = world.visit()
    file = visit.open(f"/sandbox/{name}")
    try:
        return file.read(0, 10**9)
    finally:
        visit.close(file)


def listed(world: World) -> list[str]:
    return names_in(world.visit(), "/sandbox")


def no_space() -> None:
    raise Unavailable("the gateway's disk is nearly full", code="disk_full")


def test_a_file_is_written_looked_at_renamed_and_read_back(world: World, tmp_path: Path) -> None:
    """With asyncssh's client: put, stat, utime, chmod, mkdir, rename, get, rm, rmdir, df."""
    (tmp_path / "a.pdf").write_bytes(CONTENT)

    async def main() -> None:
        async with listening(world, tmp_path / "s") as listener, listener.sftp() as sftp:
            before = await sftp.statvfs("/sandbox")
            await sftp.put(tmp_path / "a.pdf", "/sandbox/a.pdf.part", preserve=True)
            await sftp.rename("/sandbox/a.pdf.part", "/sandbox/a.pdf")
            assert (await sftp.stat("/sandbox/a.pdf")).size == len(CONTENT)
            await sftp.mkdir("/sandbox/done")
            await sftp.posix_rename("/sandbox/a.pdf", "/sandbox/done/a.pdf")
            await sftp.get("/sandbox/done/a.pdf", tmp_path / "back")
            after = await sftp.statvfs("/sandbox")
            assert (before.bavail - after.bavail) * 4096 >= len(CONTENT) - 4096
            assert before.blocks * 4096 <= 100_000_000
            await sftp.remove("/sandbox/done/a.pdf")
            await sftp.rmdir("/sandbox/done")
            assert await sftp.listdir("/sandbox") == []

    (tmp_path / "s").mkdir()
    asyncio.run(main())
    assert (tmp_path / "back").read_bytes() == CONTENT


def test_writes_in_any_order_padded_and_without_truncation_make_the_file(world: World, tmp_path: Path) -> None:
    """OpenSSH's scp opens without TRUNC and sets the size at the end; rclone 1.60 pads its last WRITE."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            raw = await Raw.open(connection)
            for _ in range(2):  # the second one replaces the first
                file = handle(await raw.ask(Type.OPEN, s("/sandbox/a"), u32(WRITE | CREAT), u32(0)))
                assert status(await raw.ask(Type.WRITE, file, u64(0), s("hello "))) == Status.OK
                assert status(await raw.ask(Type.WRITE, file, u64(9), s("ld"))) == Status.OK
                assert status(await raw.ask(Type.WRITE, file, u64(6), s("wor"), b"padding")) == Status.OK
                assert status(await raw.ask(Type.FSETSTAT, file, u32(1), u64(11))) == Status.OK
                assert status(await raw.ask(Type.FSETSTAT, file, u32(4), u32(0o600))) == Status.OK
                assert status(await raw.ask(Type.EXTENDED, s("fsync@openssh.com"), file)) == Status.OK
                seen = await raw.ask(Type.STAT, s("/sandbox/a"))  # sshfs looks while it is open
                assert (seen[0], seen[9:17]) == (Type.ATTRS, u64(11))
                assert (await raw.ask(Type.FSTAT, file))[9:17] == u64(11)
                assert status(await raw.ask(Type.CLOSE, file)) == Status.OK
                assert status(await raw.ask(Type.SETSTAT, s("/sandbox/a"), u32(8), u32(1), u32(1))) == Status.OK

    asyncio.run(main())
    assert content(world, "a") == b"hello world"


def test_what_cannot_be_a_whole_file_is_refused_with_a_reason(world: World, tmp_path: Path) -> None:
    """Append, resume, holes, what is there already, places that are for reading."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            (name,) = listener.publish(b"invoice")
            raw = await Raw.open(connection)
            for path, flags, code in [
                ("/sandbox/a", WRITE | CREAT | APPEND, Status.PERMISSION_DENIED),
                ("/sandbox/a", WRITE, Status.PERMISSION_DENIED),
                ("/sandbox", WRITE | CREAT, Status.FAILURE),
                ("/sandbox/none/a", WRITE | CREAT | TRUNC, Status.NO_SUCH_FILE),
                ("/intake/a", WRITE | CREAT | TRUNC, Status.PERMISSION_DENIED),
                (f"/inbox/{name}", WRITE | CREAT | TRUNC, Status.PERMISSION_DENIED),
                ("/x", WRITE | CREAT | EXCL, Status.PERMISSION_DENIED),
            ]:
                assert status(await raw.ask(Type.OPEN, s(path), u32(flags), u32(0))) == code, path
            file = handle(await raw.ask(Type.OPEN, s("/sandbox/a"), u32(WRITE | CREAT | EXCL), u32(0)))
            await raw.ask(Type.WRITE, file, u64(5), s("x"))
            assert b"holes" in (answer := await raw.ask(Type.CLOSE, file))
            assert status(answer) == Status.FAILURE
            assert status(await raw.ask(Type.CLOSE, file)) == Status.FAILURE  # it is over
            file = handle(await raw.ask(Type.OPEN, s("/sandbox/b"), u32(WRITE | CREAT | TRUNC), u32(0)))
            await raw.ask(Type.WRITE, file, u64(0), s("abc"))
            assert status(await raw.ask(Type.CLOSE, file)) == Status.OK
            assert status(await raw.ask(Type.OPEN, s("/sandbox/b"), u32(WRITE | CREAT | EXCL), u32(0))) == 4
            file = handle(await raw.ask(Type.OPEN, s("/sandbox/b"), u32(WRITE | CREAT), u32(0)))
            assert b"beginning" in await raw.ask(Type.WRITE, file, u64(3), s("def"))
            assert status(await raw.ask(Type.CLOSE, file)) == Status.FAILURE
            file = handle(await raw.ask(Type.OPEN, s(f"/inbox/{name}"), u32(READ), u32(0)))
            assert status(await raw.ask(Type.WRITE, file, u64(0), s("x"))) == Status.PERMISSION_DENIED

    asyncio.run(main())
    assert listed(world) == ["b"]
    assert content(world, "b") == b"abc"


def test_a_file_of_the_sandbox_is_copied_there_and_a_document_is_not(world: World, tmp_path: Path) -> None:
    """OpenSSH's `cp`. What the gateway copies did not reach the client: a document copied so would look read."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            (name,) = listener.publish(b"invoice")
            raw = await Raw.open(connection)

            async def opened(path: str, flags: int) -> bytes:
                return handle(await raw.ask(Type.OPEN, s(path), u32(flags), u32(0)))

            async def copied(source: bytes, offset: int, length: int, target: bytes, place: int) -> int:
                return status(
                    await raw.ask(Type.EXTENDED, s("copy-data"), source, u64(offset), u64(length), target, u64(place))
                )

            first = await opened("/sandbox/a", WRITE | CREAT | TRUNC)
            assert status(await raw.ask(Type.WRITE, first, u64(0), s(CONTENT[:200_000]))) == Status.OK
            assert await copied(first, 0, 5, first, 5) == Status.PERMISSION_DENIED  # it is not whole yet
            assert status(await raw.ask(Type.CLOSE, first)) == Status.OK
            source, target = await opened("/sandbox/a", READ), await opened("/sandbox/b", WRITE | CREAT | TRUNC)
            entry = await opened(f"/inbox/{name}", READ)
            assert await copied(entry, 0, 0, target, 0) == Status.PERMISSION_DENIED
            assert await copied(source, 0, 0, entry, 0) == Status.PERMISSION_DENIED
            assert await copied(source, 100_000, 0, target, 10) == Status.OK
            assert await copied(source, 0, 10, target, 0) == Status.OK
            assert await copied(source, 2**64 - 1, 0, target, 0) == Status.OK  # nothing follows
            assert status(await raw.ask(Type.READ, source, u64(2**64 - 1), u32(10))) == Status.EOF
            assert status(await raw.ask(Type.READ, target, u64(2**64 - 1), u32(10))) == Status.EOF
            assert status(await raw.ask(Type.CLOSE, target)) == Status.OK
            short = await opened("/sandbox/c", WRITE | CREAT | TRUNC)
            assert await copied(source, 0, 2**64 - 1, short, 0) == Status.FAILURE

    asyncio.run(main())
    assert content(world, "b") == CONTENT[:10] + CONTENT[100_000:200_000]
    assert listed(world) == ["a", "b"]
    assert [entry.fully_read_at for entry in world.entries()] == [None]


@pytest.mark.parametrize("end", ["abort", "disconnect", "eof", "channel"])
def test_an_upload_that_its_client_did_not_close_never_counts(world: World, tmp_path: Path, end: str) -> None:
    """A killed client, a lost line, an end of the channel with the file open: half a file is no file."""
    kept = blobs_kept(world.blobs)

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                file = handle(await raw.ask(Type.OPEN, s("/sandbox/a"), u32(WRITE | CREAT | TRUNC), u32(0)))
                assert status(await raw.ask(Type.WRITE, file, u64(0), s(CONTENT[:100_000]))) == Status.OK
                assert blobs_kept(world.blobs) == kept + 1
                if end == "abort":
                    connection.abort()
                elif end == "disconnect":
                    connection.disconnect(asyncssh.DISC_BY_APPLICATION, "bye")
                elif end == "eof":
                    raw._writer.write_eof()
                else:
                    raw._writer.close()
                await eventually(lambda: blobs_kept(world.blobs) == kept)
            await eventually(lambda: world.folders._sandboxes.quota._accounts == {})

    asyncio.run(main())
    assert listed(world) == []


def test_a_close_that_was_sent_before_the_client_left_counts(world: World, tmp_path: Path) -> None:
    """lftp sends its last CLOSE and is gone."""

    async def main() -> None:
        async with listening(world, tmp_path) as listener:
            async with listener.connect() as connection:
                raw = await Raw.open(connection)
                file = handle(await raw.ask(Type.OPEN, s("/sandbox/a"), u32(WRITE | CREAT | TRUNC), u32(0)))
                raw.send(
                    request(Type.WRITE, file, u64(0), s(CONTENT[:30_000])),
                    request(Type.WRITE, file, u64(30_000), s(CONTENT[30_000:60_000])),
                    request(Type.CLOSE, file),
                )
                raw._writer.write_eof()
                connection.close()
            await eventually(lambda: listed(world) == ["a"])

    asyncio.run(main())
    assert content(world, "a") == CONTENT[:60_000]


def test_the_disk_below_its_floor_and_a_full_sandbox_are_told(world: World, tmp_path: Path) -> None:
    """FX_FAILURE with a text that says what to do."""
    quota = world.folders._sandboxes.quota
    quota.limit = 10

    async def main() -> None:
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            raw = await Raw.open(connection)
            file = handle(await raw.ask(Type.OPEN, s("/sandbox/a"), u32(WRITE | CREAT | TRUNC), u32(0)))
            answer = await raw.ask(Type.WRITE, file, u64(0), s("12345678901"))
            assert (status(answer), b"MB at most" in answer) == (Status.FAILURE, True)
            assert status(await raw.ask(Type.CLOSE, file)) == Status.FAILURE
            quota._require_space = no_space
            answer = await raw.ask(Type.OPEN, s("/sandbox/b"), u32(WRITE | CREAT | TRUNC), u32(0))
            assert (status(answer), b"nearly full" in answer) == (Status.FAILURE, True)

    asyncio.run(main())
    assert listed(world) == []


def test_a_client_that_sends_200_mb_ahead_costs_4_mb(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading from the channel pauses while the disk does not keep up."""
    world.folders._sandboxes.quota.limit = 10**9
    gate, most = asyncio.Event(), 0

    async def main() -> None:
        nonlocal most
        async with listening(world, tmp_path) as listener, listener.connect() as connection:
            (session,) = listener.server.connections
            run = session.run

            async def slow(call: object) -> object:
                if gate.is_set():
                    await asyncio.sleep(0.5)
                return await run(call)  # type: ignore[arg-type]

            raws = [await Raw.open(connection) for _ in range(10)]
            files = [
                handle(await raw.ask(Type.OPEN, s(f"/sandbox/{n}"), u32(WRITE | CREAT | TRUNC), u32(0)))
                for n, raw in enumerate(raws)
            ]
            session.run = slow  # type: ignore[method-assign]
            gate.set()
            piece = bytes(255_000)
            for number in range(80):
                for raw, file in zip(raws, files, strict=True):
                    raw.send(request(Type.WRITE, file, u64(number * len(piece)), s(piece)))
            for _ in range(20):
                await asyncio.sleep(0.1)
                held = sum(channel.held + _undelivered(channel) for channel in session._channels)
                most = max(most, held)
            connection.abort()

    def _undelivered(channel: Any) -> int:
        return sum(len(data) for data, _ in channel._chan._recv_buf)

    asyncio.run(main())
    assert 500_000 < most <= 4_000_000, most


# -- FTPS


def test_stor_keeps_the_bytes_and_ascii_changes_none(world: World, tmp_path: Path) -> None:
    """ftplib: STOR in both types, then read back, renamed, removed."""
    with ftps_world.listening(world, tmp_path) as listener, listener.session() as client:
        client.storbinary("STOR /sandbox/a.part", io.BytesIO(CONTENT))
        client.rename("/sandbox/a.part", "/sandbox/a")
        assert client.size("/sandbox/a") == len(CONTENT)
        assert ftps_world.get(client, "/sandbox/a") == CONTENT
        client.storlines("STOR /sandbox/b", io.BytesIO(b"one\ntwo\n"))
        assert content(world, "b") == b"one\r\ntwo\r\n"
        client.mkd("/sandbox/c")
        client.cwd("/sandbox/c")
        client.storbinary("STOR empty", io.BytesIO())
        assert client.nlst() == ["empty"]
        client.delete("empty")
        client.rmd("/sandbox/c")
    assert content(world, "a") == CONTENT


def test_append_unique_and_resumed_uploads_are_refused(world: World, tmp_path: Path) -> None:
    """Each would make a file of parts that nobody saw together."""
    with ftps_world.listening(world, tmp_path) as listener, listener.session() as client:
        for command in ("APPE /sandbox/a", "STOU a", "STOR /inbox/a", "STOR /sandbox", "STOR /sandbox/no/a"):
            with pytest.raises(ftplib.error_perm):
                client.storbinary(command, io.BytesIO(b"x"))
        with pytest.raises(ftplib.error_perm):
            client.storbinary("STOR /sandbox/a", io.BytesIO(b"x"), rest=1)
        client.storbinary("STOR /sandbox/b", io.BytesIO(b"x"))
    assert listed(world) == ["b"]


@pytest.mark.parametrize("end", ["reset", "fin", "abor", "control"])
def test_an_upload_whose_end_was_not_said_is_discarded(world: World, tmp_path: Path, end: str) -> None:
    """A RST, a FIN without close_notify, ABOR, a lost control connection: 426, and no file."""
    kept = blobs_kept(world.blobs)
    with ftps_world.listening(world, tmp_path) as listener, listener.session() as client:
        data = client.transfercmd("STOR /sandbox/a")
        data.sendall(CONTENT)
        if end == "control":
            client.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        elif end == "abor":
            client.putline("ABOR")
            assert client.getmultiline()[:3] in ("426", "225")
        else:
            raw = socket.socket(fileno=os.dup(data.fileno()))
            if end == "reset":
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            data.detach() if end == "fin" else data.close()
            if end == "fin":
                raw.shutdown(socket.SHUT_WR)
            else:
                raw.close()
            with pytest.raises((ftplib.error_temp, ftplib.error_proto), match="426"):
                client.voidresp()
            with contextlib.suppress(OSError):
                raw.close()
        asyncio.run(eventually(lambda: blobs_kept(world.blobs) == kept))
        with contextlib.suppress(OSError, ssl.SSLError):
            data.close()
    assert listed(world) == []
    assert world.folders._sandboxes.quota._accounts == {}


def test_ftps_tells_a_full_disk_and_a_full_sandbox(world: World, tmp_path: Path) -> None:
    """452 and 552, as RFC 959 has them."""
    quota = world.folders._sandboxes.quota
    quota.limit = 100_000
    with ftps_world.listening(world, tmp_path) as listener, listener.session() as client:
        with pytest.raises((ftplib.error_perm, OSError)) as refusal:
            client.storbinary("STOR /sandbox/a", io.BytesIO(CONTENT))
        if isinstance(refusal.value, OSError):  # reset while it was sending: the reply waits
            assert client.getmultiline().startswith("552")
        else:
            assert "552" in str(refusal.value)
        quota._require_space = no_space
        with pytest.raises(ftplib.error_temp, match="452"):
            client.storbinary("STOR /sandbox/a", io.BytesIO(b"x"))
    assert listed(world) == []
