"""sshfs: the folder as a mount, and the programs that every machine has.

The tests may not gain rights (no_new_privs), so fusermount3 cannot mount for them; a user namespace of their own can.
"""

import subprocess
from collections.abc import Sequence
from typing import ClassVar

from tests.peers import program
from tests.peers.clients.driver import Driver
from tests.peers.clients.openssh import HOST, PINNED
from tests.peers.clients.station import USER, Station


class Sshfs(Driver):
    """In the foreground, so that it ends with its job; killed with its namespace, it leaves no mount behind."""

    name, protocol = "sshfs", "SFTP"
    needs: ClassVar[tuple[str, ...]] = ("sshfs", "sftp", "fuse-namespace")
    found = (
        "For programs that know files only. `-f` keeps it in the foreground, so that it ends with the job. The tests "
        "mount it in a user namespace (`unshare`), since they may gain no rights; where `fusermount3` may be run, "
        "`sh job.sh` is enough. Mount for the job, not for ever: a mount keeps a session open."
    )

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self._namespace = (
            program("fuse-namespace"), "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"
        )  # fmt: skip
        (station.directory / "mnt").mkdir()

    def version(self) -> str:
        """Its own, not that of the library."""
        done = subprocess.run([program("sshfs"), "--version"], capture_output=True, text=True, check=True)
        return done.stdout.split("SSHFS version", 1)[1].split()[0]

    def _job(self, script: str) -> list[str]:
        here = self.station.directory
        options = " ".join(PINNED).replace("-i id", f"-o IdentityFile={here}/id")
        options = options.replace("=known_hosts", f"={here}/known_hosts")
        lines = (
            "set -e",
            f"sshfs -f -p {self.station.sftp_port} {options} {USER}@{HOST}:/ mnt &",
            "until mountpoint -q mnt; do kill -0 $!; sleep 0.05; done",
            "trap 'umount mnt 2>/dev/null || fusermount3 -u mnt; wait' EXIT",
            script,
        )
        self.station.file("job.sh", "".join(f"{line}\n" for line in lines))
        return [*self._namespace, "sh", "job.sh"]

    def _run(self, script: str) -> str:
        return self.station.run(*self._job(script))

    def listed(self) -> list[str]:
        """As any folder."""
        return self._run("ls -1 mnt/inbox").split()

    def pull(self, names: Sequence[str]) -> None:
        """-p keeps the times."""
        self.station.file("names", "".join(f"{name}\n" for name in names))
        self._run('while read -r name; do cp -p "mnt/inbox/$name" here/; done < names')

    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """As any copy."""
        return self.station.start(*self._job(f"cp mnt/inbox/{name} here/"))

    def resume(self, name: str) -> None:
        """At the size of the local file."""
        size = f"$(stat -c %s here/{name})"
        self._run(f"tail -c +$(({size} + 1)) mnt/inbox/{name} > rest; cat rest >> here/{name}; rm rest")

    def rename(self, old: str, new: str) -> None:
        """As any file."""
        self._run(f"mv mnt/inbox/{old} mnt/inbox/{new}")

    def remove(self, names: Sequence[str]) -> None:
        """As any file."""
        self.station.file("names", "".join(f"{name}\n" for name in names))
        self._run('cd mnt/inbox; while read -r name; do rm -f "$name"; done < ../../names; cd ../..')
