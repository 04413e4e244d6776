"""What the log shows, and what it must not."""

import io
import sys
from typing import Any, Literal

import pytest

from gateway import log
from gateway.config import LogSettings


def _line(form: Literal["console", "json"], **event: Any) -> str:
    line: Any = {"level": "info", "_record": None, "_from_structlog": True} | event
    for processor in log._renderers(LogSettings(format=form)):
        line = processor(None, "info", line)
    return str(line)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # no colours, wherever the test runs


def test_what_came_from_outside_cannot_steer_the_terminal() -> None:
    """A peer that never logged in chooses its banner: it could clear the screen, or write lines of its own."""
    line = _line("console", event="login.failed", banner="SSH\x1b[2J\x9b31m\u202e", user="été\nforged")
    assert line.isprintable()
    assert "2J" in line
    assert "été" in line


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_says_where_and_shows_no_variables(form: Literal["console", "json"]) -> None:
    """The frames of a failed request hold its token; of a signature, the key's password."""

    def authenticate(secret: str) -> None:
        raise ValueError("no database")

    try:
        authenticate("gw_" + "x" * 20)
    except ValueError:
        line = _line(form, event="request.failed", exc_info=sys.exc_info())
    assert "authenticate" in line
    assert "no database" in line
    assert "gw_" + "x" * 20 not in line
