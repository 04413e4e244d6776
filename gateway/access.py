"""Who is acting and what they may do: actors, roles, API tokens. Whose a client is, is decided here and nowhere else.

Deny by default: a permission that a role's row does not name is refused. A token is `gw_` and 256 random bits; only
its SHA-256 is kept, and it is shown once. Failures: Denied (not allowed, or no valid token: expired, revoked and
unknown are never told apart), NotFound for another client's things, as if they did not exist.
"""

import datetime as dt
import enum
import hashlib
import os
import pwd
import secrets
from dataclasses import dataclass
from typing import Literal

import structlog
from sqlmodel import col, select, update

from . import evidence
from .domain.parties import ApiToken, Client
from .errors import Denied, NotFound, Refused, Unavailable
from .store import database
from .store.database import Database, Transaction

log = structlog.get_logger(__name__)

SECRET_PREFIX = "gw_"  # noqa: S105 - it lets a scanner find a secret that leaked
USE_NOTED_EVERY = dt.timedelta(minutes=1)
MAX_PAGE = 500


class Permission(enum.StrEnum):
    """What can be allowed. A client's permissions reach its own things only."""

    DOCUMENTS_READ = "documents.read"  # with their deliveries
    DOCUMENTS_SUBMIT = "documents.submit"
    DOCUMENTS_DECIDE = "documents.decide"  # the exits of quarantine, withdrawal
    DELIVERIES_MANAGE = "deliveries.manage"  # retry, cancel, again
    DELIVERIES_ACKNOWLEDGE = "deliveries.acknowledge"  # a receipt: the client's own fact, which nobody makes for it
    FOLDER_ASK = "folder.ask"  # a range once more, test documents
    PARTIES_READ = "parties.read"
    PARTIES_MANAGE = "parties.manage"
    SUBSCRIPTIONS_MANAGE = "subscriptions.manage"
    SETTINGS_MANAGE = "settings.manage"
    KEYS_MANAGE = "keys.manage"
    EVIDENCE_READ = "evidence.read"
    TOKENS_MANAGE = "tokens.manage"


class Role(enum.StrEnum):
    """An operator's role (the scope `operator:<role>`), or client."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"
    AUDITOR = "auditor"
    CLIENT = "client"


_P = Permission
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission) - {_P.DELIVERIES_ACKNOWLEDGE},
    Role.OPERATOR: frozenset(Permission) - {_P.DELIVERIES_ACKNOWLEDGE, _P.TOKENS_MANAGE},
    Role.VIEWER: frozenset({_P.DOCUMENTS_READ, _P.PARTIES_READ}),
    Role.AUDITOR: frozenset({_P.DOCUMENTS_READ, _P.PARTIES_READ, _P.EVIDENCE_READ}),
    Role.CLIENT: frozenset(
        {
            _P.DOCUMENTS_READ,
            _P.DELIVERIES_ACKNOWLEDGE,
            _P.FOLDER_ASK,
            _P.PARTIES_READ,
            _P.SUBSCRIPTIONS_MANAGE,
            _P.SETTINGS_MANAGE,
            _P.KEYS_MANAGE,
        }
    ),
}


@dataclass(frozen=True)
class Actor:
    """Who acts: an API token (`tok_…`), later a user (`usr_…`), or `cli:<unix user>`."""

    id: str
    kind: Literal["operator", "client"]
    client_id: str | None  # of a client; None for an operator
    role: Role

    def __post_init__(self) -> None:
        of_client = (self.kind == "client", self.client_id is not None, self.role is Role.CLIENT)
        if len(set(of_client)) != 1:
            raise ValueError("a client's actor names its client and has the role client; an operator's has neither")

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it; on which client's things, `sees` tells."""
        return permission in PERMISSIONS[self.role]

    def sees(self, client_id: str | None) -> bool:
        """Whether what belongs to this client exists for the actor. None: what belongs to no client."""
        return self.client_id is None or self.client_id == client_id

    def require(self, permission: Permission) -> None:
        """Denied unless the role allows it."""
        if not self.may(permission):
            raise Denied(f"this needs the permission {permission}", permission=permission)


def client_for(tx: Transaction, actor: Actor, permission: Permission, client_id: str, *, hold: bool = False) -> Client:
    """A client, for an actor who may do this with it. Denied; NotFound when there is none or it is not the actor's.

    `hold`: until the transaction ends nobody else holds it, so that what depends on the client changes in turn.
    """
    actor.require(permission)
    lock = {"key_share": True} if hold else None  # rows that only refer to the client are not made to wait
    client = tx.get(Client, client_id, with_for_update=lock) if actor.sees(client_id) else None
    if client is None:
        raise NotFound("no such client", code="unknown_client")
    return client


def command_line_actor() -> Actor:
    """Who typed the command: the real uid's name, with every operator's permission (the state directory is theirs)."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)  # a container's uid without an entry
    return Actor(f"cli:{name[:60]}", "operator", None, Role.ADMIN)


def create_token(
    tx: Transaction, actor: Actor, name: str, scope: str, expires_at: dt.datetime | None = None
) -> tuple[ApiToken, str]:
    """A new token's row and its secret, which cannot be had again.

    `scope`: `operator:admin`, `operator:operator`, `operator:viewer`, `operator:auditor` or `client:<id>`. Refused
    for any other, for a name that is empty or over 100 characters, for an end in the past.
    """
    actor.require(Permission.TOKENS_MANAGE)
    at = database.now(tx)
    if not 0 < len(name.strip()) <= 100:
        raise Refused("a token's name has 1 to 100 characters", code="name_format")
    if expires_at is not None and expires_at <= at:
        raise Refused("the token would have expired already", code="expires_in_the_past")
    _check_scope(tx, scope)
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        name=name.strip(), scope=scope, hash=_hash(secret), created_by=actor.id, created_at=at, expires_at=expires_at
    )
    tx.add(token)
    tx.flush()
    evidence.record(
        tx, "token.created", token.id, actor=actor.id, name=token.name, scope=scope, expires_at=token.expires_at
    )
    return token, secret


def _check_scope(tx: Transaction, scope: str) -> None:
    kind, _, rest = scope.partition(":")
    if kind == "operator" and rest in set(Role) - {Role.CLIENT}:
        return
    if kind != "client":
        raise Refused(
            "a scope is operator:admin, operator:operator, operator:viewer, operator:auditor or client:<id>",
            code="scope",
        )
    if tx.get(Client, rest) is None:
        raise Refused(
            "the scope names no client that exists: client:<id>, with an id that GET /clients lists", code="scope"
        )


def authenticate(db: Database, secret: str) -> Actor:
    """The actor of a token's secret; Denied (`unauthenticated`) without saying why. Blocks on the database.

    The time of use is noted at most once a minute, and never in the way: a full disk locks nobody out.
    """
    token, at = db.read(lambda tx: (_valid_token(tx, secret), database.now(tx)))
    if token.last_used_at is None or at - token.last_used_at >= USE_NOTED_EVERY:
        try:
            db.write(lambda tx: _note_use(tx, token.id, at))
        except Unavailable as error:
            log.warning("token.use_not_noted", token=token.id, cause=error.message)
    return _actor_of(token)


def _valid_token(tx: Transaction, secret: str) -> ApiToken:
    # Looked up by hash: what the time of the look-up tells of a hash tells nothing of a secret.
    token = tx.exec(select(ApiToken).where(ApiToken.hash == _hash(secret))).first()
    if token is None or _is_over(token, database.now(tx)) or _client_is_closed(tx, token):
        raise Denied("no valid token came with the request", code="unauthenticated")
    return token


def _is_over(token: ApiToken, at: dt.datetime) -> bool:
    return token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= at)


def _client_is_closed(tx: Transaction, token: ApiToken) -> bool:
    client_id = _actor_of(token).client_id
    if client_id is None:
        return False
    client = tx.get(Client, client_id)
    return client is None or client.disabled_at is not None


def _actor_of(token: ApiToken) -> Actor:
    kind, _, rest = token.scope.partition(":")
    if kind == "client":
        return Actor(token.id, "client", rest, Role.CLIENT)
    return Actor(token.id, "operator", None, Role(rest))


def _note_use(tx: Transaction, token_id: str, at: dt.datetime) -> None:
    tx.execute(update(ApiToken).where(col(ApiToken.id) == token_id).values(last_used_at=at))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "backslashreplace")).hexdigest()


def list_tokens(tx: Transaction, actor: Actor, limit: int = 50, after: str = "") -> list[ApiToken]:
    """Tokens in the order of their making, revoked ones too, after the id `after`."""
    actor.require(Permission.TOKENS_MANAGE)
    page = select(ApiToken).where(col(ApiToken.id) > after).order_by(col(ApiToken.id)).limit(page_size(limit))
    return list(tx.exec(page))


def revoke_token(tx: Transaction, actor: Actor, token_id: str) -> ApiToken:
    """End a token at once and for good; again, it changes nothing. NotFound."""
    actor.require(Permission.TOKENS_MANAGE)
    token = tx.get(ApiToken, token_id, with_for_update=True)
    if token is None:
        raise NotFound("no such token", code="unknown_token")
    if token.revoked_at is None:
        token.revoked_at = database.now(tx)
        tx.add(token)
        evidence.record(tx, "token.revoked", token.id, actor=actor.id)
    return token


def page_size(limit: int) -> int:
    """A page's length as asked, within 1 and MAX_PAGE."""
    return max(1, min(limit, MAX_PAGE))
