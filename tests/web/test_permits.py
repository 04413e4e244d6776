"""Permits of the legacy listener: by operators, with a reason, for a while, only where networks are listed."""

import datetime as dt
from typing import Any

import pytest

from gateway import clock

from .world import World


def asked(days: float = 30, **values: Any) -> dict[str, Any]:
    """The body of a permit that ends in so many days."""
    return {
        "reason": "JSch 0.1.54 until March",
        "ends_at": (clock.now() + dt.timedelta(days=days)).isoformat(),
    } | values


def bind(world: World) -> None:
    """Bind the first party's folder to a network."""
    own = world.parties[0]
    path = f"/clients/{own.client}/folders/{own.folder}/networks"
    assert world.ask("PUT", path, "operator", json={"networks": ["192.0.2.0/24"]}).status_code == 200


def test_a_permit_is_given_seen_and_ended(anywhere: World) -> None:
    """The client sees it and cannot give it; its life is in the ledger."""
    bind(anywhere)
    own = anywhere.parties[0]
    path = f"/clients/{own.client}/legacy-permits"
    made = anywhere.ask("POST", path, "operator", json=asked(folder=own.folder))
    assert (made.status_code, made.json()["folder"], made.json()["revoked_at"]) == (201, own.folder, None)
    assert anywhere.ask("POST", path, "own", json=asked()).status_code == 403
    assert [one["id"] for one in anywhere.ask("GET", path, "own").json()["items"]] == [made.json()["id"]]
    for _ in range(2):
        assert anywhere.ask("DELETE", f"{path}/{made.json()['id']}", "operator").status_code == 204
    assert anywhere.ask("GET", path, "own").json()["items"][0]["revoked_at"] is not None
    assert anywhere.ask("DELETE", f"{path}/lgp_{'0' * 26}", "operator").json()["code"] == "unknown_permit"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (asked(91), "permit_end"),
        (asked(-1), "permit_end"),
        (asked(reason=" "), "reason"),
        (asked(reason="x" * 501), "reason"),
        (asked(folder="fld_" + "0" * 26), "unknown_folder"),
    ],
)
def test_a_permit_has_a_reason_and_an_end_that_is_near(gateway: World, body: dict[str, Any], code: str) -> None:
    """Ninety days unless the settings say otherwise: what is weak must not be forgotten."""
    bind(gateway)
    answer = gateway.ask("POST", f"/clients/{gateway.parties[0].client}/legacy-permits", "operator", json=body)
    assert (answer.status_code in (404, 422), answer.json()["code"]) == (True, code)


def test_a_permit_without_networks_is_refused(gateway: World) -> None:
    """What is weak must be reachable from nowhere else."""
    answer = gateway.ask("POST", f"/clients/{gateway.parties[0].client}/legacy-permits", "operator", json=asked())
    assert (answer.status_code, answer.json()["code"]) == (422, "permit_networks")
    assert "settings networks" in answer.text
