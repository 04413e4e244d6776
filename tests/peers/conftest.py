"""Every test in this folder names the peers that it runs, or `make test-peers` would not run it."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    unnamed = [item.nodeid for item in items if here in item.path.parents and item.get_closest_marker("peer") is None]
    if unnamed:
        raise pytest.UsageError(f"name the peers with @requires(…): {', '.join(unnamed)}")
