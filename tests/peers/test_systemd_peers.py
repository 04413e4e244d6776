"""systemd/ as systemd itself reads it: the unit verifies clean, and its exposure stays low."""

import subprocess
from pathlib import Path

import pytest

from tests.peers import program, requires

pytestmark = requires("systemd-analyze")

UNIT = Path(__file__).parents[2] / "systemd" / "gateway.service"
EXPOSURE = 15  # tenths


def analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [program("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit, with a command that exists on this machine."""
    text = UNIT.read_text()
    assert "/opt/gateway/.venv/bin/gateway" in text
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/gateway/.venv/bin/gateway", "/bin/true"))
    return unit


def test_the_unit_verifies_clean(installed: Path) -> None:
    """An unknown key is only warned of by systemd at boot, and then does not protect."""
    done = analyze("verify", "--man=no", installed)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_a_wrong_key_is_found(installed: Path) -> None:
    """The test above can fail."""
    installed.write_text(installed.read_text().replace("ProtectClock=", "ProtectClocks="))
    assert "ProtectClocks" in analyze("verify", "--man=no", installed).stderr


def test_the_exposure_is_at_most_1_5(installed: Path) -> None:
    """`systemd-analyze security`: 0 is locked in, 10 is a bare service of root's."""
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", installed)
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


def test_an_open_unit_is_over_the_threshold(installed: Path) -> None:
    """The test above can fail."""
    installed.write_text(installed.read_text().replace("SystemCallFilter=", "#SystemCallFilter="))
    assert analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", installed).returncode != 0
