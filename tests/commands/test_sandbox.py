"""`gateway sandbox`: test documents for a client, by its name."""

import json
from pathlib import Path

from tests.commands.test_documents import NAME, opened
from tests.journey import declare
from tests.test_cli import Gateway, gateway, settings_file

__all__ = ["gateway", "settings_file"]


def test_they_are_made_listed_and_removed(gateway: Gateway, settings_file: Path) -> None:
    """What an operator does while a client's integrator is on the telephone."""
    with opened(settings_file) as (db, _):
        declare(db, formats=("pdf", "xml"))
    assert gateway("sandbox", "list", NAME)[:2] == (0, "no test document yet: gateway sandbox make CLIENT\n")
    code, out, err = gateway("sandbox", "make", NAME, "--count", "2", "--reason", "first try", "--json")
    made = json.loads(out)
    assert (code, [one["format"] for one in made]) == (0, ["pdf", "xml"] * 2), err
    assert gateway("sandbox", "remove", NAME, made[0]["id"])[0] == 0
    code, out, err = gateway("sandbox", "list", NAME, "--json")
    assert [one["is_there"] for one in json.loads(out)] == [True, True, True, False], err
    code, out, err = gateway("sandbox", "remove", NAME, made[0]["id"])
    assert (code, err) == (1, "gateway: no such test document\n")
    assert gateway("sandbox", "make", "nobody")[0] == 1
    assert gateway("sandbox", "make", NAME, "--count", "0")[0] == 2
