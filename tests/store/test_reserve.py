"""Space is kept while there is plenty, and given back to the gateway when there is none."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.store import reserve
from gateway.store.reserve import Reserve

KILO = 1000
SIZE = 4096


class Disk:
    """A disk of a million bytes; the file of the reserve takes its share of what is free."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / reserve.FILE
        self.others = 0

    def space(self, _directory: Path) -> tuple[int, int]:
        held = self.file.stat().st_blocks * 512 if self.file.exists() else 0
        return KILO * KILO, KILO * KILO - self.others - held


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def reserve_on(disk: Disk, floor_percent: float = 5, size: int = SIZE) -> Reserve:
    return Reserve(disk.file.parent, floor_percent, size, disk.space)


def test_the_space_is_really_taken_and_ours_alone(disk: Disk) -> None:
    """Not a file with a hole: the blocks are there."""
    assert reserve_on(disk).look() is False
    found = disk.file.stat()
    assert (found.st_size, found.st_mode & 0o777) == (SIZE, 0o600)
    assert found.st_blocks * 512 >= SIZE


def test_it_is_given_back_when_less_is_left_than_it_holds(disk: Disk) -> None:
    """Not at the floor already: whoever fills the disk would only fill this too."""
    kept = reserve_on(disk)
    kept.look()
    disk.others = 970 * KILO
    assert kept.look() is True
    assert disk.file.exists()
    disk.others = KILO * KILO - SIZE - KILO  # its own blocks are taken too
    with capture_logs() as logs:
        assert kept.look() is True
        assert kept.look() is True
    assert [entry["event"] for entry in logs] == ["reserve.released"]
    assert not disk.file.exists()


def test_what_was_let_go_counts_as_used(disk: Disk) -> None:
    """On a small disk it would lift the free space over the floor, and the intake would fill it."""
    kept = reserve_on(disk, floor_percent=0.3)
    kept.look()
    disk.others = KILO * KILO - SIZE - KILO
    assert kept.look() is True
    assert disk.space(disk.file)[1] > 3 * KILO
    assert kept.look() is True
    disk.others -= 20 * KILO
    assert kept.look() is False
    assert disk.file.exists()


def test_it_comes_back_once_there_is_plenty(disk: Disk) -> None:
    """At twice the floor, so that it does not come and go."""
    disk.others = 910 * KILO
    kept = reserve_on(disk)
    assert kept.look() is False
    assert not disk.file.exists()
    disk.others = 800 * KILO
    assert kept.look() is False
    assert disk.file.exists()


def test_a_small_disk_is_not_filled_by_it(disk: Disk) -> None:
    assert reserve_on(disk, floor_percent=0, size=400 * KILO).look() is False
    assert not disk.file.exists()


def test_one_that_a_killed_process_left_half_is_made_whole(disk: Disk) -> None:
    disk.file.write_bytes(b"half")
    reserve_on(disk).look()
    assert disk.file.stat().st_size == SIZE


def test_nothing_is_kept_where_the_settings_say_so(disk: Disk) -> None:
    assert reserve_on(disk, size=0).look() is False
    assert not disk.file.exists()


def test_a_file_system_that_gives_no_space_is_said_and_asked_again(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    kept = reserve_on(disk)
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr("gateway.store.reserve.os.posix_fallocate", refuse)
        assert kept.look() is False
    assert [entry["event"] for entry in logs] == ["reserve.not_taken"]
    assert not disk.file.exists()
    kept.look()
    assert disk.file.exists()


def test_the_real_disk_is_asked_by_itself(tmp_path: Path) -> None:
    total, free = reserve.space_of(tmp_path)
    assert 0 < free < total
