"""The locks: every version and every hash, and no address of an index."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


def pinned(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", (ROOT / name).read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index(name: str) -> None:
    """Where packages come from is the machine's matter: a mirror, a proxy, the public index."""
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", (ROOT / name).read_text())


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_of_a_lock_has_a_version_and_a_hash(name: str) -> None:
    """`pip install --require-hashes` would refuse the file, on a fresh machine only."""
    requirements = (ROOT / name).read_text().replace("\\\n", "").splitlines()
    assert requirements
    assert [line for line in requirements if "==" not in line or "--hash=sha256:" not in line] == []


def test_tests_run_on_the_versions_that_are_delivered() -> None:
    """`make lock` constrains the second lock by the first."""
    runtime, development = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert runtime.items() <= development.items()
    assert "asyncssh" in runtime
