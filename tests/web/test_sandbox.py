"""Test documents by API: made by worker processes, for who may, once under a key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.dropfolder.sandbox import HEAD
from gateway.errors import Unavailable
from gateway.sealing import trial
from gateway.store.database import Database, Transaction

from . import world as worlds
from .world import World

PATH = "/folder/test-documents"


def ask(world: World, token: str = "own", key: str = "", **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return world.ask("POST", PATH, token, json=body, headers=headers)


def blobs(world: World) -> int:
    """Files in the store, half-made ones too."""
    return sum(path.is_file() for path in world.parts.blobs._objects.parent.rglob("*"))  # type: ignore[attr-defined]


def test_a_client_has_them_made_sees_them_and_removes_them(anywhere: World) -> None:
    """With its own token, in its own folder; a real PDF from a worker."""
    answer = ask(anywhere, count=2, reason="before the first invoice")
    assert answer.status_code == 201, answer.text
    made = answer.json()["items"]
    assert len({one["number"] for one in made}) == 2 and all(one["name"].endswith("_TEST.pdf") for one in made)
    listed = anywhere.ask("GET", PATH, "own").json()
    assert listed["folder"] == anywhere.parties[0].folder
    assert [one["id"] for one in listed["items"]] == [one["id"] for one in reversed(made)]
    assert {(one["is_there"], one["bytes_read"], one["fully_read_at"]) for one in listed["items"]} == {(True, 0, None)}
    assert anywhere.ask("DELETE", f"{PATH}/{made[0]['id']}", "own").status_code == 204
    assert anywhere.ask("DELETE", f"{PATH}/{made[0]['id']}", "own").status_code == 404
    after = {one["id"]: one for one in anywhere.ask("GET", PATH, "own").json()["items"]}
    assert not after[made[0]["id"]]["is_there"] and after[made[0]["id"]]["removed_at"] is not None


def test_the_same_request_under_the_same_key_makes_them_once(gateway: World) -> None:
    """Nor are they made a second time and thrown away."""
    first = ask(gateway, key="k-1")
    kept = blobs(gateway)
    again = ask(gateway, key="k-1")
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    assert blobs(gateway) == kept
    assert ask(gateway, key="k-1", count=2).json()["code"] == "idempotency_mismatch"


def test_an_operator_names_the_folder_and_another_client_s_does_not_exist(gateway: World) -> None:
    """In the same words as a folder that nobody has."""
    own = gateway.parties[0].folder
    assert ask(gateway, "admin").json()["code"] == "folder_needed"
    (made,) = ask(gateway, "operator", folder=own).json()["items"]
    for folder in (own, "fol_unknown"):
        for answer in (
            ask(gateway, "foreign", folder=folder),
            gateway.ask("GET", PATH, "foreign", params={"folder": folder}),
            gateway.ask("DELETE", f"{PATH}/{made['id']}", "foreign", params={"folder": folder}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_folder")
    assert gateway.ask("DELETE", f"{PATH}/{made['id']}", "foreign").json()["code"] == "unknown_test_document"
    assert gateway.ask("GET", PATH, "foreign").json()["items"] == []


@pytest.mark.parametrize("body", [{"count": 0}, {"count": 101}, {"count": 21}, {"reason": "x" * 501}, {"more": 1}])
def test_what_is_too_much_or_unknown_is_refused_and_leaves_no_bytes(gateway: World, body: dict[str, Any]) -> None:
    before = blobs(gateway)
    assert ask(gateway, **body).status_code == 422
    assert blobs(gateway) == before


def test_what_is_refused_after_it_was_made_leaves_no_bytes(tmp_path: Path, sqlite: Database) -> None:
    """The quota is known for sure in the transaction only."""
    made = worlds.build(tmp_path, sqlite, folder={"sandbox_megabytes": 0.01})
    try:
        made.parties.append(made.write(lambda tx: worlds._party(tx, "Apuron PV 2", "534010764")))
        made.tokens["own"] = made.parties[0].token
        answer = ask(made)
        assert (answer.status_code, answer.json()["code"]) == (422, "quota")
        assert blobs(made) == 0
    finally:
        for part in (made.parts.pool, made.intake, made.sealers):
            part.close()


def test_bytes_stay_while_nobody_knows_whether_their_rows_are_there(
    gateway: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A COMMIT whose answer was lost: removed at once, their names could never be read."""
    kept, db = blobs(gateway), gateway.parts.db
    write = db.write

    def silent(step: Callable[[Transaction], object]) -> None:
        write(step)
        raise Unavailable("the database does not answer; try again")

    with monkeypatch.context() as patch:
        patch.setattr(db, "write", silent)
        assert ask(gateway).status_code == 503
    (one,) = gateway.ask("GET", PATH, "own").json()["items"]
    assert one["is_there"] and blobs(gateway) == kept + 1


def test_it_cannot_be_handed_in_as_a_document(gateway: World) -> None:
    """A client that sends it back, or an operator who takes it for one: its seller is nobody's issuer."""
    (made,) = ask(gateway).json()["items"]
    (path,) = [
        one for one in gateway.parts.blobs._objects.rglob("*")  # type: ignore[attr-defined]
        if one.is_file() and one.stat().st_size == made["size"] + HEAD
    ]  # fmt: skip
    content = path.read_bytes()[HEAD:]
    assert content.startswith(b"%PDF") and trial.WORD.encode() in content
    answer = gateway.ask("POST", "/documents", "admin", files={"file": ("a.pdf", content, "application/pdf")})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_seller"), answer.text
