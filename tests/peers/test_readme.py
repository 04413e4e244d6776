"""README.md, executed: what a stranger types, in its order, comes to its end.

Every `sh` block between "From nothing to the first invoice" and "Running it" runs in one shell, as written; only ports
are others, and what it needs of the checkout (`make setup`) is here already. A day is over before "Nothing missing".
"""

import datetime as dt
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from gateway import clock, config
from gateway.domain.folders import Folder, FolderEvent
from gateway.store import state
from gateway.store.database import Database
from tests.peers import requires

_README = Path(__file__).parent.parent.parent / "README.md"
_FIRST, _AFTER = "From nothing to the first invoice", "Running it"
_BEGINS = re.compile(r"^(make setup && )?\. \.venv/bin/activate( && )?", re.MULTILINE)
_PORTS = {"sftp": 2022, "ftps": 2121, "http": 8080}
_PUBLISHES = re.compile(r"submit|again|intake/")
_READING_ON = 2.5  # seconds: what was handed in is sealed, and its second is over (see dropfolder/index.py)
DAY = dt.timedelta(days=1)


def blocks() -> list[tuple[str, str]]:
    """The heading above each block, and the block."""
    text = _README.read_text("utf-8")
    text = text[text.index(f"## {_FIRST}\n") : text.index(f"\n## {_AFTER}\n")]
    found, heading = [], ""
    for match in re.finditer(
        r"^#{2,3} (?P<heading>[^\n]+)$|^```sh\n(?P<block>.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        heading = match["heading"] or heading
        if match["block"]:
            found.append((heading, _BEGINS.sub("", match["block"])))
    return found


class Terminal:
    """A shell that ends at the first command that fails, and what it said."""

    def __init__(self, home: Path) -> None:
        self.said = ""
        self._home = home
        # Without `.venv/bin/activate`: its programs and Python's are first on the path.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", **_listen(dict.fromkeys(_PORTS, 0))}
        self._shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=home,
            env=environment,
        )

    def type(self, block: str) -> str:
        """What the block said; AssertionError with all of it when a command of it failed."""
        assert self._shell.stdin is not None and self._shell.stdout is not None
        script = self._home / "block.sh"
        script.write_text(f"set -v\n{block}")
        self._shell.stdin.write(f". {script} < /dev/null\necho; echo '=== done'\n")
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            if line == "=== done\n":
                self.said += said
                return said
            said += line
        raise AssertionError(said)

    def close(self) -> None:
        """End it."""
        self._shell.communicate()


def _listen(ports: dict[str, int]) -> dict[str, str]:
    return {f"GATEWAY__{name.upper()}__LISTEN": f"127.0.0.1:{port}" for name, port in ports.items()}


@contextmanager
def served(home: Path, ports: dict[str, int]) -> Iterator[dict[str, int]]:
    """`gw serve` in the other terminal, on these ports (0: any); those that it got."""
    with (home / "serve.log").open("w+") as log:
        command = [sys.executable, "-m", "gateway", "--config", str(home / "gw/gateway.toml"), "serve"]
        daemon = subprocess.Popen(command, env={**os.environ, **_listen(ports)}, stdout=log, stderr=log)
        try:
            yield _ready(daemon, home / "serve.log")
        finally:
            daemon.terminate()
            assert daemon.wait(60) == 0


def _ready(daemon: "subprocess.Popen[bytes]", log: Path) -> dict[str, int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and daemon.poll() is None:
        for line in log.read_text().splitlines():
            if '"daemon.ready"' in line:
                told = json.loads(line)
                return {"sftp": told["sftp"][1], "ftps": told["ftps"][0][1], "http": told["http"][1]}
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def days_later(home: Path) -> None:
    """What happened until now was two days ago."""
    db = Database.open(state.database_url(config.load(home / "gw/gateway.toml").store))
    db.write(lambda tx: tx.execute(sa.update(Folder).values(created_at=clock.now() - 3 * DAY)))
    db.write(lambda tx: tx.execute(sa.update(FolderEvent).values(at=clock.now() - 2 * DAY)))
    db.close()


@requires("sftp", "ssh-keygen", "curl", "openssl")
def test_what_a_stranger_types_works_in_its_order(tmp_path: Path) -> None:
    """A variable that was never made, a command that asks, a word that the program does not know: each ends it."""
    terminal, todo = Terminal(tmp_path), blocks()
    _, beginning = todo.pop(0)
    assert beginning.rstrip().splitlines()[-1].startswith("gw serve")
    terminal.type(beginning[: beginning.index("gw serve")])
    before = [heading for heading, _ in todo].index("Nothing missing")
    with served(tmp_path, dict.fromkeys(_PORTS, 0)) as ports:
        for _, block in todo[:before]:
            terminal.type(_on(ports, block))
            if _PUBLISHES.search(block):
                time.sleep(_READING_ON)
    days_later(tmp_path)
    with served(tmp_path, ports):
        time.sleep(_READING_ON)
        for _, block in todo[before:]:
            terminal.type(_on(ports, block))
    terminal.close()
    documents = {path.name for path in (tmp_path / "gw/here").iterdir()}
    assert sum(name.endswith("_ORIG.pdf") for name in documents) == 5  # four samples, and the billing system's
    assert any("_TEST-" in name for name in documents)
    assert "_ORIG-2.pdf" in terminal.said and terminal.said.count("\nnothing is missing\n") == 2
    assert terminal.said.count("CMS Verification successful") >= 2  # yesterday's may be made in some minutes
    assert not re.search(r"^(gateway:|no number before)", terminal.said, re.MULTILINE)


def _on(ports: dict[str, int], block: str) -> str:
    for name, port in ports.items():
        block = re.sub(rf"\b{_PORTS[name]}\b", str(port), block)
    return block
