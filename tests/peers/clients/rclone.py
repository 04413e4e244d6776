"""rclone, over SFTP and over FTPS: what stands in rclone.conf, and commands that take a list of names."""

import subprocess
from collections.abc import Sequence

from tests.peers import program
from tests.peers.clients.driver import Driver
from tests.peers.clients.openssh import HOST
from tests.peers.clients.station import USER, Station
from tests.peers.clients.transfer import FTPS_HOST
from tests.servers.ftps_world import PASSWORD


class RcloneSftp(Driver):
    """`shell_type = none`: there is no shell that could hash files; sizes and times are compared."""

    name, protocol, needs, resumes = "rclone, SFTP", "SFTP", ("rclone",), False
    found = (
        "It may ask for either host key, so `known_hosts` needs both. `shell_type = none`: there is no shell that "
        "could hash. Give it the names (`--files-from-raw`, `--no-traverse`) or let `rclone move` delete what arrived."
    )

    by_name: tuple[str, ...] = ("--no-traverse",)

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self._configure()

    def _configure(self) -> None:
        where = f"type = sftp\nhost = {HOST}\nport = {self.station.sftp_port}\nuser = {USER}\n"
        trust = "key_file = id\nknown_hosts_file = known_hosts\nshell_type = none\n"
        self.station.file("rclone.conf", f"[gateway]\n{where}{trust}")

    def version(self) -> str:
        """Its first line."""
        done = subprocess.run([program("rclone"), "version"], capture_output=True, text=True, check=True)
        return done.stdout.split()[1].removesuffix("-DEV")

    def _command(self, *arguments: str) -> list[str]:
        return [program("rclone"), "--config", "rclone.conf", "--retries", "1", *arguments]

    def _run(self, *arguments: str) -> str:
        return self.station.run(*self._command(*arguments))

    def _list(self, names: Sequence[str]) -> tuple[str, ...]:
        self.station.file("names", "".join(f"{name}\n" for name in names))
        return ("--files-from-raw", "names", *self.by_name)

    def listed(self) -> list[str]:
        """Names alone."""
        return self._run("lsf", "gateway:inbox").split()

    def pull(self, names: Sequence[str]) -> None:
        """Four at once. `rclone move` deletes what arrived."""
        self._run("copy", "gateway:inbox", "here", *self._list(names))

    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """As any copy."""
        return self.station.start(*self._command("copyto", f"gateway:inbox/{name}", f"here/{name}"))

    def resume(self, name: str) -> None:
        """It cannot: the whole file again."""
        self._run("copyto", f"gateway:inbox/{name}", f"here/{name}")

    def rename(self, old: str, new: str) -> None:
        """A rename on the server."""
        self._run("moveto", f"gateway:inbox/{old}", f"gateway:inbox/{new}")

    def remove(self, names: Sequence[str]) -> None:
        """Those of the list."""
        self._run("delete", "gateway:inbox", *self._list(names))


class RcloneFtps(RcloneSftp):
    """Explicit TLS; the authority's certificate is given by SSL_CERT_FILE where the system does not know it."""

    name, protocol, logs_in_by = "rclone, FTPS", "FTPS", "password"
    by_name = ()  # this release answers each question about one name by a whole listing: better one listing for all
    found = (
        "It lists the folder whenever it looks for one name, also before each deletion (later ones use MLST). "
        "Leave out `--no-traverse`, and keep the inbox small. For the same reason `moveto` exits with 4 after a rename "
        "that succeeded: what was read and renamed is received, and in no listing any more."
    )

    def rename(self, old: str, new: str) -> None:
        """Exit 4 where it then looks for the new name in a listing."""
        self.station.run(*self._command("moveto", f"gateway:inbox/{old}", f"gateway:inbox/{new}"), may_fail=True)

    def _configure(self) -> None:
        hidden = self.station.run(program("rclone"), "obscure", "-", stdin=PASSWORD).strip()
        where = f"type = ftp\nhost = {FTPS_HOST}\nport = {self.station.ftps_port}\nuser = {USER}\n"
        self.station.file("rclone.conf", f"[gateway]\n{where}pass = {hidden}\nexplicit_tls = true\n")
        self.station.variables["SSL_CERT_FILE"] = str(self.station.authority)
