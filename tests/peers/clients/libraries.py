"""Libraries that ERPs are built on, each by a short program of ours in its language (programs/).

Such a program takes a verb and its arguments: `list`, `pull NAME…`, `resume NAME`, `rename OLD NEW`, `remove NAME…`.
It finds its key, the known host keys, the password and the authority in its directory.
"""

import ftplib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.peers import NODE_MODULES, program
from tests.peers.clients.driver import Driver
from tests.peers.clients.openssh import HOST
from tests.peers.clients.station import USER, Station
from tests.servers.ftps_world import PASSWORD

PROGRAMS = Path(__file__).parent / "programs"


class Library(Driver):
    """A program in some language."""

    source: ClassVar[str]  # in programs/
    host: ClassVar[str] = HOST

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.port = station.sftp_port
        station.file(self.source, (PROGRAMS / self.source).read_text())

    def _interpreter(self) -> list[str]:
        return [sys.executable, self.source]

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [*self._interpreter(), self.host, str(self.port), USER, verb, *arguments]

    def _run(self, verb: str, *arguments: str) -> str:
        return self.station.run(*self.command(verb, *arguments))

    def listed(self) -> list[str]:
        """One a line."""
        return self._run("list").split()

    def pull(self, names: Sequence[str]) -> None:
        """In one connection."""
        self._run("pull", *names)

    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """As any pull."""
        return self.station.start(*self.command("pull", name))

    def resume(self, name: str) -> None:
        """At the size of the local file."""
        self._run("resume", name)

    def rename(self, old: str, new: str) -> None:
        """One request."""
        self._run("rename", old, new)

    def remove(self, names: Sequence[str]) -> None:
        """One request each."""
        self._run("remove", *names)


class Paramiko(Library):
    """RejectPolicy: a host key that is not known is no host."""

    name, protocol, needs, source = "paramiko", "SFTP", (), "paramiko_client.py"
    found = (
        "`RejectPolicy`: a host key that is not known is no host. `get` compares sizes by itself. For a resumed "
        "download, `prefetch` asks ahead; without it each 32 KB wait for an answer."
    )

    def version(self) -> str:
        """Of the distribution."""
        return importlib.metadata.version("paramiko")


class Asyncssh(Library):
    """known_hosts is checked unless it is None."""

    name, protocol, needs, source = "asyncssh", "SFTP", (), "asyncssh_client.py"
    found = (
        "`known_hosts` is checked unless it is None. `get` takes a list of names, and keeps the times with `preserve`."
    )

    def version(self) -> str:
        """Of the distribution."""
        return importlib.metadata.version("asyncssh")


class Ftplib(Library):
    """prot_p: without it the data goes in clear, and is refused."""

    name, protocol, needs, source = "Python ftplib", "FTPS", (), "ftplib_client.py"
    logs_in_by, host = "password", "localhost"
    found = "`prot_p()` after the log-in: without it the data would go in clear, and is refused."

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.port = station.ftps_port
        station.file("password", PASSWORD)
        shutil.copy(station.authority, station.directory / "authority.pem")

    def version(self) -> str:
        """It comes with Python."""
        assert ftplib.FTP_TLS.ssl_version is not None
        return platform.python_version()


class Node(Library):
    """ssh2-sftp-client over ssh2."""

    name, protocol, source = "Node ssh2-sftp-client", "SFTP", "node_client.js"
    needs: ClassVar[tuple[str, ...]] = ("node", "npm", "ssh2-sftp-client")
    found = (
        "It checks no host key unless `hostVerifier` does. `fastGet` asks for 64 parts at once; `get` into a stream "
        "asks for one at a time, and can begin anywhere. `rename` is the protocol's own: it never replaces."
    )

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        station.variables["NODE_PATH"] = str(NODE_MODULES)

    def _interpreter(self) -> list[str]:
        return [program("node"), self.source]

    def version(self) -> str:
        """As installed."""
        return str(json.loads(Path(program("ssh2-sftp-client")).read_text())["version"])
