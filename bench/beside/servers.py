"""The servers side by side, each on a free port of the loopback with settings of its own.

The gateway is the demo's world with all its parts: spool, mail, sealing, SFTP, FTPS. OpenSSH and vsftpd are looked for
on PATH and in /usr/sbin, and run as the user who runs the benchmark, with the settings written here and no others.
"""

import contextlib
import os
import pwd
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from gateway import config
from gateway.demo import world
from gateway.keys import passwords

from .state import Access, Store
from .tree import Tree

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_MANY = "1000"
_GATEWAY = {  # one client and one address stand for all of them here
    "GATEWAY__SFTP__CONNECTIONS_PER_CLIENT": _MANY,
    "GATEWAY__SFTP__SESSIONS_PER_CLIENT": _MANY,
    "GATEWAY__SFTP__CONNECTIONS_BEFORE_LOGIN_PER_SOURCE": _MANY,
    "GATEWAY__SFTP__CONNECTIONS_BEFORE_LOGIN": _MANY,
}
_SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
PidFile none
AuthorizedKeysFile {keys}
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 1000:100:1000
LoginGraceTime 120
Subsystem sftp internal-sftp
PrintMotd no
PrintLastLog no
"""
_VSFTPD = """\
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
run_as_launching_user=YES
anonymous_enable=YES
no_anon_password=YES
ftp_username={user}
anon_root={root}
anon_world_readable_only=NO
ssl_enable=YES
allow_anon_ssl=YES
force_anon_data_ssl=YES
force_anon_logins_ssl=YES
require_ssl_reuse=NO
ssl_ciphers=HIGH
rsa_cert_file={certificate}
rsa_private_key_file={key}
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
xferlog_enable=YES
vsftpd_log_file={log}
"""


@contextlib.contextmanager
def directories() -> Iterator[tuple[Path, Path]]:
    """Two that are removed in the end: for the servers, and for what is fetched from them."""
    memory = Path("/dev/shm")  # where there is one, files that are fetched cost no disk
    where = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30 else None
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir=where) as fetched:
        yield Path(name), Path(fetched)


def find(program: str, package: str) -> str:
    """Its path; SystemExit says what to install."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        raise SystemExit(f"{program} is needed beside the gateway: apt-get install --no-install-recommends {package}")
    return path


@dataclass(frozen=True)
class Server:
    """A running one."""

    name: str
    tree: Tree
    port: int
    user: str  # whose log-in it is; empty: the folder's own
    root: str  # what stands before a folder's name; empty: it is the log-in's own

    def login(self, folder: str) -> str:
        """The user name that opens a folder."""
        return self.user or folder

    def inbox(self, folder: str, files: str) -> str:
        """Where the entries of a folder are; elsewhere they are `files`."""
        return f"{self.root}/{files}" if self.root else "/inbox"


class Bench:
    """A directory with everything that the servers and their clients need."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.world = world.make(directory / "gateway", None)
        self.files = directory / "files"
        self.key = directory / "id_ed25519"
        self.password = passwords.make()
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.key.write_bytes(key.export_private_key())
        self.key.chmod(0o600)
        self.public = key.export_public_key()
        access = Access(key.get_fingerprint(), passwords.hashed(self.password))
        self.store = Store(self.world.directory / "state", self.files, access)

    @contextlib.contextmanager
    def gateway(self, protocol: str) -> Iterator[Server]:
        """The daemon; `protocol` (sftp or ftps) says which port is meant."""
        settings = config.load(self.world.config)
        listen = settings.sftp.listen if protocol == "sftp" else settings.ftps.listen
        command = [sys.executable, "-m", "gateway", "--config", str(self.world.config)]
        with self._running("gateway", [*command, "serve"], int(listen.rpartition(":")[2]), _GATEWAY) as (tree, port):
            yield Server("gateway", tree, port, "", "")

    @contextlib.contextmanager
    def sshd(self) -> Iterator[Server]:
        """OpenSSH's, with its internal SFTP server."""
        program, port = find("sshd", "openssh-server"), _free_port()
        host_key, keys, settings = (self.directory / name for name in ("host_key", "authorized_keys", "sshd_config"))
        host_key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        host_key.chmod(0o600)
        keys.write_bytes(self.public)
        settings.write_text(_SSHD.format(port=port, host_key=host_key, keys=keys))
        user = pwd.getpwuid(os.geteuid()).pw_name
        with self._running("openssh", [program, "-D", "-e", "-f", str(settings)], port, {}) as (tree, _):
            yield Server("openssh", tree, port, user, str(self.files))

    @contextlib.contextmanager
    def vsftpd(self) -> Iterator[Server]:
        """vsftpd with TLS on both connections."""
        program, port = find("vsftpd", "vsftpd"), _free_port()
        settings, authority = self.directory / "vsftpd.conf", self.world.authority
        user = pwd.getpwuid(os.geteuid()).pw_name
        settings.write_text(
            _VSFTPD.format(
                port=port, user=user, root=self.files, certificate=authority.tls_certificate, key=authority.tls_key,
                log=self.directory / "vsftpd.xfers",
            )
        )  # fmt: skip
        with self._running("vsftpd", [program, str(settings)], port, {}) as (tree, _):
            yield Server("vsftpd", tree, port, "anonymous", str(self.files))

    @contextlib.contextmanager
    def _running(self, name: str, command: list[str], port: int, more: dict[str, str]) -> Iterator[tuple[Tree, int]]:
        tree = Tree(command, os.environ | more, self.directory / f"{name}.log")
        try:
            _wait_for(tree, name, port)
            yield tree, port
        finally:
            tree.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _wait_for(tree: Tree, name: str, port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and tree.is_running:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
            if connection.recv(1):
                return
        time.sleep(0.1)
    raise SystemExit(f"{name} does not answer:\n{tree.said}")
