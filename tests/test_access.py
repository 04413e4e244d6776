"""Who may do what: roles that deny by default, tokens that are shown once, clients that do not see each other."""

import datetime as dt
import hashlib
import os
import pwd
import re
import time
from functools import partial
from itertools import product

import pytest
from sqlmodel import col, select

from gateway import access, clock
from gateway.access import Actor, Permission, Role
from gateway.domain.ledger import Record
from gateway.domain.parties import ApiToken, Client
from gateway.errors import Denied, NotFound, Refused, Unavailable
from gateway.store.database import Database, Transaction

ADMIN = Actor("cli:root", "operator", None, Role.ADMIN)
MINUTE = dt.timedelta(minutes=1)
_P = Permission
MATRIX = {
    Role.ADMIN: set(Permission) - {_P.DELIVERIES_ACKNOWLEDGE},
    Role.OPERATOR: set(Permission) - {_P.DELIVERIES_ACKNOWLEDGE, _P.TOKENS_MANAGE},
    Role.VIEWER: {_P.DOCUMENTS_READ, _P.PARTIES_READ},
    Role.AUDITOR: {_P.DOCUMENTS_READ, _P.PARTIES_READ, _P.EVIDENCE_READ},
    Role.CLIENT: {
        _P.DOCUMENTS_READ,
        _P.DELIVERIES_ACKNOWLEDGE,
        _P.FOLDER_ASK,
        _P.PARTIES_READ,
        _P.SUBSCRIPTIONS_MANAGE,
        _P.SETTINGS_MANAGE,
        _P.KEYS_MANAGE,
    },
}


def _actor(role: Role) -> Actor:
    return Actor("tok_x", "client", "cli_1", role) if role is Role.CLIENT else Actor("tok_x", "operator", None, role)


def _client(database: Database, name: str = "Acme") -> Client:
    def step(tx: Transaction) -> Client:
        client = Client(name=name, created_at=clock.now())
        tx.add(client)
        return client

    return database.write(step)


def _create(database: Database, scope: str, expires_at: dt.datetime | None = None) -> tuple[ApiToken, str]:
    return database.write(lambda tx: access.create_token(tx, ADMIN, "ERP", scope, expires_at))


def _row(database: Database, token: ApiToken) -> ApiToken:
    row = database.read(lambda tx: tx.get(ApiToken, token.id))
    assert row is not None
    return row


@pytest.mark.parametrize(("role", "permission"), list(product(Role, Permission)))
def test_a_role_may_what_its_row_says_and_nothing_else(role: Role, permission: Permission) -> None:
    """The whole table, written a second time: a right that slips in is found here."""
    actor = _actor(role)
    allowed = permission in MATRIX[role]
    assert actor.may(permission) is allowed
    if allowed:
        actor.require(permission)
    else:
        with pytest.raises(Denied, match=permission):
            actor.require(permission)


def test_only_reading_roles_change_nothing() -> None:
    """Viewer and auditor are read-only, whatever permission is added later."""
    for role in (Role.VIEWER, Role.AUDITOR):
        assert all(permission.endswith(".read") for permission in access.PERMISSIONS[role])


def test_what_is_no_permission_is_denied() -> None:
    """Deny by default, also for a misspelt word."""
    assert not _actor(Role.ADMIN).may("documents.reed")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "client_id", "role"),
    [
        ("client", None, Role.CLIENT),
        ("client", "cli_1", Role.ADMIN),
        ("operator", "cli_1", Role.ADMIN),
        ("operator", None, Role.CLIENT),
        ("operator", "cli_1", Role.CLIENT),
    ],
)
def test_an_actor_is_whole(kind: str, client_id: str | None, role: Role) -> None:
    """A client's actor without its client would see everything."""
    with pytest.raises(ValueError, match="actor"):
        Actor("tok_x", kind, client_id, role)  # type: ignore[arg-type]


def test_a_client_sees_its_own_and_an_operator_all() -> None:
    """What belongs to no client is no client's to see."""
    own, operator = _actor(Role.CLIENT), _actor(Role.VIEWER)
    assert [own.sees(id_) for id_ in ("cli_1", "cli_2", None)] == [True, False, False]
    assert [operator.sees(id_) for id_ in ("cli_1", "cli_2", None)] == [True, True, True]


def test_anothers_client_is_one_that_does_not_exist(database: Database) -> None:
    """The two answers are the same, or ids could be tried."""
    mine, other = _client(database, "Mine"), _client(database, "Other")
    own = Actor("tok_x", "client", mine.id, Role.CLIENT)

    def look(client_id: str, permission: Permission = _P.PARTIES_READ) -> Client:
        return database.read(lambda tx: access.client_for(tx, own, permission, client_id))

    assert look(mine.id).id == mine.id
    with pytest.raises(NotFound) as theirs:
        look(other.id)
    with pytest.raises(NotFound) as none:
        look("cli_unknown")
    assert (theirs.value.message, theirs.value.code, theirs.value.facts) == (
        none.value.message,
        none.value.code,
        none.value.facts,
    )
    for client_id in (mine.id, other.id):
        with pytest.raises(Denied):
            look(client_id, _P.PARTIES_MANAGE)


def test_a_secret_has_256_random_bits_and_only_its_hash_is_kept(database: Database) -> None:
    """Whoever reads the database, a backup or the ledger cannot act as the token's holder."""
    made = [_create(database, "operator:viewer") for _ in range(3)]
    for token, secret in made:
        assert re.fullmatch(r"gw_[A-Za-z0-9_-]{43}", secret)
        assert token.hash == hashlib.sha256(secret.encode()).hexdigest()
        assert secret[3:] not in str(_row(database, token).model_dump())
    assert len({secret for _, secret in made}) == 3
    bodies = database.read(lambda tx: tx.exec(select(Record.body)).all())
    assert not any(secret[3:] in body or token.hash in body for token, secret in made for body in bodies)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CLIENT])
def test_an_operators_token_has_its_role(database: Database, role: Role) -> None:
    """The scope says it from the first day."""
    token, secret = _create(database, f"operator:{role}")
    assert access.authenticate(database, secret) == Actor(token.id, "operator", None, role)


def test_a_clients_token_reaches_its_client(database: Database) -> None:
    """And that client only."""
    client = _client(database)
    token, secret = _create(database, f"client:{client.id}")
    assert access.authenticate(database, secret) == Actor(token.id, "client", client.id, Role.CLIENT)


@pytest.mark.parametrize(
    "scope",
    ["", "operator", "operator:", "operator:root", "operator:client", "client:", "client:cli_x", "admin", "a:b:c"],
)
def test_a_scope_that_means_nothing_is_refused(database: Database, scope: str) -> None:
    """It would be a token that is somebody else, or nobody."""
    with pytest.raises(Refused) as refused:
        _create(database, scope)
    assert refused.value.code == "scope"


def test_what_a_token_needs_beside_a_scope(database: Database) -> None:
    """A name to find it by, an end that is still to come, a maker who may."""
    for name in ("", " ", "x" * 101):
        with pytest.raises(Refused):
            database.write(partial(access.create_token, actor=ADMIN, name=name, scope="operator:viewer"))
    with pytest.raises(Refused) as refused:
        _create(database, "operator:viewer", clock.now())
    assert refused.value.code == "expires_in_the_past"
    with pytest.raises(Denied):
        database.write(lambda tx: access.create_token(tx, _actor(Role.OPERATOR), "x", "operator:admin"))
    assert database.read(lambda tx: access.list_tokens(tx, ADMIN)) == []


def test_no_valid_token_is_one_answer(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, malformed, revoked, expired, of a closed client: never told apart."""
    client = _client(database)
    soon = clock.now() + MINUTE
    revoked, expired, closed = (
        _create(database, "operator:viewer"),
        _create(database, "operator:viewer", soon),
        _create(database, f"client:{client.id}"),
    )
    assert all(access.authenticate(database, secret) for _, secret in (revoked, expired, closed))
    database.write(lambda tx: access.revoke_token(tx, ADMIN, revoked[0].id))

    def close(tx: Transaction) -> None:
        row = tx.get(Client, client.id)
        assert row is not None
        row.disabled_at = clock.now()
        tx.add(row)

    database.write(close)
    monkeypatch.setattr("gateway.store.database.now", lambda tx: soon)
    answers = set()
    secrets = [secret for _, secret in (revoked, expired, closed)]
    for secret in (*secrets, "", "gw_", "gw_" + "A" * 43, "\udcff\x00", "x" * 100_000, secrets[0].lower()):
        with pytest.raises(Denied) as denied:
            access.authenticate(database, secret)
        answers.add((denied.value.message, denied.value.code, str(denied.value.facts)))
    assert len(answers) == 1
    assert answers.pop()[1] == "unauthenticated"


def test_use_is_noted_at_most_once_a_minute(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request reads; one a minute writes."""
    token, secret = _create(database, "operator:viewer")
    began = clock.now()
    times = [began, began + MINUTE / 2, began + MINUTE, began + MINUTE * 1.5]
    noted = []
    for instant in times:
        monkeypatch.setattr("gateway.store.database.now", lambda tx, instant=instant: instant)
        access.authenticate(database, secret)
        noted.append(_row(database, token).last_used_at)
    assert noted == [times[0], times[0], times[2], times[2]]


def test_a_database_that_takes_no_writes_locks_nobody_out(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk an operator must still get in; the time of use is all that is lost."""
    token, secret = _create(database, "operator:admin")

    def full(step: object) -> None:
        raise Unavailable("full")

    monkeypatch.setattr(database, "write", full)
    assert access.authenticate(database, secret).id == token.id


def test_a_revoked_token_stays_revoked(database: Database) -> None:
    """Again changes nothing; it is recorded once."""
    token, _ = _create(database, "operator:viewer")
    first = database.write(lambda tx: access.revoke_token(tx, ADMIN, token.id)).revoked_at
    assert first is not None
    time.sleep(0.002)
    assert database.write(lambda tx: access.revoke_token(tx, ADMIN, token.id)).revoked_at == first
    rows = select(Record.event).where(Record.subject == token.id).order_by(col(Record.id))
    assert database.read(lambda tx: tx.exec(rows).all()) == ["token.created", "token.revoked"]
    with pytest.raises(NotFound):
        database.write(lambda tx: access.revoke_token(tx, ADMIN, "tok_unknown"))


def test_tokens_are_listed_page_by_page(database: Database) -> None:
    """Revoked ones too; to those who may."""
    ids = [_create(database, "operator:viewer")[0].id for _ in range(3)]
    first = database.read(lambda tx: access.list_tokens(tx, ADMIN, 2))
    rest = database.read(lambda tx: access.list_tokens(tx, ADMIN, 2, first[-1].id))
    assert [token.id for token in (*first, *rest)] == ids
    with pytest.raises(Denied):
        database.read(lambda tx: access.list_tokens(tx, _actor(Role.OPERATOR)))


def test_on_the_command_line_the_unix_user_acts() -> None:
    """The real uid, not the effective one and not an environment variable."""
    actor = access.command_line_actor()
    assert actor == Actor(f"cli:{pwd.getpwuid(os.getuid()).pw_name}", "operator", None, Role.ADMIN)


def test_a_uid_without_a_name_acts_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container a uid often has no entry."""
    monkeypatch.setattr(os, "getuid", lambda: 4_000_123)
    assert access.command_line_actor().id == "cli:4000123"
