"""OpenSSH's own regress scripts, from a checkout of its sources, aimed at the gateway.

They believe that the server's disk is theirs: they compare what a PUT wrote without asking for it again. So their
directory is mapped to the sandbox, and before and after each call of sftp or scp both are made the same
(programs/openssh_tool.sh asks for it). Everything in between is between their client and the gateway.
"""

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko

from gateway.domain.folders import Folder
from tests.peers.clients.libraries import PROGRAMS
from tests.peers.clients.station import USER, Station

SCRIPT_SECONDS = 300
SANDBOX = "/sandbox"
Tree = dict[str, bytes | None]  # relative path: the file's bytes; None is a directory


class Mirror:
    """A directory and the sandbox, made the same in either direction."""

    def __init__(self, directory: Path, sftp: paramiko.SFTPClient) -> None:
        self._directory = directory
        self._sftp = sftp
        self._common: Tree = {}

    def up(self) -> None:
        """The sandbox holds what the directory holds."""
        here, there = self._here(), self._there()
        for path in sorted(there, reverse=True):
            if path not in here or (here[path] is None) is not (there[path] is None):
                (self._sftp.rmdir if there[path] is None else self._sftp.remove)(f"{SANDBOX}/{path}")
                del there[path]
        for path, content in sorted(here.items()):
            if content is None and path not in there:
                self._sftp.mkdir(f"{SANDBOX}/{path}")
            elif content is not None and there.get(path) != content:
                with self._sftp.open(f"{SANDBOX}/{path}", "wb") as file:
                    file.set_pipelined(True)
                    file.write(content)
        self._common = here

    def down(self) -> None:
        """What has changed in the sandbox since is changed in the directory."""
        there = self._there()
        for path in sorted(self._common.keys() - there.keys(), reverse=True):
            place = self._directory / path
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        for path, content in sorted(there.items()):
            if path in self._common and self._common[path] == content:
                continue
            if content is None:
                (self._directory / path).mkdir(exist_ok=True)
            else:
                (self._directory / path).write_bytes(content)

    def _here(self) -> Tree:
        found = self._directory.rglob("*")
        return {str(p.relative_to(self._directory)): None if p.is_dir() else p.read_bytes() for p in found}

    def _there(self, below: str = "") -> Tree:
        tree: Tree = {}
        for item in self._sftp.listdir_attr(f"{SANDBOX}/{below}"):
            path = f"{below}{item.filename}"
            if item.longname.startswith("d"):
                tree |= {path: None} | self._there(f"{path}/")
            else:
                with self._sftp.open(f"{SANDBOX}/{path}", "rb") as file:
                    file.prefetch(item.st_size)
                    tree[path] = file.read()
        return tree


def outcome(source: Path, station: Station, script: str) -> tuple[list[str], list[str]]:
    """The steps of one script of `source`, and what failed of them: lines `step: what it said`."""
    directory, tools = station.directory / "obj", station.directory / "tools"
    _prepare(directory, tools, station)
    station.inbox.set(Folder, station.inbox.folder.id, path_map=[[str(directory), SANDBOX]])
    copy = tools / script
    text = (source / script).read_text()
    copy.write_text(text.replace("/bin/", f"{directory}/bin/").replace("cd /bin;", f"cd {directory}/bin;"))
    shutil.copy(source / "scp-ssh-wrapper.sh", tools)
    with _serving(Mirror(directory, _connected(station)), tools):
        said = subprocess.run(
            ["sh", PROGRAMS / "openssh_test_exec.sh", directory, tools, copy], capture_output=True, text=True,
            timeout=SCRIPT_SECONDS, check=False, stdin=subprocess.DEVNULL,
            env=station.environment | {"USER": USER, "PORT": str(station.sftp_port), "BUILDDIR": str(tools)},
        ).stdout.splitlines()  # fmt: skip
    assert said[-1:] == ["END"], f"{script} was not run to its end: {said[-3:]}"
    steps = [line.removeprefix("STEP ") for line in said if line.startswith("STEP ")]
    return steps, [line.removeprefix("FAIL ") for line in said if line.startswith("FAIL ")]


def _prepare(directory: Path, tools: Path, station: Station) -> None:
    (directory / "bin").mkdir(parents=True)
    tools.mkdir()
    for name in ("ls", "ln", "lsblk", "sh"):
        shutil.copy(shutil.which(name) or "/bin/ls", directory / "bin" / name)
    (directory / "data").write_bytes(os.urandom(60_003))
    for name in ("sftp", "scp", "ssh"):
        shutil.copy(PROGRAMS / "openssh_tool.sh", tools / name)
        (tools / name).chmod(0o755)
    home = station.directory
    settings = {
        "Hostname": "127.0.0.1", "Port": station.sftp_port, "User": USER, "IdentityFile": home / "id",
        "IdentitiesOnly": "yes", "UserKnownHostsFile": home / "known_hosts", "BatchMode": "yes",
    }  # fmt: skip
    text = "Host *\n" + "".join(f"\t{name}\t{value}\n" for name, value in settings.items())
    for place in (directory / "ssh_config", directory / "ssh_proxy", tools / "ssh_config"):
        place.write_text(text)


def _connected(station: Station) -> paramiko.SFTPClient:
    client = paramiko.SSHClient()
    client.load_host_keys(str(station.directory / "known_hosts"))
    client.connect("127.0.0.1", station.sftp_port, USER, key_filename=str(station.directory / "id"), allow_agent=False)
    return client.open_sftp()


@contextlib.contextmanager
def _serving(mirror: Mirror, tools: Path) -> Iterator[None]:
    """Until it ends, what is asked for in `ask` is done and answered in `answer`."""
    ask, answer = tools / "ask", tools / "answer"
    os.mkfifo(ask)
    os.mkfifo(answer)

    def serve() -> None:
        while (word := ask.read_text().strip()) != "end":
            try:
                (mirror.up if word == "up" else mirror.down)()
            finally:
                answer.write_text("done\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ask.write_text("end\n")
        thread.join()
