"""What a client's ERP does: log in to its drop folder over SFTP and fetch what is there.

OpenSSH's `sftp` does the work where it is on the PATH, otherwise asyncssh's client; nothing here is the gateway's own.
All functions block, and run an event loop of their own where they need one: from a coroutine, call them in a thread.
Unavailable when the server cannot be reached, is another than expected, or refuses; Refused for a name that no drop
folder publishes.
"""

import asyncio
import re
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import asyncssh

from .. import clock
from ..errors import Refused, Unavailable

T = TypeVar("T")
TIMEOUT_SECONDS = 120
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Account:
    """Where and as whom to log in. `private_key`: OpenSSH format; `host_key`: a public key's line, `TYPE BASE64`."""

    host: str
    port: int
    user: str
    private_key: Path
    host_key: str

    @property
    def known_hosts(self) -> str:
        """The line by which a client knows the server (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        kind, key = self.host_key.split()[:2]
        return f"[{self.host}]:{self.port} {kind} {key}\n"


@dataclass(frozen=True)
class Pull:
    """What one visit fetched, by which program; the seconds include the log-in."""

    files: tuple[Path, ...]
    program: str
    list_seconds: float
    get_seconds: float


def pull_with_sftp(account: Account, target: Path, folder: str = "inbox", remove: bool = False) -> Pull:
    """Fetch every file of a folder into `target`; with `remove`, delete each there after it was fetched: a receipt.

    The server must show the account's host key. Unavailable otherwise, or when any step fails.
    """
    target.mkdir(parents=True, exist_ok=True)
    program = shutil.which("sftp")
    visit: _OpenSsh | _Asyncssh = _OpenSsh(account, program) if program else _Asyncssh(account)
    started = clock.monotonic()
    names = visit.names(folder)
    listed = clock.monotonic()
    if names:
        visit.fetch(folder, names, target, remove)
    files = tuple(target / name for name in names)
    return Pull(files, "sftp" if program else "asyncssh", listed - started, clock.monotonic() - listed)


def _safe(names: Sequence[str]) -> list[str]:
    """Names become commands and local files: only the drop folder's own characters pass."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise Refused(f"a name outside the documented characters: {name[:60]!r}", code="file_name")
    return sorted(names)


class _OpenSsh:
    """OpenSSH's client in batch mode, with its own known hosts and nothing from the user's configuration."""

    def __init__(self, account: Account, program: str) -> None:
        self._account = account
        self._program = program

    def names(self, folder: str) -> list[str]:
        rows = self._run(f"ls -1 {folder}\n").splitlines()
        return _safe([row.rpartition("/")[2] for row in rows if row and not row.startswith("sftp> ")])

    def fetch(self, folder: str, names: Sequence[str], target: Path, remove: bool) -> None:
        commands = [f"get {folder}/{name}\n" + (f"rm {folder}/{name}\n" if remove else "") for name in names]
        self._run("".join(commands), target)

    def _run(self, batch: str, directory: Path | None = None) -> str:
        account = self._account
        with tempfile.TemporaryDirectory() as scratch:
            known_hosts = Path(scratch) / "known_hosts"
            known_hosts.write_text(account.known_hosts, "ascii")
            options = (
                f"UserKnownHostsFile={known_hosts}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes",
                "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey", "ConnectTimeout=10",
            )  # fmt: skip
            command = [self._program, "-q", "-b", "-", "-F", "/dev/null", "-P", str(account.port)]
            command += ["-i", str(account.private_key.absolute())]
            command += [part for option in options for part in ("-o", option)]
            return _output([*command, f"{account.user}@{account.host}"], batch, directory)


def _output(command: list[str], text: str, directory: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, input=text, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"sftp did not end within {TIMEOUT_SECONDS} s", code="sftp_timeout") from None
    if done.returncode:
        raise Unavailable(f"sftp ended with {done.returncode}: {done.stderr.strip()}", code="sftp_failed")
    return done.stdout


class _Asyncssh:
    """asyncssh's client, for a machine without OpenSSH."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def names(self, folder: str) -> list[str]:
        async def step(client: asyncssh.SFTPClient) -> list[str]:
            return [name for name in map(str, await client.listdir(folder)) if not name.startswith(".")]

        return _safe(self._run(step))

    def fetch(self, folder: str, names: Sequence[str], target: Path, remove: bool) -> None:
        async def step(client: asyncssh.SFTPClient) -> None:
            for name in names:
                await client.get(f"{folder}/{name}", target / name)
                if remove:
                    await client.remove(f"{folder}/{name}")

        self._run(step)

    def _run(self, step: Callable[[asyncssh.SFTPClient], Awaitable[T]]) -> T:
        async def visit() -> T:
            account = self._account
            async with (
                asyncssh.connect(
                    account.host,
                    account.port,
                    username=account.user,
                    client_keys=[str(account.private_key)],
                    known_hosts=asyncssh.import_known_hosts(account.known_hosts),
                    agent_path=None,
                    config=None,
                    connect_timeout=10,
                ) as connection,
                connection.start_sftp_client() as client,
            ):
                return await step(client)

        try:
            return asyncio.run(asyncio.wait_for(visit(), TIMEOUT_SECONDS))
        except (OSError, asyncssh.Error, TimeoutError) as error:
            raise Unavailable(f"asyncssh: {error}", code="sftp_failed") from None
