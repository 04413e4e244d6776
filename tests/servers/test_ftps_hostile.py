"""FTPS clients that keep to no order: guesses in one go, transfers on top of each other, garbage, a stop any time."""

import contextlib
import errno
import ftplib
import hashlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway import clock
from gateway.domain.parties import Client
from gateway.dropfolder.gathering import Gathering
from gateway.dropfolder.nodes import Reading
from gateway.dropfolder.receipts import Read
from gateway.dropfolder.visit import Visit
from gateway.errors import Unavailable
from gateway.keys import passwords
from gateway.servers.ftps_control import FtpsSession
from gateway.store.database import Transaction
from tests.dropfolder.world import World
from tests.servers.ftps_world import PASSWORD, Listener, get, listening

ONE, TWO = os.urandom(200_000), os.urandom(3_000_000)
BIG = os.urandom(1 << 20) * 16  # more than sockets hold


@pytest.fixture
def ftps(world: World, tmp_path: Path) -> Iterator[Listener]:
    """Both listeners."""
    with listening(world, tmp_path) as listener:
        yield listener


def eventually(question: Callable[[], bool], seconds: float = 10) -> bool:
    """A client may be gone before the server has noticed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not question():
        time.sleep(0.02)
    return question()


def has_left(listener: Listener) -> bool:
    """Whether no session has a place, a row or a thread any more."""
    limits = listener.server._limits
    return not (
        limits._waiting
        or limits._clients
        or listener.server._listener.sessions
        or any(row.ended_at is None for row in listener.world.sessions())
    )


def open_files() -> int:
    """Descriptors of published bytes in this process."""
    ends = tuple(hashlib.sha256(content).hexdigest()[-40:] for content in (ONE, TWO, BIG))
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").endswith(ends)
    return count


def in_tls(listener: Listener) -> ssl.SSLSocket:
    """The control connection behind AUTH TLS."""
    raw = socket.create_connection(("localhost", listener.port), 10)
    raw.recv(200)
    raw.sendall(b"AUTH TLS\r\n")
    raw.recv(200)
    return listener.context().wrap_socket(raw, server_hostname="localhost")


def open_data(listener: Listener, client: ftplib.FTP_TLS) -> ssl.SSLSocket:
    """A data connection, its handshake made, before anything is asked for."""
    host, port = client.makepasv()
    return listener.context().wrap_socket(socket.create_connection((host, port), 10), server_hostname="localhost")


# -- log-in


def test_guesses_sent_in_one_go_are_not_taken_in_one_go(ftps: Listener) -> None:
    """What comes behind a wrong password, before its answer, is not heard: else the wait would slow nobody."""
    with in_tls(ftps) as control:
        guesses = "".join(f"USER acme\r\nPASS wrong-password-{n}\r\n" for n in range(10))
        control.sendall(f"{guesses}USER acme\r\nPASS {PASSWORD}\r\n".encode())
        answer = b""
        while b"530" not in answer:
            answer += control.recv(4096)
        assert b"230" not in answer
        assert sum(one.score for one in ftps.server._penalties._sources.values()) <= 1


@pytest.mark.parametrize("name", ["USER \xff\xfe", "CLNT \xff\xfe", "CLNT a\0b", "CLNT \x1b[2J"])
def test_names_that_are_no_text_are_no_obstacle(ftps: Listener, name: str) -> None:
    """They come into the log, and into the session's row."""
    with in_tls(ftps) as control:
        for line in (name, "PASS x" if name.startswith("USER") else "NOOP", "USER acme", f"PASS {PASSWORD}"):
            control.sendall(line.encode("latin-1") + b"\r\n")
            answer = control.recv(4096)
        assert answer.startswith(b"230")
    assert eventually(lambda: has_left(ftps))


def test_the_wait_does_not_tell_how_many_hashes_were_checked(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has two passwords costs twice the time of one that nobody has; the answer's moment hides it."""
    monkeypatch.setattr(passwords, "_matches", lambda *_: time.sleep(0.6))
    with in_tls(ftps) as control:
        control.sendall(b"USER acme\r\nPASS wrong\r\n")
        began, answer = time.monotonic(), b""
        while b"530" not in answer:
            answer += control.recv(4096)
        assert 0.9 < time.monotonic() - began < 1.4


def test_who_logs_in_while_the_database_is_away_is_told_to_come_later(
    ftps: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """421, and the place is given back."""

    def unavailable(*_: object) -> None:
        raise Unavailable("the database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Visit, "begin", unavailable)
        for _ in range(3):
            with pytest.raises(ftplib.error_temp, match="421"), ftps.session():
                pass
    assert eventually(lambda: has_left(ftps))
    with ftps.session() as client:
        assert client.pwd() == "/"


# -- the session's end


def test_garbage_inside_tls_gives_the_place_back(ftps: Listener) -> None:
    """An error that nobody foresaw ends the whole session: its place, its row, its thread."""
    with ftps.session() as client:
        assert client.sock is not None
        os.write(client.sock.fileno(), b"\x17\x03\x03\x00\x20" + os.urandom(32))
        with contextlib.suppress(OSError):
            client.sock.recv(100)
    assert eventually(lambda: has_left(ftps))


def test_commands_behind_quit_are_not_heard(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session is closed; they are no defect of ours either."""
    errors: list[object] = []
    monkeypatch.setattr(FtpsSession, "log_exception", lambda _, instance: errors.append(instance))
    with ftps.session() as client:
        assert client.sock is not None
        client.sock.sendall(b"QUIT\r\nCWD inbox\r\n")
        assert eventually(lambda: has_left(ftps))
    assert errors == []


def test_a_stop_while_a_wrong_password_waits_for_its_answer_leaves_nothing(world: World, tmp_path: Path) -> None:
    """The session's loop has lost sight of it for that time."""
    with listening(world, tmp_path) as listener:
        control = in_tls(listener)
        control.sendall(b"USER acme\r\nPASS wrong\r\n")
        assert eventually(lambda: bool(listener.server._penalties._sources))
        listener.run(listener.server.close())
        assert eventually(lambda: has_left(listener))
        control.close()


def test_who_gets_no_session_keeps_no_place(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has no more memory, say: the connection is closed, and later ones are served."""

    def fail(*_args: object) -> None:
        raise MemoryError

    for step in ("begin_transfers", "handle"):
        with monkeypatch.context() as patch:
            patch.setattr(FtpsSession, step, fail)
            with socket.create_connection(("localhost", ftps.port), 10) as raw:
                assert raw.recv(200) == b""
            assert eventually(lambda: has_left(ftps))
    with ftps.session() as client:
        assert client.pwd() == "/"


def test_a_machine_out_of_descriptors_is_listened_on_again(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepting fails for a while; the listener is there when it is over."""
    failures: list[int] = []

    def fail() -> None:
        failures.append(1)
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(ftps.server._acceptors[0], "accept", fail)
        with socket.create_connection(("localhost", ftps.port), 10):
            assert eventually(lambda: bool(failures))
    with ftps.session() as client:
        assert client.pwd() == "/"


def test_a_session_ends_without_its_database(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that waits for its data connection cannot be recorded then; place and bytes are given back."""
    (name,) = ftps.publish(ONE)

    written = Gathering.write

    def write(folder: Gathering, step: Callable[[Transaction], object], reads: Sequence[Read] = ()) -> object:
        if reads:
            raise Unavailable("the database does not answer")
        return written(folder, step)

    with ftps.session() as client:
        client.makepasv()
        client.sendcmd(f"RETR inbox/{name}")
        errors: list[object] = []
        monkeypatch.setattr(FtpsSession, "log_exception", lambda _, instance: errors.append(instance))
        monkeypatch.setattr(Gathering, "write", write)
        assert client.sock is not None
        client.sock.shutdown(socket.SHUT_RDWR)
        assert eventually(lambda: not ftps.server._listener.sessions)
    assert eventually(lambda: has_left(ftps))
    assert (open_files(), errors) == (0, [])


# -- transfers on top of each other


def test_a_transfer_without_a_data_connection_is_refused(ftps: Listener) -> None:
    """Instead of keeping a file open for a connection that never comes, one for each RETR."""
    (name,) = ftps.publish(ONE)
    with ftps.session() as client:
        for _ in range(5):
            with pytest.raises(ftplib.error_temp, match="425"):
                client.sendcmd(f"RETR inbox/{name}")
        assert open_files() == 0
        client.makepasv()
        assert client.sendcmd(f"RETR inbox/{name}").startswith("150")
        for _ in range(5):
            with pytest.raises(ftplib.error_temp, match="425"):
                client.sendcmd(f"RETR inbox/{name}")
        assert open_files() == 1
        assert get(client, f"inbox/{name}") == ONE
    assert eventually(lambda: has_left(ftps))
    assert open_files() == 0


@pytest.mark.parametrize("between", ["", "ABOR"])
def test_a_file_that_was_not_fetched_does_not_come_over_the_next_connection(ftps: Listener, between: str) -> None:
    """PASV and RETR of one, no connection made; then PASV and RETR of the other: the client gets the other."""
    one, two = ftps.publish(ONE, TWO)
    with ftps.session() as client:
        client.voidcmd("TYPE I")
        client.makepasv()
        client.sendcmd(f"RETR inbox/{one}")
        if between:
            with pytest.raises(ftplib.error_temp, match="426"):
                client.sendcmd(between)
            assert client.getresp().startswith("226")
        data = open_data(ftps, client)
        time.sleep(0.2)
        client.sendcmd(f"RETR inbox/{two}")
        received = b""
        while piece := data.recv(65536):
            received += piece
        data.unwrap()
        data.close()
        assert client.voidresp().startswith("226")
    assert received == TWO
    assert open_files() == 0


@pytest.mark.parametrize("moment", ["before", "during", "ending"])
def test_a_second_file_does_not_take_the_first_ones_connection(ftps: Listener, moment: str) -> None:
    """It is refused, and not even opened; the first one arrives and is recorded."""
    one, two = ftps.publish(TWO, ONE)
    with ftps.session() as client:
        client.voidcmd("TYPE I")
        received = b""
        if moment == "before":
            host, port = client.makepasv()
            client.putcmd(f"RETR inbox/{one}")
            client.putcmd(f"RETR inbox/{two}")
            assert client.getresp().startswith("150")
            with pytest.raises(ftplib.error_temp, match="425"):
                client.getresp()
            raw = socket.create_connection((host, port), 10)
            data = ftps.context().wrap_socket(raw, server_hostname="localhost")
        else:
            data = open_data(ftps, client)
            assert client.sendcmd(f"RETR inbox/{one}").startswith("125")
            if moment == "ending":
                while len(received) < len(TWO):
                    received += data.recv(65536)
                time.sleep(0.2)
            with pytest.raises(ftplib.error_temp, match="425"):
                client.sendcmd(f"RETR inbox/{two}")
        while piece := data.recv(65536):
            received += piece
        data.unwrap()
        data.close()
        assert client.voidresp().startswith("226")
    assert received == TWO
    assert (open_files(), len(ftps.world.bodies("entry.read"))) == (0, 1)
    assert ftps.world.entries()[0].fully_read_at and not ftps.world.entries()[1].fully_read_at


def test_an_abort_after_the_last_byte_is_answered_once(ftps: Listener) -> None:
    """226 for the transfer, 225 for the abort: a third answer would be taken for the next command's."""
    (name,) = ftps.publish(ONE)
    with ftps.session() as client:
        data = open_data(ftps, client)
        client.sendcmd(f"RETR inbox/{name}")
        left = len(ONE)
        while left:
            left -= len(data.recv(65536))
        time.sleep(0.2)
        answers = [client.sendcmd("ABOR"), client.getresp(), client.sendcmd("NOOP")]
        data.close()
    assert [answer[:3] for answer in answers] == ["226", "225", "200"]
    assert not ftps.world.entry().fully_read_at


@pytest.mark.parametrize("moment", ["not_connected", "no_handshake", "under_way", "nothing", "only_passive"])
def test_an_abort_ends_what_waits_too_and_each_command_has_its_answer(ftps: Listener, moment: str) -> None:
    """426 for a RETR that was answered 150, then 226 (RFC 959 4.1.3); without one, 225. Nothing was read."""
    (name,) = ftps.publish(BIG if moment == "under_way" else ONE)
    with ftps.session() as client:
        client.voidcmd("TYPE I")
        address = client.makepasv() if moment != "nothing" else ("localhost", 0)
        with contextlib.ExitStack() as stack:
            if moment in ("no_handshake", "under_way"):
                raw = stack.enter_context(socket.create_connection(address, 10))
            if moment in ("not_connected", "no_handshake", "under_way"):
                assert client.sendcmd(f"RETR inbox/{name}")[:3] in ("125", "150")
            if moment == "under_way":
                context = ftps.context()
                data = stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
                assert data.recv(1000)
            answers = []
            client.putcmd("ABOR")
            client.putcmd("NOOP")
            while "200" not in answers:
                answers.append(client.getmultiline()[:3])
    wanted = ["225", "200"] if moment in ("nothing", "only_passive") else ["426", "226", "200"]
    assert answers == wanted
    assert eventually(lambda: has_left(ftps))
    assert open_files() == 0
    assert ftps.world.entry().fully_read_at is None


@pytest.mark.parametrize("ports", [False, True], ids=["any", "configured"])
def test_a_folder_is_pulled_over_ipv6(world: World, tmp_path: Path, ports: bool) -> None:
    """EPSV gives a port, a configured one where there are; PASV cannot name the address and says what to use."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
        port = free.getsockname()[1]
    with (
        listening(world, tmp_path, listen="[::1]:0", passive_ports=f"{port}-{port}" if ports else "") as listener,
        ftplib.FTP_TLS(context=listener.context(), timeout=20) as client,
    ):
        (name,) = listener.publish(ONE)
        client.connect("::1", listener.port)
        client.login("acme", PASSWORD)
        client.prot_p()
        assert client.nlst("inbox") == [name]
        assert get(client, f"inbox/{name}") == ONE
        with pytest.raises(ftplib.error_temp, match=r"425 .*EPSV"):
            client.sendcmd("PASV")
        chosen = int(client.sendcmd("EPSV").split("|")[3])
    assert world.entry().fully_read_at
    assert chosen == port or not ports


def test_bytes_that_the_disk_refuses_end_the_transfer_in_words(ftps: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """426 with the cause, and the session goes on."""
    (name,) = ftps.publish(ONE)

    def refuse(*_: object) -> bytes:
        raise Unavailable("these bytes cannot be read at the moment; try again")

    with ftps.session() as client:
        with monkeypatch.context() as patch:
            patch.setattr(Reading, "read", refuse)
            with client.transfercmd(f"RETR inbox/{name}") as data:
                assert data.recv(100) == b""
            with pytest.raises(ftplib.error_temp, match=r"426 .*cannot be read at the moment"):
                client.voidresp()
        assert get(client, f"inbox/{name}") == ONE


def test_when_every_passive_port_is_taken_none_is_made_up(world: World, tmp_path: Path) -> None:
    """A port that the firewall keeps shut would hang the client for minutes; this it can try again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listening(world, tmp_path, passive_ports=f"{port}-{port}") as listener, listener.session() as client:
            for command in ("PASV", "EPSV"):
                with pytest.raises(ftplib.error_temp, match="425 Every port"):
                    client.sendcmd(command)
            taken.close()
            assert client.sendcmd("PASV").startswith("227") and client.sendcmd("NOOP").startswith("200")


def test_a_line_that_is_too_long_has_one_answer(ftps: Listener) -> None:
    """Else every answer behind it would be taken for that of another command."""
    with in_tls(ftps) as control:
        for length in (2_100, 100_000):
            control.sendall(b"USER " + b"x" * length + b"\r\nNOOP\r\n")
            answer = b""
            while b"\r\n200" not in answer and not answer.startswith(b"200"):
                answer += control.recv(4096)
            assert answer.count(b"500") == 1


def test_a_client_that_is_disabled_is_out_within_ten_seconds(ftps: Listener) -> None:
    """The sweep comes every five; and it does not come in again."""
    with ftps.session() as client:
        began = time.monotonic()
        ftps.world.set(Client, ftps.world.client.id, disabled_at=clock.now())
        assert eventually(lambda: has_left(ftps))
        assert time.monotonic() - began < 10
        with pytest.raises((EOFError, OSError)):
            client.voidcmd("NOOP")
        with pytest.raises(ftplib.error_perm, match="530"), ftps.session():
            pass
