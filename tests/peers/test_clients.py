"""What clients really run, against an inbox of 5,000: each does a night's work, and is stopped in the middle of it."""

from pathlib import Path

import pytest

from tests.peers import requires
from tests.peers.clients import CLIENTS
from tests.peers.clients.driver import Driver
from tests.peers.clients.inbox import Stock, stocked
from tests.peers.clients.jsch import Jsch
from tests.peers.clients.page import PAGE, night, section
from tests.peers.clients.station import opened, wait_until
from tests.servers.test_failures import kept


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Published once for all workers of the run."""
    base = tmp_path_factory.getbasetemp()
    return stocked((base.parent if "popen" in base.name else base) / "clients-stock")


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name, marks=requires(*kind.needs)) for kind in CLIENTS])
def test_a_client_does_its_night_s_work(kind: type[Driver], stock: Stock, tmp_path: Path) -> None:
    """Nothing that it does fails, every byte arrives, and what it took away is received, and nothing else.

    docs/clients.md shows the commands that were run.
    """
    with opened(stock, tmp_path) as station:
        driver = kind(station)
        steps = night(driver)
        shown = section(driver, steps)
    assert [step.name for step in steps[1:]] == ["list", "leave", "resume", "pull", "rename", "delete"]
    assert shown in PAGE.read_text(), "the page shows other commands: make docs/clients.md"


@requires(*Jsch.needs)
def test_jsch_is_told_on_the_main_port_what_it_lacks(stock: Stock, tmp_path: Path) -> None:
    """All that it says itself is "Algorithm negotiation fail": the gateway keeps the words that help."""
    with opened(stock, tmp_path) as station:
        driver = Jsch(station)
        driver.port = station.sftp_port
        assert station.run(*driver.command("list"), may_fail=True) == ""
        wait_until(lambda: bool(kept(station.inbox)))
        (row,) = kept(station.inbox)
        assert not station.inbox.sessions()
    assert (row.protocol, row.code, row.banner) == ("sftp", "negotiation", "SSH-2.0-JSCH-0.1.54")
    for words in ("as host key", "rsa-sha2-256", "a permit of the legacy listener"):
        assert words in row.cause
