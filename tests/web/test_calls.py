"""Changes happen once under a key, and only on what was read."""

import contextlib
import datetime as dt
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute
from sqlmodel import col, select

from gateway import clock
from gateway.domain.parties import Client, IdempotencyKey
from gateway.web import idempotency
from gateway.web.app import description

from .test_app import _filled, _request
from .world import World


def _clients(world: World) -> int:
    found: int = world.parts.db.read(lambda tx: tx.execute(sa.select(sa.func.count()).select_from(Client)).scalar_one())
    return found


def _add(world: World, name: str, key: str, token: str = "admin") -> Any:
    return world.ask("POST", "/clients", token, json={"name": name}, headers={"Idempotency-Key": key})


def test_a_repeated_post_gets_the_answer_it_got_and_nothing_happens_again(anywhere: World) -> None:
    """The ERP's connection broke after the commit."""
    before = _clients(anywhere)
    first, again = _add(anywhere, "Un", "k"), _add(anywhere, "Un", "k")
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert _clients(anywhere) == before + 1


def test_a_key_belongs_to_one_request_of_one_caller(anywhere: World) -> None:
    """Another body under it is a mistake of the caller; another caller's key is another key."""
    _add(anywhere, "Un", "k")
    other = _add(anywhere, "Deux", "k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    path = anywhere.ask("POST", "/companies", "admin", json={"name": "Un"}, headers={"Idempotency-Key": "k"})
    assert path.status_code == 422
    assert _add(anywhere, "Trois", "k", "operator").status_code == 201


def test_what_was_refused_may_be_asked_again_under_the_same_key(gateway: World) -> None:
    """It changed nothing: after the cause is mended the same request goes through."""
    body = {"siren": "552100554", "name": "X", "client": "cli_" + "0" * 26}
    headers = {"Idempotency-Key": "k"}
    assert gateway.ask("POST", "/companies", "admin", json=body, headers=headers).status_code == 404
    assert gateway.parts.db.read(lambda tx: tx.exec(select(IdempotencyKey)).all()) == []


def test_a_key_is_forgotten_after_a_day(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the same key is a new request; the rows go."""
    _add(gateway, "Un", "k")
    later = clock.now() + dt.timedelta(hours=24, minutes=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert _add(gateway, "Deux", "k").status_code == 201
    keys = gateway.parts.db.read(lambda tx: tx.exec(select(IdempotencyKey.created_at)).all())
    assert keys == [later]


def test_two_at_once_with_one_key_make_one_thing(anywhere: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked and found nothing before either writes: one of them must still get the other's answer."""
    both_looked, find = threading.Barrier(2), idempotency.find

    def find_together(*arguments: Any) -> Any:
        found = find(*arguments)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_looked.wait(1)  # SQLite has one writer: there the second looks after the first is done
        return found

    monkeypatch.setattr(idempotency, "find", find_together)
    path, answers = f"/clients/{anywhere.parties[0].client}/folders", []

    def one() -> None:
        headers = {"Idempotency-Key": "k"}
        answers.append(anywhere.ask("POST", path, "admin", json={"formats": ["xml"]}, headers=headers))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(anywhere.ask("GET", path, "admin").json()["items"]) == 2


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 201, "a\x7f"])
def test_a_key_that_is_none_is_refused(gateway: World, key: str) -> None:
    """Ignored, it would promise what is not kept."""
    answer = gateway.ask("POST", "/clients", "admin", json={"name": "X"},
                         headers=[(b"idempotency-key", key.encode("latin-1"))])  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key")


def test_the_secret_of_a_token_is_not_kept_for_repeats(gateway: World) -> None:
    """Only its hash may lie in the database, also for this day."""
    body, headers = {"name": "x", "scope": "operator:viewer"}, {"Idempotency-Key": "k"}
    first = gateway.ask("POST", "/tokens", "admin", json=body, headers=headers).json()
    again = gateway.ask("POST", "/tokens", "admin", json=body, headers=headers).json()
    assert first["token"].startswith("gw_")
    assert (again["token"], again["id"]) == (None, first["id"])
    kept = gateway.parts.db.read(lambda tx: tx.exec(select(IdempotencyKey.body)).one())
    assert first["token"] not in str(kept)


def test_every_operation_that_describes_if_match_refuses_a_stale_one_and_changes_nothing(gateway: World) -> None:
    """Optimistic locks (A2): the description and the behaviour are held together here."""
    conditional = 0
    paths: Any = description()["paths"]
    for route in gateway.app.routes:
        if not isinstance(route, APIRoute):
            continue
        for method in route.methods or ():
            names = [one["name"] for one in paths[route.path_format][method.lower()].get("parameters", ())]
            if "If-Match" not in names:
                continue
            conditional += 1
            path = route.path.removeprefix("/api/v1")
            request = _request(gateway, method, path)
            answer = gateway.ask(method, _filled(path, gateway), "admin", headers={"If-Match": '"stale"'}, **request)
            assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed"), (method, path)
    assert conditional == 10


def test_the_etag_of_what_was_read_lets_one_change_through(gateway: World) -> None:
    """The second of two operators who read the same must read again."""
    path = f"/clients/{gateway.parties[0].client}"
    tag = gateway.ask("GET", path, "admin").headers["etag"]
    first = gateway.ask("PATCH", path, "admin", json={"language": "en"}, headers={"If-Match": tag})
    second = gateway.ask("PATCH", path, "admin", json={"name": "Z"}, headers={"If-Match": tag})
    assert (first.status_code, second.status_code) == (200, 412)
    assert first.headers["etag"] != tag
    again = gateway.ask(
        "PATCH", path, "admin", json={"name": "Z"}, headers={"If-Match": f'"x", {first.headers["etag"]}'}
    )
    assert again.status_code == 200
    assert gateway.ask("GET", path, "admin").headers["etag"] == again.headers["etag"]
    names = gateway.parts.db.read(lambda tx: tx.exec(select(Client.name).where(col(Client.name) == "Z")).all())
    assert names == ["Z"]
