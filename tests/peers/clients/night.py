"""One night of a client: list 5,000, leave in the middle of a download, complete it, pull 200, rename, delete.

After each step the client must have what was published, byte for byte, and the ledger must say received of what was
fully read and taken out of the inbox, and of nothing else.
"""

from collections.abc import Iterator

from gateway.domain.folders import Entry
from tests.peers.clients.driver import Driver
from tests.peers.clients.inbox import ENTRIES, LARGE, PULLED
from tests.peers.clients.station import wait_until

CUT = 1 << 20  # bytes that have arrived when the client is killed


def work(driver: Driver) -> Iterator[str]:
    """Do it all; the name of each step once it is done and checked."""
    station, inbox = driver.station, driver.station.inbox
    before = inbox.entries()
    names = [entry.name for entry in before]
    (large,) = [entry.name for entry in before if entry.size == LARGE]
    listed = driver.listed()
    assert len(listed) == ENTRIES, (len(listed), sorted(set(names) ^ set(listed))[:6])
    assert set(listed) == set(names)
    yield "list"

    process = driver.begin(large)
    wait_until(lambda: station.here(large).exists() and station.here(large).stat().st_size >= CUT)
    station.kill(process)
    assert station.here(large).stat().st_size < LARGE, "it was too fast to be stopped"
    wait_until(station.everyone_left)
    entry = inbox.entry(large)
    assert entry.listed and entry.fully_read_at is None and entry.removed_at is None
    yield "leave"

    driver.resume(large)
    assert station.digest(large) == entry.sha256
    wait_until(station.everyone_left)
    # What was cut proves nothing over FTPS: bytes that left may never have arrived. Over SFTP the channel's window
    # may tell that they did, if the client was killed at a good moment; it need not.
    is_read = inbox.entry(large).fully_read_at is not None
    assert is_read or driver.resumes
    assert not is_read or driver.protocol == "SFTP" or not driver.resumes
    yield "resume"

    wanted = before[:PULLED]
    driver.pull([entry.name for entry in wanted])
    assert {entry.name: station.digest(entry.name) for entry in wanted} == {e.name: e.sha256 for e in wanted}
    wait_until(station.everyone_left)
    assert not any(entry.received_at for entry in inbox.entries())
    yield "pull"

    renamed, other = before[0].name, before[PULLED + 1].name
    for name in (renamed, other):  # one that was read, one that was not
        driver.rename(name, f"{name}.done")
    listed = driver.listed()
    assert f"{renamed}.done" not in listed and f"{other}.done" in listed
    assert _received(inbox.entries()) == {renamed}
    yield "rename"

    driver.remove([*(entry.name for entry in wanted[1:]), large])
    wait_until(station.everyone_left)
    received = {entry.name for entry in wanted} | ({large} if is_read else set())
    assert _received(inbox.entries()) == received
    left = driver.listed()
    assert len(left) == ENTRIES - PULLED - 1
    yield "delete"


def _received(entries: list[Entry]) -> set[str]:
    return {entry.name for entry in entries if entry.received_at is not None}
