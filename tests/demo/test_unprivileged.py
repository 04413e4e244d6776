"""Root is left before anything runs: who runs instead, what they may write, what happens where it cannot be left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.demo import unprivileged
from gateway.demo.unprivileged import NOBODY, User, user_behind
from gateway.errors import ConfigError

ME = User(os.geteuid(), os.getegid())
MODULE = [sys.executable, "-m", "gateway.demo.unprivileged"]


def test_the_tests_themselves_do_not_run_as_root() -> None:
    """Whatever started pytest; otherwise every permission that they check would be worth nothing."""
    assert os.geteuid() != 0
    assert os.getegid() != 0


@pytest.mark.parametrize(
    ("environment", "user"),
    [
        ({}, NOBODY),
        ({"SUDO_UID": "1000", "SUDO_GID": "1001"}, User(1000, 1001)),
        ({"SUDO_UID": "0", "SUDO_GID": "0"}, NOBODY),
        ({"SUDO_UID": "1000", "SUDO_GID": "0"}, NOBODY),
        ({"SUDO_UID": "1000"}, NOBODY),
        ({"SUDO_UID": "-1", "SUDO_GID": "me"}, NOBODY),
    ],
)
def test_the_user_is_the_one_behind_sudo_and_never_root(environment: dict[str, str], user: User) -> None:
    """Files that `sudo make demo` leaves are the caller's to remove."""
    assert user_behind(environment) == user


def test_a_command_of_an_ordinary_user_runs_as_it_is() -> None:
    """Its status, its user, its home."""
    script = 'test "$(id -u)" = "$1" && test "$HOME" = "$2" && exit 7'
    done = subprocess.run([*MODULE, "sh", "-c", script, "sh", str(ME.uid), os.environ["HOME"]], check=False)
    assert done.returncode == 7


def test_a_process_that_is_not_root_goes_on() -> None:
    """`gateway demo` calls it first, whoever runs it."""
    unprivileged.reexec_if_root(["/bin/false"])


def test_a_new_directory_is_private_and_given(tmp_path: Path) -> None:
    """The demo's keys lie in it."""
    directory = tmp_path / "parent" / "demo"
    unprivileged.give(directory, ME)
    facts = directory.stat()
    assert (facts.st_uid, facts.st_mode & 0o777) == (ME.uid, 0o700)


def test_a_directory_of_the_user_s_own_is_taken_as_it_is(tmp_path: Path) -> None:
    """`make demo DIR=…` a second time goes on with what is there."""
    (tmp_path / "demo.json").write_text("{}")
    unprivileged.give(tmp_path, ME)
    assert (tmp_path / "demo.json").read_text() == "{}"


def test_a_directory_in_use_is_not_given_away(tmp_path: Path) -> None:
    """`DIR=/etc` by mistake must change nothing."""
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match="in use"):
        unprivileged.give(tmp_path, User(ME.uid + 1, ME.gid))
    assert tmp_path.stat().st_uid == ME.uid


@pytest.mark.parametrize("kind", ["file", "link"])
def test_only_a_directory_is_given(tmp_path: Path, kind: str) -> None:
    """A link could lead to a directory that is someone's."""
    place = tmp_path / "place"
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="not a directory"):
        unprivileged.give(place, ME)


def as_root_without_rights(statement: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a statement where the process takes itself for root, and the system does not: as in a tight container."""
    code = f"import os, runpy, sys\nos.geteuid = lambda: 0\n{statement}\n"
    identity = {"SUDO_UID": str(ME.uid), "SUDO_GID": str(ME.gid)}
    command = [sys.executable, "-c", code, "echo", "it ran"]
    environment = os.environ | identity | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


RUN_MODULE = "runpy.run_module('gateway.demo.unprivileged', run_name='__main__')"


def test_root_that_cannot_be_left_is_told_what_to_do() -> None:
    """A container may lack every capability that it takes; the command does not run."""
    done = as_root_without_rights(RUN_MODULE)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ordinary user" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_setpriv_root_is_told_what_to_do() -> None:
    """It belongs to every Debian; elsewhere it may be missing."""
    done = as_root_without_rights(f"import shutil; shutil.which = lambda *_, **__: None; {RUN_MODULE}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "install setpriv" in done.stderr


def test_a_start_that_is_refused_leaves_no_directory_behind(tmp_path: Path) -> None:
    """Each would leave one."""
    assert as_root_without_rights(RUN_MODULE, TMPDIR=str(tmp_path)).returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_the_private_directory_ends_with_the_process_that_root_became(tmp_path: Path) -> None:
    """It says by its number that it is the one; a process that inherits the variable removes nothing."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    code = (
        "import os, sys; from gateway.demo.unprivileged import reexec_if_root\n"
        "for pid, scratch in ((os.getppid(), sys.argv[2]), (os.getpid(), sys.argv[1])):\n"
        "    os.environ['GATEWAY_SCRATCH'] = f'{pid}:{scratch}'\n"
        "    reexec_if_root([])\n"
        "assert 'GATEWAY_SCRATCH' not in os.environ and os.path.isdir(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(mine), str(other)], check=True)
    assert list(tmp_path.iterdir()) == [other]
