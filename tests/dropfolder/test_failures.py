"""What could not log in is kept, for a while, up to a number, and shown to the one client whom it concerns."""

import datetime as dt

import pytest
import sqlalchemy as sa
from sqlmodel import select

from gateway import clock
from gateway.domain.folders import FailedConnection, Folder
from gateway.domain.ledger import PersonalValue
from gateway.dropfolder import failures
from gateway.dropfolder.failures import Failure
from tests.dropfolder.world import World


def failed(address: str = "192.0.2.7", at: dt.datetime | None = None) -> Failure:
    """One of those that strangers make."""
    return Failure(at or clock.now(), "sftp", address, "root", "unknown_user", "no folder has this user name", "PuTTY")


def kept(world: World) -> list[FailedConnection]:
    return list(world.db.read(lambda tx: tx.exec(select(FailedConnection).order_by(FailedConnection.id)).all()))


def addresses(world: World) -> list[str | None]:
    return list(world.db.read(lambda tx: tx.exec(select(PersonalValue.value)).all()))


@pytest.mark.parametrize(
    ("networks", "address", "is_shown"),
    [
        (["192.0.2.0/24"], "192.0.2.7", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.7", True),
        (["2001:db8:1::/48"], "2001:db8:1::9", True),
        (["192.0.2.0/24"], "198.51.100.1", False),
        (None, "192.0.2.7", False),
        (["0.0.0.0/0"], "192.0.2.7", False),  # who lists everything would read of everybody
        (["192.0.2.0/24"], "", False),
    ],
)
def test_a_failure_belongs_to_the_client_that_lists_its_source(
    world: World, networks: list[str] | None, address: str, is_shown: bool
) -> None:
    """By a list that says something: one of half the Internet does not."""
    world.set(Folder, world.folder.id, networks=networks)
    world.folders.keep_failures([failed(address)])
    assert [row.client_id for row in kept(world)] == [world.client.id if is_shown else None]


def test_what_two_clients_have_listed_is_shown_to_neither(world: World) -> None:
    """A provider's address, shared: whose it was nobody knows."""
    other = World(world.db, world.blobs, user="other")
    for one in (world, other):
        one.set(Folder, one.folder.id, networks=["192.0.2.0/24"])
    world.folders.keep_failures([failed()])
    assert kept(world)[0].client_id is None


def test_what_is_old_goes_and_takes_its_addresses_along(world: World) -> None:
    """An address stays while another row names it; and so do those of sessions, which are of another kind."""
    world.visit().end()
    world.folders.record_now()
    old = clock.now() - dt.timedelta(days=31)
    world.folders.keep_failures([failed("192.0.2.1", old), failed("192.0.2.2", old), failed("192.0.2.2")])
    assert world.folders.forget_failures(clock.now(), 30) == 2
    assert len(kept(world)) == 1
    assert sorted(filter(None, addresses(world))) == ["192.0.2.2", "192.0.2.7"]


def test_a_day_holds_so_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers from everywhere must not fill the database."""
    monkeypatch.setattr(failures, "MOST_A_DAY", 3)
    assert world.folders.keep_failures([failed(f"192.0.2.{n}") for n in range(5)]) == 3
    assert world.folders.keep_failures([failed()]) == 0
    world.db.write(lambda tx: tx.execute(sa.update(FailedConnection).values(at=clock.now() - dt.timedelta(days=2))))
    assert world.folders.keep_failures([failed()]) == 1
