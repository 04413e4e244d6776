"""Where a client's programs run: a directory of its own, and the gateway's listeners with its inbox behind them.

What is run there is kept, with the files written for it, so that docs/clients.md shows what was really done.
"""

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from gateway.config import FtpsSettings, SftpLegacySettings, SftpSettings
from gateway.demo.authority import Authority
from gateway.domain.folders import SshKey
from gateway.pools import ThreadPool
from gateway.servers.ftpsd import FtpsServer
from gateway.servers.sftpd import SftpServer
from tests.peers.clients.inbox import Inbox, Stock
from tests.servers.ftps_world import with_password

T = TypeVar("T")
USER = "acme"
RUN_SECONDS = 60.0


@dataclass(frozen=True)
class Ran:
    """One call of a program."""

    command: tuple[str, ...]
    stdin: str
    files: dict[str, str]  # written since the call before: name and text


@dataclass
class Station:
    """A client's side: its directory with the key, the known host key and the authority; what it may run there."""

    inbox: Inbox
    directory: Path
    sftp_port: int
    legacy_port: int
    ftps_port: int
    host_key: str  # a line of known_hosts, without the host
    authority: Path
    variables: dict[str, str] = field(default_factory=dict)  # that the client's programs need
    ran: list[Ran] = field(default_factory=list)
    _written: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the one who runs the tests."""
        return {
            "HOME": str(self.directory),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        } | self.variables

    def file(self, name: str, text: str) -> Path:
        """A configuration file beside the key, readable by its owner alone."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        self._written[name] = text
        return path

    def written(self) -> dict[str, str]:
        """The files of nobody's call yet; they are nobody's afterwards."""
        written, self._written = self._written, {}
        return written

    def _keep(self, command: tuple[str | Path, ...], stdin: str) -> list[str]:
        words = [str(part) for part in command]
        self.ran.append(Ran(tuple(words), stdin, self.written()))
        return words

    def run(self, *command: str | Path, stdin: str = "", may_fail: bool = False) -> str:
        """What it printed to its output; unless it may fail, the test fails with its errors.

        Each has a pipe of its own: ssh makes the one of its errors non-blocking, and sftp loses what it then prints.
        """
        done = subprocess.run(
            self._keep(command, stdin), cwd=self.directory, env=self.environment, input=stdin,
            capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
        )  # fmt: skip
        said = done.stdout[-200:] + done.stderr[-300:]
        assert may_fail or done.returncode == 0, f"{command[0]}: exit {done.returncode}: {said}"
        return done.stdout

    def start(self, *command: str | Path, stdin: str = "") -> "subprocess.Popen[bytes]":
        """The same, but go on; in a process group of its own."""
        process = subprocess.Popen(
            self._keep(command, stdin), cwd=self.directory, env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(stdin.encode())
        process.stdin.flush()
        return process

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """The program and what it started, without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def here(self, name: str) -> Path:
        """Where a document is put."""
        return self.directory / "here" / name

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.here(name).read_bytes()).hexdigest()

    def everyone_left(self) -> bool:
        """Nobody is in the folder any more."""
        return all(session.ended_at is not None for session in self.inbox.sessions())


@contextlib.contextmanager
def opened(stock: Stock, directory: Path) -> Iterator[Station]:
    """Both listeners on a loop of their own, with a copy of the stock behind them, and a client's directory."""
    with stock.copied(directory) as inbox, _loop() as run:
        key = asyncssh.generate_private_key("ssh-ed25519")
        inbox.set(SshKey, inbox.key.id, fingerprint=key.get_fingerprint())
        with_password(inbox)
        authority = Authority.create(directory / "authority")
        settings = SftpSettings(listen="127.0.0.1:0")
        ftps_settings = FtpsSettings(
            enabled=True, certificate=authority.tls_certificate, key=authority.tls_key, listen="127.0.0.1:0",
            listen_implicit="", confirm_seconds=2,
        )  # fmt: skip
        pool = ThreadPool("folder", 4)
        legacy = SftpLegacySettings(enabled=True, listen="127.0.0.1:0")
        sftp = SftpServer(settings, inbox.folders, pool, directory, legacy)
        ftps = FtpsServer(ftps_settings, settings, inbox.folders, pool, sftp.limits, sftp.penalties, sftp.failures)
        (_, sftp_port), (_, legacy_port) = run(sftp.start())
        ((_, ftps_port),) = run(ftps.start())
        client = directory / "client"
        (client / "here").mkdir(parents=True)
        station = Station(inbox, client, sftp_port, legacy_port, ftps_port, sftp.host_key, authority.root)
        key.write_private_key(client / "id")
        (client / "id").chmod(0o600)
        key.write_public_key(client / "id.pub")
        # Both host keys: rclone does not ask for the kind that it knows, and takes the other for a stranger's.
        rsa = asyncssh.read_private_key(directory / "ssh_rsa_host_key").export_public_key().decode().strip()
        known = ((sftp_port, sftp.host_key), (sftp_port, rsa), (legacy_port, rsa))
        lines = (f"[127.0.0.1]:{port} {line}\n" for port, line in known)
        station.file("known_hosts", "".join(lines))
        station.written()
        try:
            yield station
        finally:
            run(sftp.close())
            run(ftps.close())
            pool.close()


@contextlib.contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0, pause: float = 0.002) -> None:
    """Look again and again; the test fails when it does not come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(pause)
