"""psftp, PuTTY's: the host key's fingerprint on the command line, the key as PuTTY keeps it."""

import subprocess
from collections.abc import Sequence

import asyncssh

from tests.peers import program
from tests.peers.clients.driver import Driver
from tests.peers.clients.openssh import HOST
from tests.peers.clients.station import USER, Station


class Psftp(Driver):
    """-batch: it never asks; without -be it stops at the first command that fails."""

    name, protocol, needs = "PuTTY psftp", "SFTP", ("psftp", "puttygen")
    found = (
        "The key is PuTTY's own kind of file, made once by `puttygen`. A download takes the document's mode, in which "
        "nobody may write: give yourself the right before `reget` (`chmod u+w`)."
    )

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        station.run(program("puttygen"), "id", "-O", "private", "-o", "id.ppk")
        self._fingerprint = asyncssh.import_public_key(station.host_key).get_fingerprint()

    def version(self) -> str:
        """Its first line."""
        done = subprocess.run([program("psftp"), "-V"], capture_output=True, text=True, check=False)
        return done.stdout.split("Release", 1)[1].split()[0]

    def _command(self, *commands: str) -> list[str]:
        self.station.file("job.psftp", "".join(f"{command}\n" for command in (*commands, "quit")))
        pinned = ("-hostkey", self._fingerprint, "-i", "id.ppk", "-P", str(self.station.sftp_port))
        return [program("psftp"), "-batch", *pinned, "-b", "job.psftp", f"{USER}@{HOST}"]

    def _batch(self, *commands: str) -> str:
        return self.station.run(*self._command(*commands))

    def listed(self) -> list[str]:
        """A long listing, names last."""
        lines = self._batch("ls inbox").splitlines()
        return [line.split()[-1] for line in lines if line.startswith("-")]

    def pull(self, names: Sequence[str]) -> None:
        """mget takes patterns too."""
        self._batch("cd inbox", "lcd here", *(f"get {name}" for name in names))

    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """As any get."""
        return self.station.start(*self._command(f"get inbox/{name} here/{name}"))

    def resume(self, name: str) -> None:
        """At the size of the local file, which has got the document's mode: nobody may write to it."""
        self.station.here(name).chmod(0o600)
        self._batch(f"reget inbox/{name} here/{name}")

    def rename(self, old: str, new: str) -> None:
        """As in a shell."""
        self._batch(f"mv inbox/{old} inbox/{new}")

    def remove(self, names: Sequence[str]) -> None:
        """One each."""
        self._batch("cd inbox", *(f"rm {name}" for name in names))
