"""FTPS clients that keep to no rule: each costs itself, while a well-behaved one is served within two seconds.

Three levels: before the log-in in clear or in half a TLS, commands after the log-in, data connections. One listener
meets them all, and its memory at the end is what it was.
"""

import contextlib
import os
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from gateway.servers.ftps_control import FtpsSession
from tests.dropfolder.world import on_sqlite
from tests.servers.ftps_world import PASSWORD, Listener, get, listening
from tests.servers.test_ftps_hostile import eventually, has_left, in_tls

CONTENT = os.urandom(300_000)
LARGE = os.urandom(8_000_000)
SERVED_SECONDS = 2.0
GROWTH_BYTES = 40_000_000
LOGIN_SECONDS = 5
PATIENCE = 1.0  # seconds that a client goes on sending to who takes nothing
QUIET = (OSError, EOFError, ssl.SSLError, SSL.Error)


class Station:
    """A listener, a file that everybody fetches, and a large one."""

    def __init__(self, listener: Listener, folder: Path) -> None:
        self.listener = listener
        self.folder = folder
        self.errors: list[object] = []  # that nobody foresaw
        self.name, self.large = listener.publish(CONTENT, LARGE)


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    folder = tmp_path_factory.mktemp("misdeeds")
    limits = {"connections_per_client": 80, "login_seconds": LOGIN_SECONDS}
    with (
        on_sqlite(folder) as world,
        listening(world, folder, limits) as listener,
        pytest.MonkeyPatch.context() as patch,
    ):
        made = Station(listener, folder)
        patch.setattr(FtpsSession, "log_exception", lambda *_: made.errors.append(traceback.format_exc()[-300:]))
        yield made


def pour(sock: socket.socket, content: bytes) -> None:
    """Send it, or as much as is taken within some time."""
    sock.settimeout(PATIENCE)
    with contextlib.suppress(*QUIET):
        sock.sendall(content)


# -- before the log-in: what is sent after the greeting, in clear; the socket stays open until the other was served

AUTH = b"AUTH TLS\r\n"
HELLO = bytes.fromhex("16030100b5010000b10303") + bytes(170)  # the beginning of a ClientHello, and no end
CLEAR: dict[str, bytes] = {
    "says nothing": b"",
    "speaks HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "speaks SSH": b"SSH-2.0-odd\r\n" + os.urandom(500),
    "speaks TLS unasked": HELLO,
    "garbage": os.urandom(20_000),
    "a line without end": b"USER " + b"x" * 1_000_000,
    "many lines that are too long": (b"x" * 3000 + b"\r\n") * 300,
    "lines that end in LF": b"USER acme\nPASS x\n" * 500,
    "lines that end in CR": b"USER acme\rPASS x\r" * 500,
    "NUL": b"US\0ER ac\0me\r\n\0\0\0\r\n",
    "telnet": b"\xff\xf4\xff\xf2ABOR\r\n\xff\xfb\x01\xff\xfd\x03" * 200,
    "nothing but ends of lines": b"\r\n" * 20_000,
    "20,000 NOOPs": b"NOOP\r\n" * 20_000,
    "2,000 FEATs": b"FEAT\r\n" * 2000,
    "a user in clear": b"USER acme\r\nPASS " + PASSWORD.encode() + b"\r\n" * 100,
    "a passive port before the log-in": b"PASV\r\nEPSV\r\n" * 200,
    "a call back before the log-in": b"PORT 127,0,0,1,0,22\r\nEPRT |1|127.0.0.1|22|\r\n" * 100,
    "data protection before TLS": b"PBSZ 0\r\nPROT P\r\nCCC\r\n" * 100,
    "AUTH of other kinds": b"AUTH SSL\r\nAUTH GSSAPI\r\nAUTH\r\nADAT xx\r\n" * 50,
    "REIN, ACCT, SMNT": b"REIN\r\nACCT x\r\nSMNT /\r\n" * 100,
    "AUTH, and no handshake": AUTH,
    "AUTH, and half a handshake": AUTH + HELLO,
    "AUTH, and garbage": AUTH + os.urandom(20_000),
    "AUTH, and commands in clear": AUTH + b"USER acme\r\nPASS " + PASSWORD.encode() + b"\r\nDELE inbox/x\r\n",
    "AUTH ten times": AUTH * 10,
    "AUTH, and a record of 64 kB": AUTH + b"\x16\x03\x01\xff\xff" + bytes(65_535),
    "AUTH, and alerts": AUTH + b"\x15\x03\x01\x00\x02\x01\x00" * 1000,
    "AUTH, and SSL 2": AUTH + bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0"),
}
IMPLICIT: dict[str, bytes] = {
    "says nothing": b"",
    "speaks FTP in clear": b"USER acme\r\nPASS x\r\n" * 100,
    "half a handshake": HELLO,
    "garbage": os.urandom(20_000),
}


def in_clear(port: int, content: bytes) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    pour(stack.enter_context(socket.create_connection(("localhost", port), 10)), content)
    return stack


# -- commands, after the log-in

Deed = Callable[["Client"], None]


class Client:
    """A control connection that is logged in; what it opens is closed with it."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.open = contextlib.ExitStack()
        self.control = self.open.enter_context(in_tls(station.listener))
        for line in ("USER acme", f"PASS {PASSWORD}", "PBSZ 0", "PROT P"):
            answer = self.ask(line)
        assert answer.startswith("200"), answer

    def ask(self, line: str) -> str:
        """A command, its answer."""
        self.control.sendall(line.encode() + b"\r\n")
        answer = ""
        while not answer.endswith("\r\n"):
            answer += self.control.recv(4096).decode()
        return answer

    def port(self) -> int:
        """A passive port; answers to what was sent before may come first."""
        answer = self.ask("PASV")
        while "227 " not in answer:
            answer = self.control.recv(4096).decode()
        numbers = answer.split("227 ")[1].split("(")[1].split(")")[0].split(",")
        return int(numbers[4]) * 256 + int(numbers[5])

    def data(self) -> ssl.SSLSocket:
        """A data connection, its handshake made."""
        raw = self.open.enter_context(socket.create_connection(("127.0.0.1", self.port()), 10))
        sock = self.station.listener.context().wrap_socket(raw, server_hostname="localhost")
        return self.open.enter_context(sock)


def lines(*commands: str, times: int = 1) -> Deed:
    """These commands in one go, so many times, without a look at the answers."""

    def deed(client: Client) -> None:
        pour(client.control, "".join(f"{command}\r\n" for command in commands).encode("latin-1") * times)

    return deed


def _asks_slowly_for_much(client: Client) -> None:
    for _ in range(10):
        client.ask("MLST /")
    pour(client.control, b"MLST /inbox\r\n" * 5000)


def _tiny_records(client: Client) -> None:
    for byte in b"NOOP\r\n" * 200:
        client.control.sendall(bytes([byte]))


def _renegotiates(client: Client) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    raw = client.open.enter_context(socket.create_connection(("localhost", client.station.listener.port), 10))
    raw.recv(200)
    raw.sendall(AUTH)
    raw.recv(200)
    tls = SSL.Connection(context, raw)
    tls.set_connect_state()
    raw.setblocking(True)
    tls.do_handshake()
    with contextlib.suppress(*QUIET):
        for _ in range(50):
            tls.renegotiate()
            tls.send(b"NOOP\r\n")


def _garbage_in_tls(client: Client) -> None:
    os.write(client.control.fileno(), b"\x17\x03\x03\x00\x20" + os.urandom(32))


def _clear_in_tls(client: Client) -> None:
    os.write(client.control.fileno(), b"NOOP\r\n" * 100)


def _half_a_record(client: Client) -> None:
    os.write(client.control.fileno(), b"\x17\x03\x03\x40\x00" + os.urandom(100))


def _says_goodbye_and_stays(client: Client) -> None:
    client.control.settimeout(PATIENCE)
    with contextlib.suppress(*QUIET):
        client.control.unwrap()


COMMANDS: dict[str, Deed] = {
    "500 passive ports": lines("PASV", times=500),
    "500 extended passive ports": lines("EPSV", "EPSV 2", "EPSV ALL", times=200),
    "calls back to others": lines("PORT 10,0,0,1,0,22", "EPRT |1|10.0.0.1|22|", "LIST", times=50),
    "control in clear again": lines("CCC", "PROT C", "PROT S", "PROT E", "PROT"),
    "sizes of buffers": lines("PBSZ 99999999999999999999", "PBSZ -1", "PBSZ x", "PROT P"),
    "AUTH inside TLS": lines("AUTH TLS", "AUTH SSL", times=50),
    "another user": lines("USER root", "PASS x", times=200),
    "REST beyond everything": lines("REST 999999999999999999", "REST -1", "REST 1e9", "REST " + "9" * 2000),
    "1,000 LISTs without a data connection": lines("LIST inbox", times=1000),
    "1,000 RETRs without a data connection": lines("RETR inbox/x", times=1000),
    "2,000 renames": lines("RNFR inbox/none", "RNTO inbox/n", times=2000),
    "500 folders": lines(*[f"MKD inbox/m{n}" for n in range(500)]),
    "a pattern that takes long": lines("PASV", "NLST inbox/" + "*a" * 100 + "[!a-"),
    "a path of dots": lines("CWD " + "../" * 1300, times=200),
    "a path of 1 MB": lines("CWD " + "a/" * 500_000),
    "paths with NUL": lines("CWD a\0b", "RETR \0", "DELE inbox/\0"),
    "paths that are no text": lines("CWD \xff\xfe", "SIZE \xc3\x28", "MLST \xed\xa0\x80"),
    "paths outside": lines("CWD ../../../../etc", "RETR ../../etc/passwd", "SIZE //etc/passwd", "CWD ~root"),
    "SITE": lines("SITE CHMOD 4777 inbox", "SITE EXEC id", "SITE HELP", "SITE " + "x" * 1900, times=50),
    "options": lines("OPTS MLST " + "size;" * 300, "OPTS UTF8 OFF", "OPTS HASH CRC32", "OPTS", times=50),
    "types and modes": lines("TYPE E", "TYPE L 7", "TYPE", "MODE B", "MODE Z", "STRU R", times=200),
    "space for 10^18 bytes": lines("ALLO 999999999999999999", "ALLO -1", "ALLO x R y"),
    "500 hashes": lines(*["HASH inbox"] * 500),
    "100,000 NOOPs, answers not taken": lines("NOOP", times=100_000),
    "5,000 MLSTs, answers not taken": _asks_slowly_for_much,
    "uploads where one reads": lines("PASV", "STOR inbox/x", "APPE inbox/x", "STOU", "REST 5", "STOR sandbox/x"),
    "ABOR without end": lines("ABOR", "\xff\xf4\xff\xf2ABOR", times=500),
    "commands behind QUIT": lines("QUIT", "NOOP", "DELE inbox/x", times=100),
    "one byte in a record": _tiny_records,
    "renegotiation": _renegotiates,
    "garbage in a record": _garbage_in_tls,
    "commands in clear inside TLS": _clear_in_tls,
    "half a record": _half_a_record,
    "says the end of TLS and stays": _says_goodbye_and_stays,
}


# -- data connections


def _never_reads(client: Client) -> None:
    client.data()
    client.control.sendall(f"RETR inbox/{client.station.large}\r\n".encode())


def _never_shakes_hands(client: Client) -> None:
    raw = socket.create_connection(("127.0.0.1", client.port()), 10)
    client.open.enter_context(raw)
    client.control.sendall(f"RETR inbox/{client.station.name}\r\n".encode())


def _shakes_hands_slowly(client: Client) -> None:
    _never_shakes_hands(client)
    raw = socket.create_connection(("127.0.0.1", client.port()), 10)
    pour(client.open.enter_context(raw), HELLO[:40])


def _never_connects(client: Client) -> None:
    for _ in range(20):
        client.port()
        client.control.sendall(f"RETR inbox/{client.station.name}\r\n".encode())
        client.control.recv(4096)


def _abandons(client: Client) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", client.port()), 10):
            pass


def _from_elsewhere(client: Client) -> None:
    """The port of one client, taken by another: it is closed unheard."""
    with (
        socket.create_connection(("127.0.0.1", client.port()), 10, source_address=("127.0.0.9", 0)) as raw,
        contextlib.suppress(*QUIET),
    ):
        raw.recv(10)
    client.control.sendall(b"LIST inbox\r\n")


def _alert(client: Client) -> None:
    data = client.data()
    client.control.sendall(f"RETR inbox/{client.station.large}\r\n".encode())
    data.recv(1000)
    os.write(data.fileno(), b"\x15\x03\x03\x00\x02\x02\x50")


def _garbage(client: Client) -> None:
    data = client.data()
    client.control.sendall(f"RETR inbox/{client.station.large}\r\n".encode())
    data.recv(1000)
    os.write(data.fileno(), b"\x17\x03\x03\x00\x20" + os.urandom(32))


def _reset(client: Client) -> None:
    data = client.data()
    client.control.sendall(f"RETR inbox/{client.station.large}\r\n".encode())
    data.recv(1000)
    data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    data.close()


def _talks_while_it_reads(client: Client) -> None:
    data = client.data()
    client.control.sendall(f"RETR inbox/{client.station.large}\r\n".encode())
    data.recv(1000)
    pour(data, b"x" * 2_000_000)


def _talks_when_it_has_all(client: Client) -> None:
    """As fast as it can, for as long as it is listened to, instead of an end."""
    data = client.data()
    client.control.sendall(f"RETR inbox/{client.station.name}\r\n".encode())
    while data.recv(65536):
        pass
    data.settimeout(10)
    is_over = threading.Event()

    def talk() -> None:
        with contextlib.suppress(*QUIET):
            while not is_over.is_set():
                data.sendall(bytes(1 << 24))

    thread = threading.Thread(target=talk)
    client.open.callback(thread.join)
    client.open.callback(is_over.set)
    thread.start()


def _speaks_clear(client: Client) -> None:
    raw = client.open.enter_context(socket.create_connection(("127.0.0.1", client.port()), 10))
    client.control.sendall(f"RETR inbox/{client.station.name}\r\n".encode())
    pour(raw, b"GET / HTTP/1.1\r\n\r\n")


def _commands_during_a_transfer(client: Client) -> None:
    client.data()
    name = client.station.large
    pour(client.control, (f"RETR inbox/{name}\r\nPASV\r\nLIST\r\nABOR\r\n" * 100).encode())


def _uploads_without_end(client: Client) -> None:
    data = client.data()
    client.control.sendall(b"STOR sandbox/endless\r\n")
    client.control.recv(4096)
    pour(data, b"x" * 20_000_000)


def _uploads_and_stops(client: Client) -> None:
    data = client.data()
    client.control.sendall(b"STOR sandbox/half\r\n")
    client.control.recv(4096)
    pour(data, b"x" * 100_000)


def _goes_during_a_transfer(client: Client) -> None:
    _never_reads(client)
    client.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.control.close()


def _goes_before_it_is_answered(client: Client) -> None:
    """The answer to RETR, or to STOR, is what shows that it is gone."""
    for command in (f"RETR inbox/{client.station.large}", "STOR sandbox/gone"):
        for with_data in (True, False):
            other = Client(client.station)
            with other.open:
                if with_data:
                    other.data()
                else:
                    other.port()
                other.control.sendall(f"{command}\r\n".encode())
                other.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _lists_and_takes_nothing(client: Client) -> None:
    for _ in range(200):
        client.data().close()
        client.control.sendall(b"MLSD inbox\r\n")
        client.control.recv(4096)


DATA: dict[str, Deed] = {
    "never reads": _never_reads,
    "never shakes hands": _never_shakes_hands,
    "half a handshake": _shakes_hands_slowly,
    "never connects": _never_connects,
    "50 connections abandoned": _abandons,
    "somebody else connects": _from_elsewhere,
    "a TLS alert in the middle": _alert,
    "garbage in the middle": _garbage,
    "a reset in the middle": _reset,
    "talks while it is sent to": _talks_while_it_reads,
    "talks when it was sent everything": _talks_when_it_has_all,
    "no TLS": _speaks_clear,
    "commands during a transfer": _commands_during_a_transfer,
    "uploads 20 MB to who looks at nothing": _uploads_without_end,
    "uploads and stops": _uploads_and_stops,
    "goes during a transfer": _goes_during_a_transfer,
    "goes before it is answered": _goes_before_it_is_answered,
    "200 listings, none taken": _lists_and_takes_nothing,
}


def misbehave(station: Station, kind: str, name: str) -> contextlib.ExitStack:
    """Begin it; what is returned lets go of it."""
    if kind == "clear":
        return in_clear(station.listener.port, CLEAR[name])
    if kind == "implicit":
        return in_clear(station.listener.implicit_port, IMPLICIT[name])
    client = Client(station)
    try:
        with contextlib.suppress(*QUIET):
            (COMMANDS | DATA)[name](client)
    except BaseException:
        client.open.close()
        raise
    return client.open


def serve_one(station: Station) -> float:
    """What a well-behaved client does; the seconds that it took."""
    began = time.monotonic()
    with station.listener.session() as client:
        assert station.name in client.nlst("inbox")
        assert get(client, f"inbox/{station.name}") == CONTENT
    return time.monotonic() - began


def meanwhile(station: Station, kind: str, name: str) -> float:
    """Serve a well-behaved client while another misbehaves."""
    with misbehave(station, kind, name):
        return serve_one(station)


def open_blobs(folder: Path) -> int:
    """Descriptors of this process for bytes that were published or uploaded below a directory."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith(f"{folder}/blobs/")
    return count


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


TABLES = (("clear", CLEAR), ("implicit", IMPLICIT), ("command", COMMANDS), ("data", DATA))
CASES = [(kind, name) for kind, table in TABLES for name in table]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{kind}: {name}" for kind, name in CASES])
def test_a_well_behaved_client_is_served_meanwhile(station: Station, kind: str, name: str) -> None:
    """Within two seconds; the place, the thread and the files of whoever misbehaved are given back."""
    seconds = meanwhile(station, kind, name)
    if seconds > SERVED_SECONDS:  # another process may have had the cores
        seconds = meanwhile(station, kind, name)
    assert seconds < SERVED_SECONDS
    assert eventually(lambda: has_left(station.listener) and not open_blobs(station.folder), 15)
    errors, station.errors = station.errors, []
    assert errors == []


def test_those_that_misbehave_again_and_again_leave_no_memory_behind(station: Station) -> None:
    """The worst ones, after each was there once."""
    worst = [
        ("clear", "a line without end"),
        ("clear", "20,000 NOOPs"),
        ("command", "100,000 NOOPs, answers not taken"),
        ("command", "a path of 1 MB"),
        ("command", "500 passive ports"),
        ("data", "never reads"),
        ("data", "talks while it is sent to"),
    ]
    for kind, name in worst:
        meanwhile(station, kind, name)
    before = resident()
    for _ in range(4):
        for kind, name in worst:
            meanwhile(station, kind, name)
    assert resident() - before < GROWTH_BYTES


def test_bytes_one_by_one_end_at_the_log_in_s_time(station: Station) -> None:
    """Each is no sign of life, in clear, during the handshake, and behind it."""
    ended: list[float] = []

    def drip(sock: socket.socket, content: bytes) -> None:
        began = time.monotonic()
        with sock, contextlib.suppress(*QUIET):
            for byte in content:
                sock.sendall(bytes([byte]))
                time.sleep(0.2)
                if time.monotonic() - began > 20:
                    return
        ended.append(time.monotonic() - began)

    def connected(first: bytes = b"") -> socket.socket:
        sock = socket.create_connection(("localhost", station.listener.port), 10)
        sock.recv(200)
        sock.sendall(first)
        return sock

    socks = [(connected(), b"N" * 200), (connected(AUTH), HELLO), (in_tls(station.listener), b"N" * 200)]
    threads = [threading.Thread(target=drip, args=one) for one in socks]
    for thread in threads:
        thread.start()
    served = serve_one(station)
    for thread in threads:
        thread.join()
    assert len(ended) == 3 and max(ended) < LOGIN_SECONDS + 8
    assert served < SERVED_SECONDS


def test_a_thousand_idle_connections_of_one_address_shut_nobody_out(station: Station) -> None:
    """Only that address waits for its ten places; no thread is begun for the others."""
    there = ("127.0.0.1", station.listener.port)
    idle = [socket.create_connection(there, source_address=("127.0.0.2", 0)) for _ in range(1000)]
    try:
        time.sleep(0.5)
        assert len(station.listener.server._listener.sessions) <= 10
        assert serve_one(station) < SERVED_SECONDS
    finally:
        for one in idle:
            one.close()
