"""Who may do what: every route against every role, one's own things and another's."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from gateway.access import PERMISSIONS, Role
from gateway.web.app import PUBLIC
from gateway.web.login import needs_of

from .world import World

ROLES = {"admin": Role.ADMIN, "operator": Role.OPERATOR, "viewer": Role.VIEWER, "auditor": Role.AUDITOR,
         "own": Role.CLIENT, "foreign": Role.CLIENT}  # fmt: skip

# A body that each changing route accepts. {…} in a path is filled from the first party.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/documents/{document_id}/accept"): {"reason": "seen"},
    ("POST", "/documents/{document_id}/reject"): {"reason": "seen"},
    ("POST", "/documents/{document_id}/replace"): {"reason": "seen"},
    ("POST", "/documents/{document_id}/withdraw"): {"reason": "wrong recipient"},
    ("POST", "/documents/{document_id}/send-again"): {"reason": "lost"},
    ("POST", "/deliveries/{delivery_id}/acknowledge"): None,
    ("POST", "/deliveries/{delivery_id}/retry"): None,
    ("POST", "/deliveries/{delivery_id}/cancel"): {"reason": "no"},
    ("POST", "/deliveries/{delivery_id}/release"): None,
    ("POST", "/clients"): {"name": "Nouveau"},
    ("PATCH", "/clients/{client_id}"): {"language": "en"},
    ("POST", "/companies"): {"siren": "552100554", "name": "Autre", "client": "{client_id}"},
    ("POST", "/contracts"): {"number": "CARD-I-9", "type": "CARD_I", "siren": "534010764"},
    ("PUT", "/contracts/{contract_id}/original-channel"): {"channel": "platform", "from": "2027-01-01"},
    ("POST", "/subscriptions"): {"contracts": ["{contract_id}"], "client": "{client_id}"},
    ("POST", "/subscriptions/{subscription_id}/end"): {},
    ("POST", "/subscriptions/end-future"): {"client": "{client_id}"},
    ("PUT", "/clients/{client_id}/delivery-settings"): {"folder": {"enabled": True}},
    ("POST", "/clients/{client_id}/mailboxes/{mailbox_id}/confirm"): None,
    ("POST", "/clients/{client_id}/folders"): {"user_name": "second"},
    ("PUT", "/clients/{client_id}/folders/{folder_id}/networks"): {"networks": ["192.0.2.0/24"]},
    ("PATCH", "/clients/{client_id}/folders/{folder_id}"): {"inbox_days": 30},
    ("POST", "/clients/{client_id}/keys"): {"public_key": "ssh-ed25519 AAAA", "label": "x"},
    ("POST", "/clients/{client_id}/passwords"): {"label": "x"},
    ("POST", "/clients/{client_id}/legacy-permits"): {"reason": "x", "ends_at": "2026-12-01T00:00:00Z"},
    ("PUT", "/clients/{client_id}/folders/{folder_id}/path-map"): {"paths": [{"from": "/out", "to": "/inbox"}]},
    ("PUT", "/clients/{client_id}/dry-run"): {"dry_run": True},
    ("PUT", "/imports/clients"): {"dry_run": True, "lines": [{"client": "Nouveau", "user_name": "nouveau"}]},
    ("PUT", "/imports/history"): {
        "lines": [{"user_name": "nobody", "name": "a.pdf", "mtime": 1, "sha256": "0" * 64, "size": 1}]
    },
    ("POST", "/imports/history/bytes"): None,
    ("POST", "/imports/history/withdraw"): {"reason": "wrong folder", "lines": []},
    ("POST", "/folder/again"): {"folder": "{folder_id}", "first": 1, "reason": "lost"},
    ("POST", "/folder/test-documents"): {"folder": "{folder_id}"},
    ("POST", "/tokens"): {"name": "x", "scope": "operator:viewer"},
}


def _routes(world: World) -> Iterator[tuple[str, str, APIRoute]]:
    for route in world.app.routes:
        if isinstance(route, APIRoute) and route.path not in PUBLIC:
            for method in route.methods or ():
                yield method, route.path.removeprefix("/api/v1"), route


def _filled(text: Any, world: World) -> Any:
    party = world.parties[0]
    ids = {
        "document_id": party.document,
        "delivery_id": party.delivery,
        "client_id": party.client,
        "company_id": party.company,
        "contract_id": party.contract,
        "subscription_id": party.subscription,
        "mailbox_id": party.mailbox,
        "folder_id": party.folder,
        "key_id": party.key,
        "password_id": party.password,
        "permit_id": "lgp_" + "0" * 26,
        "day": "2026-11-24",
        "test_id": "sbx_" + "0" * 26,
        "token_id": world.token_ids["viewer"],
    }
    if isinstance(text, dict):
        return {name: _filled(value, world) for name, value in text.items()}
    if isinstance(text, list):
        return [_filled(value, world) for value in text]
    return text.format(**ids) if isinstance(text, str) else text


def _request(world: World, method: str, path: str) -> dict[str, Any]:
    if (method, path) == ("POST", "/documents"):
        return {"files": {"file": ("a.pdf", b"not a PDF", "application/pdf")}}
    body = BODIES.get((method, path))
    return {} if body is None else {"json": _filled(body, world)}


def test_every_route_names_a_permission_or_is_open_to_all_on_purpose(gateway: World) -> None:
    """Deny by default: a new endpoint that nobody thought about must not be open."""
    open_ones = {getattr(route, "path", "") for route in gateway.app.routes if needs_of(route) is None}
    assert open_ones == set(PUBLIC)


def test_every_changing_route_is_in_the_matrix(gateway: World) -> None:
    """What is not in the table below would not be tested."""
    changing = {(method, path) for method, path, _ in _routes(gateway) if method in ("POST", "PUT", "PATCH")}
    assert changing == set(BODIES) | {("POST", "/documents")}


@pytest.mark.parametrize("role", [None, *ROLES])
def test_each_route_lets_in_exactly_the_roles_that_the_table_names(gateway: World, role: str | None) -> None:
    """401 without a token, 403 without the permission; with it, anything else: the request itself is then judged."""
    for method, path, route in _routes(gateway):
        answer = gateway.ask(method, _filled(path, gateway), role, **_request(gateway, method, path))
        needs = needs_of(route)
        assert needs is not None
        if role is None:
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
            assert answer.headers["www-authenticate"] == "Bearer"
            continue
        may = needs.permission in PERMISSIONS[ROLES[role]]
        may = may and not (needs.operators_only and ROLES[role] is Role.CLIENT)
        assert (answer.status_code == 403) == (not may), (method, path, answer.text)
        assert answer.status_code != 401, (method, path)
        assert answer.status_code < 500, (method, path, answer.text)


@pytest.mark.parametrize("role", ["admin", "own"])
def test_nul_anywhere_is_the_callers_mistake(anywhere: World, role: str) -> None:
    """No text of PostgreSQL holds it: whatever is asked with it is refused or not there, and no error of ours."""
    for method, path, _ in _routes(anywhere):
        request = _request(anywhere, method, path)
        answers = [
            anywhere.ask(method, re.sub("{[a-z_]+}", "%00", path), role, **request),
            anywhere.ask(method, _filled(path, anywhere), role, params={"folder": "\0", "client": "\0"}, **request),
        ]
        for name in request.get("json", ()):
            of_body = {**request["json"], name: "\0"}
            answers.append(anywhere.ask(method, _filled(path, anywhere), role, json=of_body))
        assert [one.text for one in answers if one.status_code >= 500] == [], (method, path)


@pytest.mark.parametrize("instant", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_an_instant_that_no_calendar_has_is_refused(gateway: World, instant: str) -> None:
    """In UTC it lies before the first year, or behind the last."""
    for path, body in {"passwords": {"label": "x"}, "keys": BODIES["POST", "/clients/{client_id}/keys"]}.items():
        where = f"/clients/{gateway.parties[0].client}/{path}"
        answer = gateway.ask("POST", where, "admin", json={**body, "expires_at": instant})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert "no calendar has this instant" in answer.text


def test_what_is_another_clients_is_answered_as_what_does_not_exist(gateway: World) -> None:
    """IDOR: the whole matrix once with a foreign client's token, and once with ids that nobody has."""
    for method, path, route in _routes(gateway):
        needs = needs_of(route)
        assert needs is not None
        if needs.permission not in PERMISSIONS[Role.CLIENT] or needs.operators_only or "{" not in path:
            continue
        request = _request(gateway, method, path)
        foreign = gateway.ask(method, _filled(path, gateway), "foreign", **request)
        kinds = {"document": "doc", "delivery": "dlv", "client": "cli", "company": "com", "contract": "con",
                 "subscription": "sub", "mailbox": "mbx", "key": "key", "password": "fpw", "folder": "fld",
                 "test": "sbx"}  # fmt: skip
        nobody = {"day": "2026-11-24"} | {f"{kind}_id": f"{prefix}_{'0' * 26}" for kind, prefix in kinds.items()}
        unknown = gateway.ask(method, path.format(**nobody), "foreign", **request)
        assert foreign.status_code == 404, (method, path, foreign.text)
        assert _bare(foreign.json()) == _bare(unknown.json()), (method, path)


def _bare(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: problem[name] for name in ("status", "code", "detail", "title")}


@pytest.mark.parametrize(
    "path", ["/documents", "/deliveries", "/clients", "/companies", "/contracts", "/subscriptions"]
)
def test_a_client_lists_its_own_things_only(gateway: World, path: str) -> None:
    """Also when it filters by the other's id."""
    other = gateway.parties[1]
    mine = gateway.ask("GET", path, "own").json()["items"]
    assert mine
    text = gateway.ask("GET", path, "own").text
    for secret in (other.client, other.company, other.contract, other.document, other.siren, other.mailbox):
        assert secret not in text
    for name, value in (("client", other.client), ("siren", other.siren), ("contract", other.number)):
        answer = gateway.ask("GET", path, "own", params={name: value})
        assert answer.status_code == 422 or answer.json()["items"] == [], (name, answer.text)


def test_a_client_does_not_see_what_waits_in_quarantine_or_was_withdrawn(gateway: World) -> None:
    """Wrong recipient: once withdrawn it must be gone for it, by every door."""
    own = gateway.parties[0]
    assert gateway.ask("GET", f"/documents/{own.quarantined}", "own").status_code == 404
    assert [one["id"] for one in gateway.ask("GET", "/documents", "own").json()["items"]] == [own.document]
    assert gateway.ask("POST", f"/documents/{own.document}/withdraw", "admin", json={"reason": "x"}).status_code == 200
    for path in ("", "/content"):
        assert gateway.ask("GET", f"/documents/{own.document}{path}", "own").status_code == 404
    assert gateway.ask("GET", f"/deliveries/{own.delivery}", "own").status_code == 404
    assert gateway.ask("GET", "/documents", "own").json()["items"] == []
    assert gateway.ask("GET", "/deliveries", "own").json()["items"] == []


def test_the_operators_status_is_not_for_clients(gateway: World) -> None:
    """It tells of everybody's queue."""
    assert gateway.ask("GET", "/status", "own").status_code == 403


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "bearer x", "Bearer gw_" + "x" * 43, "Bearer \xe9"]
)
def test_a_header_that_holds_no_valid_token_is_401(gateway: World, header: str) -> None:
    """Unknown, malformed and missing are one answer."""
    answer = gateway.ask("GET", "/status", headers=[(b"authorization", header.encode("latin-1"))])
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_a_revoked_token_is_refused_at_once(gateway: World) -> None:
    """A leaked token must be worthless the moment it is revoked."""
    assert gateway.ask("GET", "/status", "viewer").status_code == 200
    assert gateway.ask("DELETE", f"/tokens/{gateway.token_ids['viewer']}", "admin").status_code == 204
    assert gateway.ask("GET", "/status", "viewer").status_code == 401


def test_tcp_cannot_claim_to_be_the_unix_socket(gateway: World) -> None:
    """The owner of the socket is an administrator without a token: no header may say so."""
    for name in ("unix-peer", "x-unix-peer", "extensions"):
        assert gateway.ask("GET", "/status", headers={name: '{"uid": 0}'}).status_code == 401


def test_what_is_public_tells_nothing_about_anybody(gateway: World) -> None:
    """Probes and figures have no token."""
    for path in sorted(PUBLIC):
        text = gateway.ask("GET", f"//gateway{path}").text
        for party in gateway.parties:
            for secret in (party.client, party.siren, party.number, party.token, "compta@"):
                assert secret not in text, path
