"""One thread serves every FTPS session: what waits, waits beside it, and replies keep their order."""

import asyncio
import contextlib
import ftplib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self

import pytest

from gateway.dropfolder.index import Index
from gateway.dropfolder.uploads import Upload
from gateway.dropfolder.visit import Visit
from gateway.errors import Unavailable
from gateway.servers import ftps_loop
from gateway.servers.ftps_data import RECORDS_AT_ONCE, DataConnection
from gateway.servers.ftps_loop import Errands, Loop
from tests.dropfolder.world import World
from tests.servers.ftps_world import PASSWORD, Listener, get, listening
from tests.servers.test_ftps_hostile import eventually, has_left, in_tls, open_data

CONTENT = os.urandom(100_000)
BIG = os.urandom(1 << 20) * 12  # more than sockets hold


@pytest.fixture
def ftps(world: World, tmp_path: Path) -> Iterator[Listener]:
    with listening(world, tmp_path) as listener:
        yield listener


class Held:
    """A method that waits until it is let go."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.has_begun, self._may_go_on = threading.Event(), threading.Event()
        real = getattr(owner, name)

        def held(*values: object, **named: object) -> object:
            self.has_begun.set()
            assert self._may_go_on.wait(20)
            return real(*values, **named)

        patch.setattr(owner, name, held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._may_go_on.set()


def ask_for_ever(client: ftplib.FTP) -> None:
    while True:
        client.voidcmd("NOOP")


# -- sessions


@pytest.mark.parametrize("method", ["remove", "rename", "make_directory"])
def test_a_command_that_hangs_holds_no_other_session(
    ftps: Listener, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Others list and pull, and a file that the same client has under way arrives; then it is answered."""
    one, two = ftps.publish(CONTENT, BIG)
    commands = {"remove": [f"DELE inbox/{one}"], "make_directory": ["MKD inbox/done"]}
    commands["rename"] = [f"RNFR inbox/{one}", "RNTO inbox/read.pdf"]
    with ftps.session() as client, ftps.session() as other:
        client.voidcmd("TYPE I")
        data = client.transfercmd(f"RETR inbox/{two}")
        with Held(monkeypatch, Visit, method) as held:
            *before, last = commands[method]
            for command in before:
                client.sendcmd(command)
            client.putcmd(last)
            assert held.has_begun.wait(5)
            began = time.monotonic()
            assert get(other, f"inbox/{one}") == CONTENT
            assert sorted(other.nlst("inbox")) == sorted([one, two])
            assert b"".join(iter(lambda: data.recv(65536), b"")) == BIG
            data.unwrap()  # type: ignore[attr-defined]
            data.close()
            assert client.voidresp().startswith("226")
            assert time.monotonic() - began < 5
        assert client.getresp()[:3] in ("250", "257")


def test_a_log_in_that_hangs_holds_no_other_session(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is checked beside the loop: it costs a core for a while, and asks the database."""
    (name,) = ftps.publish(CONTENT)
    with ftps.session() as client, in_tls(ftps) as control:
        with Held(monkeypatch, Visit, "begin") as held:
            control.sendall(f"USER acme\r\nPASS {PASSWORD}\r\n".encode())
            assert held.has_begun.wait(5)
            assert get(client, f"inbox/{name}") == CONTENT
        answer = b""
        while b"230" not in answer:
            answer += control.recv(4096)


def test_an_upload_whose_disk_hangs_holds_no_other_session(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sends meanwhile waits in its socket."""
    (name,) = ftps.publish(CONTENT)
    with ftps.session() as client, ftps.session() as other:
        client.voidcmd("TYPE I")
        with Held(monkeypatch, Upload, "write") as held:
            data = client.transfercmd("STOR sandbox/a.bin")
            data.sendall(CONTENT)
            assert held.has_begun.wait(5)
            assert get(other, f"inbox/{name}") == CONTENT
        data.unwrap()  # type: ignore[attr-defined]
        data.close()
        assert client.voidresp().startswith("226")
        assert get(other, "sandbox/a.bin") == CONTENT


def test_commands_sent_ahead_are_answered_in_their_order(ftps: Listener) -> None:
    """Some wait for the database, some do not, one is refused: as many answers, each in its place."""
    (name,) = ftps.publish(CONTENT)
    with ftps.session() as client:
        assert client.sock is not None
        commands = [("NOOP", "200"), ("MKD inbox/a", "257"), ("PWD", "257"), ("RMD inbox/nothing", "550")]
        commands += [(f"SIZE inbox/{name}", "213"), ("RMD inbox/a", "250"), ("MKD inbox/a", "257"), ("XYZZ", "500")]
        commands = commands * 1 + [("NOOP", "200")] * 100 + [("RMD inbox/a", "250"), ("SYST", "215")]
        client.sock.sendall("".join(f"{command}\r\n" for command, _ in commands).encode())
        answers = []
        for _ in commands:
            with contextlib.suppress(ftplib.Error):
                answers.append(client.getresp()[:3])
                continue
            answers.append(client.lastresp)
    assert answers == [code for _, code in commands]


def test_who_goes_while_its_command_runs_leaves_nothing(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is done all the same; the session's end is noticed after it, and recorded."""
    (name,) = ftps.publish(CONTENT)
    with ftps.session() as client:
        assert get(client, f"inbox/{name}") == CONTENT
        assert client.sock is not None
        with Held(monkeypatch, Visit, "remove") as held:
            client.putcmd(f"DELE inbox/{name}")
            assert held.has_begun.wait(5)
            client.sock.shutdown(socket.SHUT_RDWR)
        assert eventually(lambda: has_left(ftps))
    assert ftps.world.entry().received_at


@pytest.mark.parametrize("method", ["open", "create", "begin"])
def test_what_a_session_was_given_too_late_is_taken_back(
    ftps: Listener, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It was ended while it waited for a file, an upload, its log-in: no descriptor, no row, no place stays."""
    (name,) = ftps.publish(CONTENT)
    monkeypatch.setattr(Visit, "is_open_at_hand", lambda *_: False)
    with contextlib.ExitStack() as stack:
        if method == "begin":
            control = stack.enter_context(in_tls(ftps))
            commands = f"USER acme\r\nPASS {PASSWORD}\r\n"
        else:
            client = stack.enter_context(ftps.session())
            client.makepasv()
            assert client.sock is not None
            control = client.sock  # type: ignore[assignment]
            commands = f"RETR inbox/{name}\r\n" if method == "open" else "STOR sandbox/a.bin\r\n"
        descriptors = len(os.listdir("/proc/self/fd"))
        with Held(monkeypatch, Visit, method) as held:
            control.sendall(commands.encode())
            assert held.has_begun.wait(5)
            for session in list(ftps.server._listener.sessions):
                session.end()
            while control.recv(100):
                pass
        assert eventually(lambda: has_left(ftps))
        assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_drain_waits_for_a_command_that_runs(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered before its session ends; one that does nothing ends at once."""
    (name,) = ftps.publish(CONTENT)
    with ftps.session() as client, ftps.session() as idle:
        assert get(client, f"inbox/{name}") == CONTENT
        with Held(monkeypatch, Visit, "remove") as held:
            client.putcmd(f"DELE inbox/{name}")
            assert held.has_begun.wait(5)
            draining = asyncio.run_coroutine_threadsafe(ftps.server.drain(10), ftps.loop)
            with pytest.raises((EOFError, OSError)):
                ask_for_ever(idle)
            assert not draining.done()
        assert client.getresp().startswith("250")
        draining.result(5)
        assert has_left(ftps)


def test_a_stop_records_what_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The close returns once the command is done and its session's end is a row."""
    with listening(world, tmp_path) as ftps:
        (name,) = ftps.publish(CONTENT)
        with ftps.session() as client:
            assert get(client, f"inbox/{name}") == CONTENT
            with Held(monkeypatch, Visit, "remove") as held:
                client.putcmd(f"DELE inbox/{name}")
                assert held.has_begun.wait(5)
                closing = asyncio.run_coroutine_threadsafe(ftps.server.close(), ftps.loop)
                time.sleep(0.2)
                assert not closing.done()
            closing.result(10)
            assert world.entry().received_at and has_left(ftps)


def test_a_receipt_that_waits_for_its_commit_is_answered_after_it(
    ftps: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """226 means that it is recorded; ABOR meanwhile aborts nothing, and is answered behind it."""
    (name,) = ftps.publish(CONTENT)
    monkeypatch.setattr(Visit, "close_at_once", lambda *_: False)
    with ftps.session() as client:
        client.voidcmd("TYPE I")
        data = open_data(ftps, client)
        client.sendcmd(f"RETR inbox/{name}")
        with Held(monkeypatch, Visit, "close") as held:
            while data.recv(65536):
                pass
            data.unwrap()
            data.close()
            assert held.has_begun.wait(5)
            client.putcmd("ABOR")
            client.putcmd("NOOP")
            assert client.sock is not None
            client.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.sock.recv(1)
            assert not ftps.world.entry().fully_read_at
        client.sock.settimeout(10)
        answer = b""
        while answer.count(b"\r\n") < 3:
            answer += client.sock.recv(4096)
    assert [line[:3] for line in answer.splitlines()] == [b"226", b"225", b"200"]
    assert ftps.world.entry().fully_read_at


def test_a_listing_that_has_to_be_loaded_comes_piece_by_piece(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month of the archive that memory does not hold is read beside the loop, whatever its size."""
    (name,) = ftps.publish(CONTENT)
    monkeypatch.setattr(Index, "is_fresh", False)
    monkeypatch.setattr("gateway.dropfolder.snapshots.Snapshot.is_at_hand", False)
    with ftps.session() as client:
        assert client.nlst("inbox") == [name]
        assert [line.split()[-1] for line in _lines(client, "LIST archive/*")] == [time.strftime("%Y", time.gmtime())]


def _lines(client: ftplib.FTP_TLS, command: str) -> list[str]:
    lines: list[str] = []
    client.retrlines(command, lines.append)
    return lines


# -- the loop itself


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    made.start()
    yield made
    made.stop()


def test_errands_of_one_run_in_their_order_and_of_two_beside_each_other(loop: Loop) -> None:
    """A read is recorded before the session's end; a session that waits delays no other."""
    happened: list[str] = []
    over, may_go_on = threading.Event(), threading.Event()

    def begin() -> None:
        slow, quick = Errands(loop), Errands(loop)
        slow.run(lambda: may_go_on.wait(5), lambda _: happened.append("slow"))
        slow.run(lambda: happened.append("behind it"), lambda _: over.set())
        quick.run(lambda: happened.append("beside it"), lambda _: may_go_on.set())

    loop.call_soon(begin)
    assert over.wait(5)
    assert happened == ["beside it", "slow", "behind it"]


def test_when_too_many_errands_wait_the_next_one_fails_at_once(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told "try again": memory has an end."""
    monkeypatch.setattr(ftps_loop, "MOST_WAITING", 3)
    may_go_on, told = threading.Event(), threading.Event()
    errors: list[BaseException | None] = []

    def tell(done: "Future[None]") -> None:
        errors.append(done.exception())
        told.set()

    def begin() -> None:
        for _ in range(3):
            Errands(loop).run(lambda: may_go_on.wait(5), lambda _: None)
        Errands(loop).run(lambda: None, tell)

    loop.call_soon(begin)
    assert told.wait(5)
    may_go_on.set()
    assert isinstance(errors[0], Unavailable)


def test_an_error_on_the_loop_is_that_one_s(loop: Loop) -> None:
    """What is called after it is called all the same, and deadlines are looked at."""
    seen = threading.Event()

    class Late:
        deadline = 0.0

        def overdue(self) -> None:
            seen.set()
            loop.forget(self)
            raise RuntimeError("of this one")

    def fail() -> None:
        raise RuntimeError("of that one")

    loop.call_soon(fail)
    loop.call_soon(lambda: loop.watch(Late()))
    assert seen.wait(5)
    again = threading.Event()
    loop.call_soon(again.set)
    assert again.wait(5)


class _Talker:
    """A client that has always something more to say."""

    def __init__(self) -> None:
        self.heard = 0

    def recv(self, _size: int) -> bytes:
        self.heard += 1
        assert self.heard < 10_000, "nobody else is served any more"
        return b"x"


def test_who_goes_on_talking_when_it_was_sent_everything_is_heard_in_turns() -> None:
    """What it says is not wanted; the others are served in between, and its time to end runs on."""
    connection, talker = object.__new__(DataConnection), _Talker()
    connection._tls = talker
    connection._look_for_their_end()
    assert talker.heard == RECORDS_AT_ONCE
