"""Errors as problem+json: one table, and nothing of the inside in it."""

import inspect
from typing import Any

import pytest
from sqlmodel import select

from gateway import errors
from gateway.domain.parties import Company
from gateway.errors import GatewayError
from gateway.parties import registry
from gateway.web import problems

from .world import World

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_has_a_status(kind: type[GatewayError]) -> None:
    """A kind that the table forgets is 500, which is right only for what no client can cause."""
    status = problems.status_of(kind("x"))
    assert (status == 500) == (kind in (GatewayError, errors.ConfigError))


def test_the_nearest_base_counts() -> None:
    """TooLarge is a Refused, and is 413 all the same; a kind made elsewhere is what its base is."""

    class Odd(errors.Conflict):
        pass

    assert problems.status_of(errors.TooLarge("x")) == 413
    assert problems.status_of(Odd("x")) == 409
    assert problems.status_of(errors.Unavailable("x", code="disk_full")) == 507


def test_only_facts_that_are_meant_for_callers_leave_the_house() -> None:
    """Facts are for the log: paths, digests and ids of others among them."""
    error = errors.Refused("no", document="doc_1", path="/var/lib", sha256="ab", permission="x")
    body = problems.answer(error).body
    assert b"doc_1" in body
    assert b"/var/lib" not in body
    assert b"sha256" not in body
    hidden = problems.answer(errors.ConfigError("/etc/gateway/key.p12: wrong password", where="/etc/gateway"))
    assert hidden.status_code == 500
    assert b"/etc" not in hidden.body


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_not_sent_as_json_is_415(gateway: World, kind: str) -> None:
    """`curl -d` without a header sends a form; "should be a valid dictionary" would not tell its user why."""
    answer = gateway.ask("POST", "/clients", "admin", content=b'{"name": "x"}', headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "media_type")
    assert "application/json" in answer.json()["detail"]


def test_a_body_that_is_missing_is_not_of_a_wrong_type(gateway: World) -> None:
    """The complement: nothing was sent, nothing has a type."""
    assert gateway.ask("POST", "/clients", "admin").status_code == 422


def test_a_rule_of_ours_is_said_in_our_words(gateway: World) -> None:
    """Pydantic puts its own "Value error" before them."""
    answer = gateway.ask("POST", "/subscriptions", "admin", json={})
    assert answer.json()["detail"] == "body: give contracts, or all"


def test_the_loser_of_a_race_is_told_to_ask_again(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database refuses after all is a conflict, not a defect."""

    def insert_twice(tx: Any, *_: Any) -> None:
        known = tx.exec(select(Company)).first()
        tx.add(Company(siren=known.siren, name="x", name_key="x", created_at=known.created_at))
        tx.flush()

    monkeypatch.setattr(registry, "create_company", insert_twice)
    body = {"siren": "552100554", "name": "X", "client": gateway.parties[0].client}
    answer = gateway.ask("POST", "/companies", "admin", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "UNIQUE" not in answer.text
