"""docs/clients.md is made by `make docs/clients.md`, from a run of all clients."""

from tests.peers.clients import CLIENTS
from tests.peers.clients.page import PAGE, clients_of


def test_the_page_tells_of_the_clients_that_the_tests_run_and_of_no_other() -> None:
    """A client that comes or goes is a new run; versions and times may be those of another machine."""
    assert clients_of(PAGE.read_text()) == [(kind.name, kind.protocol) for kind in CLIENTS]


def test_the_page_s_blocks_begin_and_end() -> None:
    """A fence with more behind it than one word ends nothing (CommonMark 4.5): headings would vanish into a block."""
    fences = [line for line in PAGE.read_text().splitlines() if line.startswith("```")]
    assert all(fence in ("```", "```sh") for fence in fences) and len(fences) % 2 == 0
