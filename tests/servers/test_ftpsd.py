"""FTPS over a real listener: what ERPs' FTP clients do, what counts as read, and what hostile clients do not get."""

import asyncio
import contextlib
import ftplib
import hashlib
import io
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from gateway import clock
from gateway.domain.folders import Folder, FolderPassword
from gateway.domain.states import DeliveryState
from tests.dropfolder.world import World
from tests.servers.ftps_world import PASSWORD, Listener, get, listening, with_password

ONE, TWO = os.urandom(200_000), os.urandom(3_000_000)


@pytest.fixture
def ftps(world: World, tmp_path: Path) -> Iterator[Listener]:
    """Both listeners."""
    with listening(world, tmp_path) as listener:
        yield listener


def state(listener: Listener, number: int = 0) -> DeliveryState:
    """Of the delivery of the entry with that number, once what the client did has been recorded."""
    return listener.world.delivery(listener.world.entries()[number].delivery_id).state


def is_cut(call: Callable[[], object]) -> bool:
    """Whether the session has been ended under the client, in whatever way."""
    try:
        call()
    except (ftplib.Error, EOFError, OSError):
        return True
    return False


def eventually(question: Callable[[], bool], seconds: float = 10) -> bool:
    """A client may be gone before the server has recorded what it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if question():
            return True
        time.sleep(0.02)
    return question()


def test_a_client_lists_pulls_and_deletes(ftps: Listener) -> None:
    """The whole of what most ERPs do; the delete after a full read is the receipt."""
    (name,) = ftps.publish(ONE)
    with ftps.session() as client:
        client.cwd("inbox")
        assert client.nlst() == [name]
        assert client.size(name) == len(ONE)
        assert get(client, name) == ONE
        client.delete(name)
        assert client.nlst() == []
    assert state(ftps) is DeliveryState.RECEIVED
    (read,) = ftps.world.bodies("entry.read")
    assert (read["facts"]["bytes"], read["facts"]["fully_read"]) == (len(ONE), True)
    assert read["facts"]["password"].startswith("fpw_") and "key" not in read["facts"]


def test_a_session_over_implicit_tls(ftps: Listener) -> None:
    """ftps:// on its own port: private from the first byte."""
    (name,) = ftps.publish(ONE)
    context = ftps.context()

    class Implicit(ftplib.FTP_TLS):
        def connect(self, host: str, port: int) -> str:  # type: ignore[override]
            self.host = host
            self.sock = context.wrap_socket(socket.create_connection((host, port), 10), server_hostname=host)
            self.af = self.sock.family
            self.file = self.sock.makefile("r", encoding=self.encoding)
            self.welcome = self.getresp()
            return self.welcome

    client = Implicit(context=context)
    client.connect("localhost", ftps.implicit_port)
    client.login("acme", PASSWORD)
    client._prot_p = True  # type: ignore[attr-defined]
    assert get(client, f"inbox/{name}") == ONE
    client.close()


def test_what_is_resumed_is_read_whole(ftps: Listener) -> None:
    """REST: the union of what ended cleanly covers the file."""
    (name,) = ftps.publish(TWO)
    with ftps.session() as client:
        assert get(client, f"inbox/{name}", rest=1_000_000) == TWO[1_000_000:]
        assert not ftps.world.entry().fully_read_at
        assert get(client, f"inbox/{name}", rest=0) == TWO
    assert ftps.world.entry().fully_read_at
    with ftps.session() as client, pytest.raises(ftplib.error_perm, match="554"):
        get(client, f"inbox/{name}", rest=len(TWO) + 1)


@pytest.mark.parametrize("how", ["reset", "fin"])
def test_a_download_that_is_cut_is_not_read(ftps: Listener, how: str) -> None:
    """The connection goes in the middle: sent is not read, and a delete afterwards is no receipt."""
    (name,) = ftps.publish(TWO)
    with ftps.session() as client:
        client.voidcmd("TYPE I")
        data = client.transfercmd(f"RETR inbox/{name}")
        assert data.recv(1000)
        if how == "reset":
            data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.close(data)
        with pytest.raises(ftplib.Error):
            client.voidresp()
        client.delete(f"inbox/{name}")
    assert not ftps.world.entry().fully_read_at
    assert state(ftps) is not DeliveryState.RECEIVED
    assert "entry.removed_unread" in ftps.world.events()
    assert ftps.world.bodies("entry.read")[0]["facts"]["closed_cleanly"] is False


def test_a_client_that_never_ends_its_half_is_answered_and_has_not_read(ftps: Listener) -> None:
    """Everything was sent, its end is not confirmed: the answer comes, the receipt does not."""
    (name,) = ftps.publish(ONE)
    with ftps.session() as client:
        client.voidcmd("TYPE I")
        data = client.transfercmd(f"RETR inbox/{name}")
        received = b""
        while len(received) < len(ONE):
            received += data.recv(65536)
        assert client.voidresp().startswith("226")
        data.close()
    assert received == ONE
    assert not ftps.world.entry().fully_read_at
    (read,) = ftps.world.bodies("entry.read")
    assert (read["facts"]["sent"], read["facts"]["bytes"], read["facts"]["closed_cleanly"]) == (len(ONE), 0, False)


def test_type_a_changes_no_byte(ftps: Listener) -> None:
    """A client that forgot TYPE I gets the sealed bytes all the same."""
    content = b"line\nline\r\nline\r" * 5000
    (name,) = ftps.publish(content)
    with ftps.session() as client:
        client.voidcmd("TYPE A")
        assert client.voidcmd(f"SIZE inbox/{name}") == f"213 {len(content)}"
        parts: list[bytes] = []
        data = client.transfercmd(f"RETR inbox/{name}")
        while piece := data.recv(65536):
            parts.append(piece)
        data.unwrap()  # type: ignore[attr-defined]
        data.close()
        client.voidresp()
    assert b"".join(parts) == content


def test_facts_of_a_name(ftps: Listener) -> None:
    """MLSD, MLST, MDTM, SIZE, HASH and FEAT agree; times are UTC."""
    (name,) = ftps.publish(ONE)
    entry = ftps.world.entry()
    modify = time.strftime("%Y%m%d%H%M%S", time.gmtime(entry.mtime))
    with ftps.session() as client:
        (listed,) = list(client.mlsd("inbox"))
        assert listed[0] == name
        assert {**listed[1], "unique": ""} == {
            "type": "file", "size": str(len(ONE)), "modify": modify, "perm": "adfr", "unique": "",
        }  # fmt: skip
        assert f"size={len(ONE)};" in client.sendcmd(f"MLST inbox/{name}")
        assert client.sendcmd(f"MDTM inbox/{name}") == f"213 {modify}"
        digest = hashlib.sha256(ONE).hexdigest()
        assert client.sendcmd(f"HASH inbox/{name}") == f"213 SHA-256 0-{len(ONE)} {digest} /inbox/{name}"
        features = client.sendcmd("FEAT")
        for feature in (
            "AUTH TLS",
            "EPSV",
            "HASH SHA-256*",
            "MDTM",
            "MLST type*;size*;",
            "PBSZ",
            "REST STREAM",
            "SIZE",
            "UTF8",
        ):
            assert feature in features
        assert "EPRT" not in features
        assert {facts["type"] for _, facts in client.mlsd("/")} == {"dir"}


def test_patterns_select_names(ftps: Listener) -> None:
    """`mget *.pdf` asks NLST for a pattern; options of ls are no names."""
    names = ftps.publish(ONE, TWO)
    with ftps.session() as client:
        client.cwd("/inbox")
        assert client.nlst("*.pdf") == names
        assert client.nlst("*.xml") == []
        lines: list[str] = []
        client.retrlines("LIST -la", lines.append)
        assert [line.split()[-1] for line in lines] == names
        assert client.nlst(f"/inbox/{names[1]}") == [names[1]]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("RETR inbox/nothing.pdf", "550"), ("SIZE inbox/nothing.pdf", "550"), ("MDTM inbox", "553"),
        ("RETR inbox", "553"), ("MKD nowhere", "550"), ("USER other", "503"), ("CWD ../../..", "250"),
        ("CWD nowhere", "550"), ("STOR inbox/x.pdf", "550"), ("APPE inbox/x.pdf", "550"), ("STOU", "550"),
        ("DELE inbox/nothing.pdf", "550"), ("RNFR inbox/nothing.pdf", "550"), ("RNTO inbox/x", "503"),
        ("PORT 127,0,0,1,4,5", "500"), ("EPRT |1|127.0.0.1|1029|", "500"), ("SITE EXEC id", "500"), ("PROT C", "536"),
        ("CCC", "500"), ("REST -1", "501"), ("RETR " + "x" * 1500, "550"),
        ("RETR /etc/passwd", "550"), ("RETR ../../etc/passwd", "550"), ("MFMT 20200101000000 inbox/nothing", "550"),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_with_the_right_code(ftps: Listener, command: str, code: str) -> None:
    """And the session goes on."""
    with ftps.session() as client:
        with contextlib.suppress(ftplib.error_perm):
            client.sendcmd(command)
        assert client.lastresp == code
        assert client.sendcmd("NOOP").startswith("200")


def test_changes_of_metadata_are_accepted_and_change_nothing(ftps: Listener) -> None:
    """A refusal marks the whole transfer as failed in many clients."""
    (name,) = ftps.publish(ONE)
    before = ftps.world.entry()
    with ftps.session() as client:
        assert client.sendcmd(f"SITE CHMOD 777 inbox/{name}").startswith("200")
        assert client.sendcmd(f"MFMT 20200101000000 inbox/{name}").startswith("213 Modify=20")
        assert client.sendcmd("OPTS UTF8 ON").startswith("200")
    assert ftps.world.entry() == before


def test_a_rename_and_a_full_read_are_a_receipt(ftps: Listener) -> None:
    """In this order too; folders can be made under inbox/."""
    (name,) = ftps.publish(ONE)
    with ftps.session() as client:
        client.mkd("/inbox/done")
        client.rename(f"/inbox/{name}", f"/inbox/done/{name}.ok")
        assert get(client, f"/inbox/done/{name}.ok") == ONE
    assert eventually(lambda: state(ftps) is DeliveryState.RECEIVED)


# -- log-in and TLS


def test_behind_a_nat_pasv_names_the_public_address_and_a_configured_port(world: World, tmp_path: Path) -> None:
    """Else a client behind it is sent to an address that it cannot reach."""
    settings: dict[str, Any] = {"public_address": "192.0.2.9", "passive_ports": "41200-41240"}
    with listening(world, tmp_path, **settings) as listener, listener.session() as client:
        match = re.search(r"\(192,0,2,9,(\d+),(\d+)\)", client.sendcmd("PASV"))
    assert match, "another address"
    assert 41200 <= int(match[1]) * 256 + int(match[2]) <= 41240


@pytest.mark.parametrize("user", ["acme", "nobody", "../x", "a" * 500])
def test_a_wrong_password_is_answered_late_and_tells_nothing(ftps: Listener, user: str) -> None:
    """The same words, after the same wait, for a name that exists and one that does not."""
    began = time.monotonic()
    with (
        pytest.raises(ftplib.error_perm, match="530 User name or password is wrong"),
        ftps.session(user=user, password="x"),
    ):
        pass
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("ended", ["revoked_at", "expires_at"])
def test_a_password_that_ended_is_refused_and_its_sessions_end(ftps: Listener, ended: str) -> None:
    """At the next log-in, and within seconds for who is in."""
    with ftps.session() as client:
        row = ftps.world.db.read(lambda tx: tx.exec(select(FolderPassword)).one())
        ftps.world.set(FolderPassword, row.id, **{ended: clock.now()})
        ftps.run(ftps.server.sweep())
        assert is_cut(lambda: client.sendcmd("NOOP"))
    with pytest.raises(ftplib.error_perm, match="530"), ftps.session():
        pass
    with_password(ftps.world, "another-good-password")
    with ftps.session(password="another-good-password"):
        pass


def test_nothing_is_said_in_clear(ftps: Listener) -> None:
    """No log-in without TLS, no data connection without it."""
    client = ftplib.FTP()
    client.connect("localhost", ftps.port, timeout=10)
    with pytest.raises(ftplib.error_perm, match="TLS required"):
        client.login("acme", PASSWORD)
    client.close()
    with ftps.session(private=False) as clear, pytest.raises(ftplib.error_perm, match="TLS required on the data"):
        clear.nlst()


def test_commands_sent_behind_auth_in_clear_are_dropped(ftps: Listener) -> None:
    """They would be executed inside TLS, as if the client had said them (CVE-2011-0411's kind)."""
    raw = socket.create_connection(("localhost", ftps.port), 10)
    raw.recv(200)
    raw.sendall(b"AUTH TLS\r\nUSER injected\r\nFEAT\r\n")
    answer = b""
    while not answer.endswith(b"\r\n"):
        answer += raw.recv(200)
    assert answer.startswith(b"234")
    with ftps.context().wrap_socket(raw, server_hostname="localhost") as secure:
        secure.sendall(b"NOOP\r\n")
        assert secure.recv(200).startswith(b"200")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_serve(ftps: Listener, version: ssl.TLSVersion) -> None:
    """And nothing older: the client's own library refuses to offer it here, so the floor is read off the context."""
    (name,) = ftps.publish(ONE)
    context = ftps.context()
    context.minimum_version = context.maximum_version = version
    with ftplib.FTP_TLS(context=context) as client:
        client.connect("localhost", ftps.port)
        client.login("acme", PASSWORD)
        client.prot_p()
        assert get(client, f"inbox/{name}") == ONE
    assert eventually(lambda: bool(ftps.world.bodies("session.ended")))
    assert version.name.replace("v1_", "v1.") in ftps.world.bodies("session.ended")[0]["facts"]["algorithms"]


def test_a_data_connection_without_the_session_is_refused_where_the_policy_asks(world: World, tmp_path: Path) -> None:
    """Python's client resumes nothing: it hears 522, and the session goes on."""
    with listening(world, tmp_path, session_reuse="required") as listener:
        (name,) = listener.publish(ONE)
        with listener.session() as client:
            client.voidcmd("TYPE I")
            with client.transfercmd(f"RETR inbox/{name}") as data, contextlib.suppress(OSError):
                assert data.recv(100) == b""
            with pytest.raises(ftplib.error_perm, match="522"):
                client.voidresp()
            assert client.sendcmd("NOOP").startswith("200")
        assert not world.entry().fully_read_at


# -- limits


def test_who_does_not_log_in_in_time_is_closed(world: World, tmp_path: Path) -> None:
    """A thousand idle connections shut nobody out for long."""
    with (
        listening(world, tmp_path, {"login_seconds": 1}) as listener,
        socket.create_connection(("localhost", listener.port), 10) as raw,
    ):
        assert raw.recv(100).startswith(b"220")
        time.sleep(1.1)
        listener.run(listener.server.sweep())
        assert raw.recv(100) == b""


def test_an_idle_session_is_closed(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen minutes without a command; one command starts them again."""
    passed, real = 0.0, clock.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: real() + passed)
    with listening(world, tmp_path, {"idle_minutes": 15}) as listener, listener.session() as client:
        for minutes in (14, 28):
            passed = minutes * 60
            listener.run(listener.server.sweep())
            assert client.sendcmd("NOOP").startswith("200")
        passed = 44 * 60
        listener.run(listener.server.sweep())
        assert is_cut(lambda: client.sendcmd("NOOP"))


def test_a_path_has_a_longest_length_that_is_a_setting(world: World, tmp_path: Path) -> None:
    """4,096 bytes, which a command's line has room for once its client is in; one byte more is told as such."""
    with listening(world, tmp_path) as listener, listener.session() as client:
        with pytest.raises(ftplib.error_perm, match="550 No such file"):
            client.sendcmd("SIZE /" + "x" * 4095)
        with pytest.raises(ftplib.error_perm, match="553 A path has at most 4096 bytes"):
            client.sendcmd("SIZE /" + "x" * 4096)
        with pytest.raises(ftplib.error_perm, match="500 Command too long"):
            client.sendcmd("SIZE /" + "x" * 7000)
        assert client.sendcmd("NOOP").startswith("200")


def test_one_source_has_few_places_before_log_in(world: World, tmp_path: Path) -> None:
    """Those who are in are served on, and places come back."""
    with (
        listening(world, tmp_path, {"connections_before_login_per_source": 3}) as listener,
        listener.session() as inside,
    ):
        raws = [socket.create_connection(("localhost", listener.port), 10) for _ in range(6)]
        served = [bool(_first(raw)) for raw in raws]
        assert sorted(served) == [False] * 3 + [True] * 3
        assert inside.sendcmd("NOOP").startswith("200")
        for raw in raws:
            raw.close()
        assert eventually(lambda: not listener.server._limits._waiting)
        with listener.session() as again:
            assert again.sendcmd("NOOP").startswith("200")


def _first(raw: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionError):
        return raw.recv(100)
    return b""


def test_a_client_has_so_many_connections(world: World, tmp_path: Path) -> None:
    """421 for the next, which tells it to come later."""
    with (
        listening(world, tmp_path, {"connections_per_client": 1}) as listener,
        listener.session(),
        pytest.raises(ftplib.error_temp, match="421"),
        listener.session(),
    ):
        pass


def test_a_flood_of_commands_that_takes_no_replies_is_cut(ftps: Listener) -> None:
    """Replies that nobody takes must not fill memory; another client is served meanwhile."""
    with ftps.session() as client:
        connection = client.sock
        assert connection is not None
        connection.settimeout(20)
        assert eventually(lambda: is_cut(lambda: connection.sendall(b"HELP\r\n" * 500)), seconds=60)
        with ftps.session() as other:
            assert other.sendcmd("NOOP").startswith("200")


@pytest.mark.parametrize(
    ("networks", "is_let_in"),
    [(["127.0.0.0/8"], True), (["192.0.2.0/24", "127.0.0.1/32"], True), (["192.0.2.0/24"], False)],
)
def test_a_client_comes_from_its_networks_only(ftps: Listener, networks: list[str], is_let_in: bool) -> None:
    """The right password from elsewhere is answered as a wrong one."""
    ftps.world.set(Folder, ftps.world.folder.id, networks=networks)
    if is_let_in:
        with ftps.session() as client:
            assert client.pwd() == "/"
    else:
        with pytest.raises(ftplib.error_perm, match="530 User name or password"), ftps.session():
            pass


def test_two_passwords_at_once_serve_a_change(ftps: Listener) -> None:
    """The new one works while the old one does."""
    with_password(ftps.world, "the-new-one-is-long")
    for password in (PASSWORD, "the-new-one-is-long"):
        with ftps.session(password=password) as client:
            assert client.pwd() == "/"


def test_a_stop_lets_a_transfer_finish(ftps: Listener) -> None:
    """Drain: the idle go at once, who transfers has the grace time."""
    (name,) = ftps.publish(TWO)
    with ftps.session() as idle, ftps.session() as busy:
        busy.voidcmd("TYPE I")
        data = busy.transfercmd(f"RETR inbox/{name}")
        sink = io.BytesIO(data.recv(1000))
        sink.seek(0, io.SEEK_END)
        draining = asyncio.run_coroutine_threadsafe(ftps.server.drain(10), ftps.loop)
        assert eventually(lambda: is_cut(lambda: idle.sendcmd("NOOP")))
        while piece := data.recv(65536):
            sink.write(piece)
        data.unwrap()  # type: ignore[attr-defined]
        data.close()
        draining.result(20)
    assert sink.getvalue() == TWO
    assert ftps.world.entry().fully_read_at


def test_a_source_that_guesses_is_shut_out(world: World, tmp_path: Path) -> None:
    """Four wrong ones; then not even a greeting."""
    with listening(world, tmp_path, {"ban_after": 3, "failures_per_minute": 1}) as listener:
        for _ in range(4):
            with pytest.raises(ftplib.error_perm, match="530"), listener.session(password="wrong-password-it-is"):
                pass
        with pytest.raises((EOFError, OSError)), listener.session():
            pass


def test_a_source_that_a_client_has_come_from_is_not_shut_out(world: World, tmp_path: Path) -> None:
    """Many share an address: whoever guesses behind it must not end the others' night."""
    with listening(world, tmp_path, {"ban_after": 3, "failures_per_minute": 1, "longest_delay_seconds": 1}) as listener:
        with listener.session():
            pass
        for _ in range(4):
            with pytest.raises(ftplib.error_perm, match="530"), listener.session(password="wrong-password-it-is"):
                pass
        with listener.session() as inside:
            assert inside.sendcmd("NOOP").startswith("200")


def test_an_open_session_has_its_row_and_a_closed_one_has_ended(ftps: Listener) -> None:
    """What `gateway connections` shows."""
    with ftps.session():
        (row,) = ftps.world.sessions()
        assert (row.protocol, row.ended_at, row.key_id) == ("ftps", None, None)
        assert row.password_id is not None and row.algorithms.startswith("TLSv1.3")
    assert eventually(lambda: ftps.world.sessions()[0].ended_at is not None)


def test_the_month_s_list_is_as_long_as_listing_and_size_say(ftps: Listener) -> None:
    """A client compares SIZE with what it got; meanwhile more is published. It has no digest while it grows."""
    ftps.publish(b"one", b"two")
    with ftps.session() as client:
        ((name, facts),) = [one for one in client.mlsd("/manifest") if one[0].endswith(".csv")]
        path = f"/manifest/{name}"
        assert client.size(path) == int(facts["size"])
        ftps.publish(b"three")
        content = get(client, path)
        assert len(content) == int(facts["size"]) and content.count(b"\r\n") == 3
        assert client.sendcmd(f"MDTM {path}").startswith("213 ")
        assert eventually(lambda: client.size(path) != len(content))
        assert client.size(path) == len(get(client, path)) > len(content)
        assert get(client, path, rest=len(content)).count(b"\r\n") == 1
        for command in (f"HASH {path}", f"DELE {path}"):
            with pytest.raises(ftplib.error_perm):
                client.sendcmd(command)
