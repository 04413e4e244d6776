"""FTPS clients that have logged in: Python's ftplib, which resumes its TLS session as other clients do, and lftp."""

import contextlib
import ftplib
import multiprocessing
import socket
import ssl
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from .servers import find

_PIECE = 1 << 18
_SECONDS = 120
_PROCESSES = 4


class Access(NamedTuple):
    """What a client needs to log in."""

    port: int
    user: str
    password: str
    authority: Path  # PEM file


class Ftp(ftplib.FTP_TLS):
    """A session by ftplib."""

    def __init__(self, access: Access) -> None:
        super().__init__(context=ssl.create_default_context(cafile=access.authority), timeout=_SECONDS)
        self.connect("localhost", access.port)
        self.login(access.user, access.password)
        self.prot_p()
        self.voidcmd("TYPE I")

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """A data connection that resumes the session of this one; ftplib's own begins a new one each time."""
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        own = self.sock
        assert isinstance(own, ssl.SSLSocket) and self.host is not None
        return self.context.wrap_socket(connection, server_hostname=self.host, session=own.session), size

    def fetch(self, path: str, sink: Callable[[memoryview], Any]) -> None:
        """A file's bytes, to the end of its data connection."""
        connection, _ = self.ntransfercmd(f"RETR {path}")
        assert isinstance(connection, ssl.SSLSocket)
        piece = bytearray(_PIECE)
        while count := connection.recv_into(piece):
            sink(memoryview(piece)[:count])
        with contextlib.suppress(OSError):  # vsftpd does not wait for it
            connection.unwrap()
        connection.close()
        self.voidresp()


class Lftp:
    """A session by lftp, told what to do."""

    def __init__(self, access: Access, folder: str) -> None:
        settings = (
            "set cmd:fail-exit yes", "set net:max-retries 1", "set ftp:ssl-force yes", "set ftp:ssl-protect-data yes",
            f"set ssl:ca-file {access.authority}", "set xfer:clobber yes", "set ftp:use-mdtm no",
        )  # fmt: skip
        self._process = subprocess.Popen(
            [find("lftp", "lftp"), "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        url = f"open -u {access.user},{access.password} ftp://localhost:{access.port}"
        self.do([*settings, url, f"cd {folder}", "ls -d ."])

    def do(self, commands: Sequence[str]) -> None:
        """Run these, one after the other."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(f"{command}\n" for command in [*commands, "echo these-are-done"]))
        process.stdin.flush()
        while (line := process.stdout.readline()).strip() != "these-are-done":
            if not line:
                raise SystemExit(f"lftp ended early, with {process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Many:
    """Sessions of ftplib that have logged in, in processes of their own, each with paths to fetch at once."""

    def __init__(self, access: Access, jobs: Sequence[Sequence[str]]) -> None:
        context = multiprocessing.get_context("spawn")
        self._step = context.Barrier(_PROCESSES + 1, timeout=_SECONDS)
        self._processes = [
            context.Process(target=_fetch_all, args=(access, jobs[number::_PROCESSES], self._step))
            for number in range(_PROCESSES)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        self._step.wait()
        return self

    def fetch(self) -> None:
        """All of them, all of it."""
        self._step.wait()
        self._step.wait()

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        for process in self._processes:
            process.join(_SECONDS)
        if any(process.exitcode for process in self._processes):
            raise SystemExit("a session of the many failed")


def _fetch_all(access: Access, jobs: Sequence[Sequence[str]], step: Barrier) -> None:
    """In a process: a thread for each session; all begin with those of the other processes, and end with them."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        clients = [Ftp(access) for _ in jobs]  # one after the other: a server may take few log-ins at once
        step.wait()
        step.wait()
        list(threads.map(_fetch_job, clients, jobs))
        step.wait()
        for client in clients:
            client.close()


def _fetch_job(client: Ftp, paths: Sequence[str]) -> None:
    for path in paths:
        client.fetch(path, len)
