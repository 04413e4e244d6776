"""lftp and curl, over SFTP and over FTPS. Passwords stand in ~/.netrc, never in a command line."""

import subprocess
from collections.abc import Sequence
from typing import ClassVar

from tests.peers import program
from tests.peers.clients.driver import Driver
from tests.peers.clients.openssh import HOST, PINNED
from tests.peers.clients.station import USER, Station
from tests.servers.ftps_world import PASSWORD

FTPS_HOST = "localhost"  # the certificate's name


def _netrc(station: Station) -> None:
    station.file(".netrc", f"machine {FTPS_HOST}\nlogin {USER}\npassword {PASSWORD}\n")


class LftpSftp(Driver):
    """lftp runs ssh, which is told everything about keys."""

    name, protocol = "lftp, SFTP", "SFTP"
    found = (
        "It does not wait for the answer to the last close: let another command follow the last `get`, or the end of "
        "that download may go unseen. `get -c` goes on at the size of the local file."
    )
    needs: ClassVar[tuple[str, ...]] = ("lftp", "sftp")
    settings: tuple[str, ...] = (f'set sftp:connect-program "ssh -a -x {" ".join(PINNED)}"',)

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.where = f"open -u {USER}, -p {station.sftp_port} sftp://{HOST}"

    def version(self) -> str:
        """Its first line."""
        done = subprocess.run([program("lftp"), "--version"], capture_output=True, text=True, check=True)
        return done.stdout.split("Version", 1)[1].split()[0]

    def _write(self, *commands: str) -> None:
        settings = ("set cmd:fail-exit yes", "set net:max-retries 2", "set net:timeout 20", *self.settings)
        self.station.file("gateway.lftp", "".join(f"{line}\n" for line in (*settings, self.where)))
        self.station.file("job.lftp", "".join(f"{line}\n" for line in ("source gateway.lftp", *commands)))

    def _run(self, *commands: str) -> str:
        self._write(*commands)
        return self.station.run(program("lftp"), "--norc", "-f", "job.lftp")

    def listed(self) -> list[str]:
        """cls -1 lists names alone."""
        return self._run("cls -1 inbox").replace("inbox/", "").split()

    def pull(self, names: Sequence[str]) -> None:
        """The listing at the end lets the last close reach the server: lftp does not wait for its answer."""
        self._run("cd inbox", f"get -O here {' '.join(names)}", "cls > /dev/null")

    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """As any get."""
        self._write(f"get -O here inbox/{name}")
        return self.station.start(program("lftp"), "--norc", "-f", "job.lftp")

    def resume(self, name: str) -> None:
        """-c goes on at the size of the local file."""
        self._run(f"get -c -O here inbox/{name}", "cls > /dev/null")

    def rename(self, old: str, new: str) -> None:
        """As in a shell."""
        self._run("cd inbox", f"mv {old} {new}")

    def remove(self, names: Sequence[str]) -> None:
        """As in a shell."""
        self._run("cd inbox", f"rm {' '.join(names)}")


class LftpFtps(LftpSftp):
    """Explicit TLS on both channels; without `ssl-force` lftp would go on in clear where TLS fails."""

    name, protocol, needs, logs_in_by = "lftp, FTPS", "FTPS", ("lftp",), "password"
    found = (
        "Without `ftp:ssl-force` it would go on in clear where TLS fails, which the gateway refuses. The password is "
        "in `~/.netrc`."
    )
    settings: tuple[str, ...] = (
        "set ftp:ssl-force yes",
        "set ftp:ssl-protect-data yes",
        "set ssl:verify-certificate yes",
    )

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        _netrc(station)
        self.settings += (f"set ssl:ca-file {station.authority}",)
        self.where = f"open -u {USER} -p {station.ftps_port} ftp://{FTPS_HOST}"


class CurlSftp(Driver):
    """curl takes the host's key from ~/.ssh/known_hosts and refuses another one."""

    name, protocol, needs = "curl, SFTP", "SFTP", ("curl-sftp",)
    found = (
        "The host's key comes from `~/.ssh/known_hosts`. `fail-early`: without it curl goes on after a download that "
        "failed, and its exit status is the last one's. Many downloads in one call share one connection."
    )

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.root = f"sftp://{HOST}:{station.sftp_port}"
        self.common = f'user = "{USER}:"\nkey = id\npubkey = id.pub\n'
        (station.directory / ".ssh").mkdir(mode=0o700)
        (station.directory / ".ssh" / "known_hosts").symlink_to("../known_hosts")

    def version(self) -> str:
        """And the library that speaks SSH or TLS for it."""
        done = subprocess.run([program("curl"), "--version"], capture_output=True, text=True, check=True)
        words = done.stdout.splitlines()[0].split()
        beside = "libssh" if self.protocol == "SFTP" else "SSL"
        return f"{words[1]} ({next((w for w in words if beside in w), '')})"

    def _run(self, config: str) -> str:
        self.station.file("job.curl", self.common + config)
        return self.station.run(program("curl"), "-sS", "-K", "job.curl")

    def listed(self) -> list[str]:
        """Names alone."""
        names = self._run(f'list-only\nurl = "{self.root}/inbox/"\n').split()
        return [name for name in names if name not in {".", ".."}]

    def pull(self, names: Sequence[str]) -> None:
        """All in one connection; remote-time keeps the times."""
        self._run("fail-early\nremote-time\n" + "".join(self._one(name) for name in names))

    def _one(self, name: str) -> str:
        return f'url = "{self.root}/inbox/{name}"\noutput = "here/{name}"\n'

    def begin(self, name: str) -> "subprocess.Popen[bytes]":
        """As any download."""
        self.station.file("job.curl", self.common + self._one(name))
        return self.station.start(program("curl"), "-sS", "-K", "job.curl")

    def resume(self, name: str) -> None:
        """-C - on the command line: at the size of the local file."""
        self._run('continue-at = "-"\n' + self._one(name))

    def rename(self, old: str, new: str) -> None:
        """A command before a listing that shows nothing."""
        self._commands(f"rename /inbox/{old} /inbox/{new}")

    def remove(self, names: Sequence[str]) -> None:
        """The same."""
        self._commands(*(f"rm /inbox/{name}" for name in names))

    def _commands(self, *commands: str) -> None:
        lines = "".join(f'quote = "{command}"\n' for command in commands)
        self._run(f'{lines}list-only\nurl = "{self.root}/"\n')


class CurlFtps(CurlSftp):
    """ssl-reqd: TLS on both channels, or nothing."""

    name, protocol, needs, logs_in_by = "curl, FTPS", "FTPS", ("curl",), "password"
    found = "`ssl-reqd`: TLS on both channels, or nothing. The password is in `~/.netrc`, never in a command line."

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        _netrc(station)
        self.root = f"ftp://{FTPS_HOST}:{station.ftps_port}"
        self.common = f'ssl-reqd\ncacert = "{station.authority}"\nnetrc\n'

    def rename(self, old: str, new: str) -> None:
        """FTP's two commands."""
        self._commands(f"RNFR /inbox/{old}", f"RNTO /inbox/{new}")

    def remove(self, names: Sequence[str]) -> None:
        """FTP's command."""
        self._commands(*(f"DELE /inbox/{name}" for name in names))
