"""What happens to a test when a program of others is missing."""

import pytest

from tests import peers

GHOST = {"package": "ghosts", "program": "no-such-program"}


@pytest.fixture
def ghost(monkeypatch: pytest.MonkeyPatch) -> str:
    """A listed peer that no machine has."""
    monkeypatch.setitem(peers._LISTED, "ghost", GHOST)
    return "ghost"


@pytest.mark.parametrize(
    ("ci", "optional", "outcome"),
    [
        ("", "", pytest.skip.Exception),
        ("true", "optional", pytest.skip.Exception),
        ("true", "", pytest.fail.Exception),
    ],
)
def test_a_missing_peer_is_named_and_fails_in_ci_only(
    ghost: str, monkeypatch: pytest.MonkeyPatch, ci: str, optional: str, outcome: type[BaseException]
) -> None:
    """A green run in CI means that every listed peer was run; a fresh machine still passes `make test`."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PEERS", optional)
    with pytest.raises(outcome, match=r"ghost is not here \(package ghosts"):
        peers.require(ghost)
    assert "ghosts" in peers.missing_packages()


def test_a_peer_that_is_not_listed_is_an_error_at_once() -> None:
    """It would be skipped everywhere and installed nowhere."""
    with pytest.raises(KeyError):
        peers.requires("no-such-peer")


def test_of_several_versions_the_newest_counts() -> None:
    """Debian keeps PostgreSQL's old releases beside the new one; 9 is older than 15."""
    assert peers._version("/usr/lib/postgresql/15/bin/postgres") > peers._version("/usr/lib/postgresql/9/bin/postgres")
