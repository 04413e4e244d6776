"""The programs of others that tests run against ours: which they are (tests/peers.toml), and whether they are here.

A test names what it needs, wherever it stands:

    @requires("pdfsig", "openssl")
    def test_a_seal_is_valid_for_poppler_too(…): …
        subprocess.run([program("pdfsig"), …])

A peer that is missing skips the test and is named. With CI=true it fails the test, unless PEERS=optional (what
`make test` sets: a fresh machine has no peers). `make test-peers` installs them and runs all tests that name one.
`python -m tests.peers` prints the packages that are missing, one a line. What comes from npm and pip lies below
the virtual environment, with the hashes of tests/peers/node/package-lock.json and requirements-dev.lock.
"""

import functools
import glob
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

_LISTED: dict[str, dict[str, Any]] = tomllib.loads((Path(__file__).parent.parent / "peers.toml").read_text())
NODE_MODULES = Path(sys.prefix) / "node" / "node_modules"


def requires(*names: str) -> pytest.MarkDecorator:
    """Mark a test, or a module's `pytestmark`, as one that runs these peers. KeyError for one that is not listed."""
    for name in names:
        _LISTED[name]
    return pytest.mark.peer(*names)


@functools.cache
def find(name: str) -> str | None:
    """The path of a listed peer that answers here; None when it is missing."""
    peer = _LISTED[name]
    pattern = str(peer["program"]).replace("VENV", sys.prefix)
    path = max(glob.glob(pattern), default=None, key=_version) if "/" in pattern else shutil.which(pattern)
    if path is None or ("proof" in peer and not _answers([path, *peer["proof"]], str(peer.get("says", "")))):
        return None
    return path


def program(name: str) -> str:
    """The path of a peer that the test named in `requires`."""
    path = find(name)
    assert path is not None, f"{name} is not here: name it in requires()"
    return path


def require(name: str) -> None:
    """Skip or fail the running test when a peer is missing."""
    if find(name) is not None:
        return
    missing = (
        f"{name} is not here (package {_LISTED[name]['package'] or 'of npm or pip'}; `make test-peers` installs it)"
    )
    if os.environ.get("CI") == "true" and os.environ.get("PEERS") != "optional":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def missing_packages() -> list[str]:
    """What apt must install so that every listed peer answers."""
    return sorted({str(peer["package"]) for name, peer in _LISTED.items() if peer["package"] and find(name) is None})


def _version(path: str) -> list[int]:
    return [int(part) for part in path.split("/") if part.isdecimal()]


def _answers(command: list[str], word: str) -> bool:
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return done.returncode == 0 and word.encode() in done.stdout
