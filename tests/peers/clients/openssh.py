"""OpenSSH: sftp with a batch of commands, and scp, which speaks SFTP."""

import subprocess
from collections.abc import Sequence

from tests.peers import program
from tests.peers.clients.driver import Driver
from tests.peers.clients.station import USER, Station

HOST = "127.0.0.1"
PINNED = (
    "-F", "none", "-o", "UserKnownHostsFile=known_hosts", "-o", "StrictHostKeyChecking=yes",
    "-o", "IdentitiesOnly=yes", "-i", "id", "-o", "BatchMode=yes",
)  # fmt: skip


class Sftp(Driver):
    """sftp reads its commands from a file and stops at the first that fails."""

    name, protocol, needs = "OpenSSH sftp", "SFTP", ("sftp",)
    found = (
        "With `-b` it stops at the first command that fails and exits with 1; a command that begins with `-` may fail. "
        "`reget` goes on at the size of the local file."
    )

    def version(self) -> str:
        """That of the package; ssh says it."""
        done = subprocess.run([_beside("ssh"), "-V"], capture_output=True, text=True, check=True)
        return done.stderr.split(",")[0].replace("_", " ").split()[1]

    def _batch(self, *commands: str) -> str:
        batch = "".join(f"{command}\n" for command in commands)
        return self.station.run(*self._command(), stdin=batch)

    def _command(self) -> list[str]:
        return [program("sftp"), *PINNED, "-b", "-", "-P", str(self.station.sftp_port), f"{USER}@{HOST}"]

    def listed(self) -> list[str]:
        """`ls -1` names the folder before each name."""
        lines = self._batch("ls -1 inbox").splitlines()
        return [line.removeprefix("inbox/").strip() for line in lines if line.startswith("inbox/")]

    def pull(self, names: Sequence[str]) -> None:
        """-p keeps the times."""
        self._batch("cd inbox", "lcd here", *(f"get -p {name}" for name in names))

    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """As any get."""
        return self.station.start(*self._command(), stdin=f"get -p inbox/{name} here/{name}\n")

    def resume(self, name: str) -> None:
        """`get -a` is another way to say it."""
        self._batch(f"reget inbox/{name} here/{name}")

    def rename(self, old: str, new: str) -> None:
        """posix-rename@openssh.com, since the server offers it."""
        self._batch(f"rename inbox/{old} inbox/{new}")

    def remove(self, names: Sequence[str]) -> None:
        """One request each."""
        self._batch("cd inbox", *(f"rm {name}" for name in names))


class Scp(Sftp):
    """scp only downloads; sftp does the rest. -s asks for SFTP where an older scp would not."""

    name, resumes = "OpenSSH scp", False
    found = (
        "It speaks SFTP from release 9 on; 8.7 to 8.9 need `-s`, and the old protocol is refused with a message. It "
        "only downloads, and begins a cut download again; renaming and deleting are for `sftp`."
    )

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self._base = [_beside("scp"), "-s", "-p", *PINNED, "-P", str(station.sftp_port)]

    def pull(self, names: Sequence[str]) -> None:
        """Many in one connection each: `{a,b}` would be expanded by the local shell."""
        self.station.run(*self._base, *(f"{USER}@{HOST}:inbox/{name}" for name in names), "here/")

    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """As any copy."""
        return self.station.start(*self._base, f"{USER}@{HOST}:inbox/{name}", "here/")

    def resume(self, name: str) -> None:
        """It cannot: the whole file again."""
        self.pull([name])


def _beside(name: str) -> str:
    return str(program("sftp")).removesuffix("sftp") + name
