"""The demo's directory: made once, found again, and never somebody else's."""

from pathlib import Path

import pytest

from gateway.demo import world
from gateway.errors import ConfigError


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    """Its gateway.toml may be the settings of a real gateway."""
    (tmp_path / "gateway.toml").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        world.make(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.toml"]
    assert (tmp_path / "gateway.toml").read_text() == "mine"


def test_the_same_directory_again_is_the_same_world(tmp_path: Path) -> None:
    """Keys and ports stay, so that what clients know goes on to work."""
    first = world.make(tmp_path / "demo", None)
    settings, key = first.config.read_bytes(), first.private_key("fonderie").read_bytes()
    again = world.make(tmp_path / "demo", None)
    assert (again.config.read_bytes(), again.private_key("fonderie").read_bytes()) == (settings, key)
