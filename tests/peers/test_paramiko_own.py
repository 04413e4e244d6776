"""paramiko's own SFTP tests, as its sources have them, aimed at the gateway instead of at their own server.

They write, so they work in the sandbox. What cannot pass is listed with the reason; all else must.
"""

import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.peers import program, requires
from tests.peers.clients.inbox import Stock
from tests.peers.clients.libraries import PROGRAMS
from tests.peers.clients.station import opened
from tests.peers.test_clients import stock

__all__ = ["stock"]
pytestmark = requires("paramiko-sources")
CANNOT = {
    "test_append": "an upload is a whole file: nothing is appended to one",
    "test_seek_append": "the same",
    "test_readline_seek": "a file is opened to be read or to be created, never to be changed",
    "test_fsetstat": "the same",
    "test_setstat": "modes and times are the gateway's: setting them is accepted, and changes nothing",
    "testa_posix_rename": "nothing is ever overwritten by a rename",
    "test_symlink": "there are no symbolic links",
    "test_check": "no check-file extension: clients compare sizes, or hash what they have got",
}


def _outcomes(report: Path) -> dict[str, str]:
    """passed, failure, error or skipped, by the test's name."""
    cases = ET.parse(report).getroot().iter("testcase")
    return {case.attrib["name"]: next((part.tag for part in case), "passed") for case in cases}


@pytest.mark.parametrize("module", ["test_sftp.py", "test_sftp_big.py"])
def test_paramiko_s_own_tests_pass_but_for_those_that_cannot(module: str, stock: Stock, tmp_path: Path) -> None:
    """What paramiko expects of a server is what programs that are built on it expect."""
    with tarfile.open(program("paramiko-sources")) as archive:
        archive.extractall(tmp_path, [m for m in archive.getmembers() if "/tests/" in m.name], filter="data")
    (sources,) = tmp_path.glob("paramiko-*")
    (sources / "tests" / "conftest.py").write_text((PROGRAMS / "paramiko_conftest.py").read_text())
    with opened(stock, tmp_path) as station:
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", ".", "-W", "ignore",
             "-p", "no:cacheprovider", "-p", "no:xdist", "--junitxml", "report.xml", f"tests/{module}"],
            cwd=sources, capture_output=True, timeout=100, check=False, env=station.environment | {
                "PORT": str(station.sftp_port), "KEY": str(station.directory / "id"), "TMPDIR": str(tmp_path),
                "KNOWN_HOSTS": str(station.directory / "known_hosts"),
            },
        )  # fmt: skip
    outcomes = _outcomes(sources / "report.xml")
    assert len(outcomes) > 10, "they were not run"
    failed = {name for name, outcome in outcomes.items() if outcome in {"failure", "error"}}
    assert failed == CANNOT.keys() & outcomes.keys()
