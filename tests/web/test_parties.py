"""Clients, companies, contracts, subscriptions, settings, keys and tokens by the API."""

import datetime as dt

import asyncssh
import pytest
from sqlmodel import select

from gateway import clock
from gateway.domain.ledger import Record
from gateway.parties import registry

from .world import ADMIN, World


def _today(world: World) -> dt.date:
    return clock.day_of(clock.now(), world.parts.settings.issuer.zone)


def test_from_nothing_to_a_client_that_receives(anywhere: World) -> None:
    """The public face, as the README and the demo use it."""
    client = anywhere.ask("POST", "/clients", "operator", json={"name": "Fonderie", "language": "fr"})
    assert client.status_code == 201
    id_ = client.json()["id"]
    company = anywhere.ask(
        "POST", "/companies", "operator", json={"siren": "552 100 554", "name": "Fonderie", "client": id_}
    )
    assert (company.status_code, company.json()["siren"], company.json()["client"]) == (201, "552100554", id_)
    contract = anywhere.ask("POST", "/contracts", "operator",
                           json={"number": "CARD-I-7", "type": "CARD_I", "siren": "552100554"})  # fmt: skip
    assert (contract.status_code, contract.json()["client"], contract.json()["type"]) == (201, id_, "CARD_I")
    items = anywhere.ask("POST", "/subscriptions", "operator", json={"contracts": ["CARD-I-7"]})
    assert (items.status_code, items.json()["items"][0]["outcome"]) == (201, "subscribed")
    settings = {"email": {"enabled": True, "addresses": ["a@fonderie.example"]},
                "folder": {"enabled": True, "formats": ["pdf", "xml"], "receipt": "full_read"}}  # fmt: skip
    put = anywhere.ask("PUT", f"/clients/{id_}/delivery-settings", "operator", json=settings)
    assert put.status_code == 200
    assert {name: put.json()[name] for name in settings} == settings
    public = asyncssh.generate_private_key("ssh-ed25519", comment="erp@fonderie").export_public_key().decode()
    key = anywhere.ask("POST", f"/clients/{id_}/keys", "operator", json={"public_key": public, "label": "ERP"})
    assert (key.status_code, key.json()["label"]) == (201, "ERP")
    folders = anywhere.ask("GET", f"/clients/{id_}/folders", "operator").json()["items"]
    assert [(one["user_name"], one["formats"]) for one in folders] == [("fonderie", ["pdf", "xml"])]


def test_a_contract_that_cannot_be_subscribed_is_refused_with_the_reason(gateway: World) -> None:
    """Row 14: a refusal with its reason, not an empty list."""
    own = gateway.parties[0]
    gateway.ask("POST", "/contracts", "admin", json={"number": "T-1", "type": "TURPE", "siren": own.siren})
    answer = gateway.ask("POST", "/subscriptions", "own", json={"contracts": ["T-1"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "ineligible_type")
    assert answer.json()["refused"][0]["contract"] == "T-1"
    some = gateway.ask("POST", "/subscriptions", "own", json={"contracts": ["T-1", own.number]})
    assert (some.status_code, [one["outcome"] for one in some.json()["items"]]) == (200, ["refused", "already"])


def test_a_client_subscribes_all_its_contracts_and_nobody_elses(anywhere: World) -> None:
    """Row 6; another's contract is unknown, not forbidden."""
    own, other = anywhere.parties
    anywhere.ask("POST", "/contracts", "admin", json={"number": "CARD-I-2", "type": "CARD_I", "siren": own.siren})
    answer = anywhere.ask("POST", "/subscriptions", "own", json={"all": True, "include_future": True})
    outcomes = {one["contract"]: one["outcome"] for one in answer.json()["items"]}
    assert outcomes == {own.number: "already", "CARD-I-2": "subscribed"}
    foreign = anywhere.ask("POST", "/subscriptions", "own", json={"contracts": [other.number]})
    assert (foreign.status_code, foreign.json()["code"]) == (422, "unknown_contract")
    named = anywhere.ask("POST", "/subscriptions", "own", json={"contracts": [other.number], "client": other.client})
    assert named.status_code == 404


def test_a_subscription_ends_at_a_day_and_stays_in_the_list(gateway: World) -> None:
    """History is kept; a client ends it today or later."""
    own = gateway.parties[0]
    day = (_today(gateway) + dt.timedelta(days=30)).isoformat()
    ended = gateway.ask("POST", f"/subscriptions/{own.subscription}/end", "own", json={"to": day})
    assert (ended.status_code, ended.json()["outcome"], ended.json()["to"]) == (200, "ended", day)
    listed = gateway.ask("GET", "/subscriptions", "own").json()["items"]
    assert [(one["id"], one["from"], one["to"]) for one in listed] == [(own.subscription, "2026-01-01", day)]
    past = gateway.ask("POST", f"/subscriptions/{own.subscription}/end", "own", json={"to": "2026-01-02"})
    assert (past.status_code, past.json()["code"]) == (422, "day_past")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"folder": {"enabled": False}}, "no_channel"),
        ({"email": {"enabled": True, "addresses": []}}, "no_address"),
        ({"email": {"enabled": True, "addresses": ["not an address"]}}, "address_format"),
        ({"folder": {"enabled": True, "formats": ["docx"]}}, "formats"),
        ({"folder": {"enabled": True, "receipt": "wink"}}, "invalid"),
        ({"folder": {"enabled": True}, "folders": {}}, "invalid"),
    ],
)
def test_settings_that_reach_nobody_are_refused_and_the_old_ones_stay(
    gateway: World, body: dict[str, object], code: str
) -> None:
    """Row 7: at least one channel."""
    path = f"/clients/{gateway.parties[0].client}/delivery-settings"
    before = gateway.ask("GET", path, "own").json()
    answer = gateway.ask("PUT", path, "own", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert gateway.ask("GET", path, "own").json() == before


def test_what_was_read_can_be_put_back(gateway: World) -> None:
    """A form on top of this reads, changes one thing, and puts the whole."""
    own = gateway.parties[0]
    path = f"/clients/{own.client}/delivery-settings"
    read = gateway.ask("GET", path, "own")
    body = {name: read.json()[name] for name in ("email", "folder", "other_kinds_in_folder")}
    put = gateway.ask("PUT", path, "own", json=body, headers={"If-Match": read.headers["etag"]})
    assert (put.status_code, put.json(), put.headers["etag"]) == (200, read.json(), read.headers["etag"])


def test_settings_of_one_contract_stand_beside_the_clients(gateway: World) -> None:
    """Contract over company over client."""
    own, other = gateway.parties
    path = f"/clients/{own.client}/delivery-settings"
    body = {"folder": {"enabled": True}, "contract": own.number}
    shown = gateway.ask("PUT", path, "own", json=body).json()
    assert shown["email"]["enabled"]
    assert [(one["contract"], one["email"]["enabled"]) for one in shown["overrides"]] == [(own.number, False)]
    assert gateway.ask("PUT", path, "own", json=body | {"contract": other.number}).status_code == 404


def test_an_address_that_a_client_enters_waits_for_its_confirmation(gateway: World) -> None:
    """C3: a new address is confirmed before its first use."""
    own = gateway.parties[0]
    body = {"email": {"enabled": True, "addresses": ["new@apuron.example"]}}
    assert gateway.ask("PUT", f"/clients/{own.client}/delivery-settings", "own", json=body).status_code == 200
    boxes = gateway.ask("GET", f"/clients/{own.client}/mailboxes", "own").json()["items"]
    box = next(one for one in boxes if one["address"] == "new@apuron.example")
    assert box["confirmed_at"] is None
    path = f"/clients/{own.client}/mailboxes/{box['id']}/confirm"
    assert gateway.ask("POST", path, "own").status_code == 403
    assert gateway.ask("POST", path, "operator").json()["confirmed_at"] is not None


def test_a_key_is_listed_by_its_fingerprint_and_revoked_by_its_id(gateway: World) -> None:
    """E8; a key of another client is none of this one's."""
    own, other = gateway.parties
    listed = gateway.ask("GET", f"/clients/{own.client}/keys", "own").json()["items"]
    assert [one["id"] for one in listed] == [own.key]
    assert listed[0]["fingerprint"].startswith("SHA256:")
    assert gateway.ask("DELETE", f"/clients/{own.client}/keys/{other.key}", "admin").status_code == 404
    assert gateway.ask("DELETE", f"/clients/{own.client}/keys/{own.key}", "own").status_code == 204
    listed = gateway.ask("GET", f"/clients/{own.client}/keys", "own").json()["items"]
    assert listed[0]["revoked_at"] is not None


def test_a_password_is_shown_once_and_kept_as_a_hash(anywhere: World) -> None:
    """Made by the gateway, two at most in use, revoked by its id; another client's does not exist."""
    own, other = anywhere.parties
    path = f"/clients/{own.client}/passwords"
    assert anywhere.ask("DELETE", f"{path}/{own.password}", "own").status_code == 204
    once = {"Idempotency-Key": "one-password"}
    made = anywhere.ask("POST", path, "own", json={"label": "ERP"}, headers=once)
    assert made.status_code == 201 and len(made.json()["password"]) == 27
    again = anywhere.ask("POST", path, "own", json={"label": "ERP"}, headers=once).json()
    assert (again["id"], again["password"]) == (made.json()["id"], None)
    assert anywhere.ask("POST", path, "own", json={"label": "b", "password": "x"}).json()["code"] == "password_length"
    brought = anywhere.ask("POST", path, "own", json={"label": "brought", "password": "as-on-the-old-server"})
    assert (brought.status_code, brought.json()["password"]) == (201, None)
    assert anywhere.ask("POST", path, "own", json={"label": "third"}).json()["code"] == "too_many_passwords"
    listed = anywhere.ask("GET", path, "own")
    assert [one["label"] for one in listed.json()["items"] if one["revoked_at"] is None] == ["ERP", "brought"]
    assert "hash" not in listed.text and "as-on-the-old-server" not in listed.text
    one = f"{path}/{made.json()['id']}"
    assert anywhere.ask("DELETE", f"/clients/{other.client}/passwords/{made.json()['id']}", "admin").status_code == 404
    assert anywhere.ask("DELETE", one, "own").status_code == 204
    assert anywhere.ask("DELETE", one, "own").status_code == 204
    assert anywhere.ask("POST", path, "own", json={"label": "third"}).status_code == 201
    added = select(Record.body).where(Record.event == "password.added")
    bodies = anywhere.parts.db.read(lambda tx: tx.exec(added).all())
    assert len(bodies) == 5 and "argon2" not in "".join(bodies)


def test_a_folder_s_networks_are_set_and_taken_away(anywhere: World) -> None:
    """Written as they are meant; what is no network, or none at all, is refused."""
    party = anywhere.parties[0]
    path = f"/clients/{party.client}/folders/{party.folder}/networks"
    put = anywhere.ask("PUT", path, "own", json={"networks": ["2001:DB8::/32", "192.0.2.7"]})
    assert (put.status_code, put.json()["networks"]) == (200, ["192.0.2.7/32", "2001:db8::/32"])
    for wrong in (["192.0.2.1/24"], ["nowhere"], []):
        answer = anywhere.ask("PUT", path, "own", json={"networks": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "network")
    assert anywhere.ask("PUT", path, "own", json={"networks": None}).json()["networks"] is None


def test_a_client_chooses_the_rules_of_its_folder(anywhere: World) -> None:
    """What is not named stays; what cannot be is refused with its name; another's folder is not there."""
    party, other = anywhere.parties[:2]
    path = f"/clients/{party.client}/folders/{party.folder}"
    rules = {"layout": "by_contract", "name_template": "F_{number}_{nature}", "inbox_days": 30, "linger_minutes": 0}
    changed = anywhere.ask("PATCH", path, "own", json=rules)
    assert changed.status_code == 200 and rules.items() <= changed.json().items()
    assert changed.json()["formats"] == ["pdf"]
    reset = anywhere.ask("PATCH", path, "own", json={"name_template": None, "formats": ["xml"]})
    assert (reset.json()["name_template"], reset.json()["formats"], reset.json()["inbox_days"]) == (None, ["xml"], 30)
    wrong = anywhere.ask("PATCH", path, "own", json={"name_template": "{number}"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "name_template")
    for value in ({"inbox_days": 0}, {"linger_minutes": 10_081}, {"layout": "x"}, {"receipt": None}, {"x": 1}):
        assert anywhere.ask("PATCH", path, "own", json=value).status_code == 422
    foreign = f"/clients/{other.client}/folders/{other.folder}"
    assert anywhere.ask("PATCH", foreign, "own", json={"inbox_days": 1}).status_code == 404


def test_a_private_key_is_refused_and_not_repeated_in_the_answer(gateway: World) -> None:
    """It happens; it must not go further."""
    private = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    path = f"/clients/{gateway.parties[0].client}/keys"
    answer = gateway.ask("POST", path, "own", json={"public_key": private, "label": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "private_key")
    assert private.splitlines()[1] not in answer.text


def test_companies_are_found_by_siren_or_part_of_the_name(anywhere: World) -> None:
    """C1: "apuron" = "534 010 764"."""
    for text in ("apuron", "534 010", "534010764", "PV 2"):
        found = anywhere.ask("GET", "/companies", "admin", params={"search": text}).json()["items"]
        assert [one["siren"] for one in found] == ["534010764"], text


def test_lists_of_parties_page_in_the_order_of_their_making(gateway: World) -> None:
    """With a cursor that is the last id; a page more than the last is none."""
    for number in range(7):
        gateway.ask("POST", "/clients", "admin", json={"name": f"Client {number}"})
    names: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = gateway.ask("GET", "/clients", "admin", params=query).json()
        names += [one["name"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == ["Apuron PV 2", "Été & Fils", *(f"Client {number}" for number in range(7))]


def test_systems_of_the_issuers_own_are_told_from_clients(anywhere: World) -> None:
    """They are clients in the tables only: who counts or mails clients must be able to leave them out."""
    made = anywhere.ask("POST", "/clients", "admin", json={"name": "Billing", "is_intake": True}).json()
    assert made["is_intake"] is True
    clients = [party.client for party in anywhere.parties]
    for wanted, ids in ((None, [*clients, made["id"]]), (True, [made["id"]]), (False, clients)):
        query = {} if wanted is None else {"is_intake": wanted}
        items = anywhere.ask("GET", "/clients", "viewer", params=query).json()["items"]
        assert [one["id"] for one in items] == ids
        assert [one["is_intake"] for one in items] == [one == made["id"] for one in ids]
    changed = anywhere.ask("PATCH", f"/clients/{made['id']}", "admin", json={"language": "en"}).json()
    assert (changed["is_intake"], changed["language"]) == (True, "en")
    assert anywhere.ask("GET", f"/clients/{clients[0]}", "own").json()["is_intake"] is False


def test_a_company_that_moved_away_does_not_tell_where_to(anywhere: World) -> None:
    """Its former client still finds it, for the documents of its time; whose it is now is not its business."""
    own, other = anywhere.parties
    today = _today(anywhere)
    day = today - dt.timedelta(days=1)
    anywhere.write(lambda tx: registry.move_company(tx, ADMIN, own.company, other.client, day, today=today))
    shown = anywhere.ask("GET", f"/companies/{own.company}", "own")
    assert (shown.status_code, shown.json()["client"]) == (200, None)
    contract = anywhere.ask("GET", f"/contracts/{own.contract}", "own").json()
    assert (contract["client"], contract["siren"]) == (None, None)


def test_tokens_are_listed_without_their_secrets(gateway: World) -> None:
    """Only the hash exists."""
    text = gateway.ask("GET", "/tokens", "admin").text
    for secret in gateway.tokens.values():
        assert secret not in text
