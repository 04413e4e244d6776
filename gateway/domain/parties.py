"""Who we deal with: clients, companies, contracts, their dated bonds, subscriptions, settings, users and keys.

Days are the issuer's; a bond holds from `from_day` to `to_day`, both inclusive, for ever when `to_day` is None.
"""

import datetime as dt
import enum
import unicodedata
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .columns import JSON, UTCDateTime, new_id, word


class Language(enum.StrEnum):
    """Of mails and pages."""

    FR = "fr"
    EN = "en"


class ContractType(enum.StrEnum):
    """CARD_S (soutirage, draw-off) and CARD_I (injection) may be subscribed; the others exist and are refused."""

    CARD_S = "CARD_S"
    CARD_I = "CARD_I"
    OTHER = "OTHER"

    @property
    def is_eligible(self) -> bool:
        """Whether its invoices can be subscribed."""
        return self is not ContractType.OTHER


NAME_LENGTH = 200


def search_key(name: str) -> str:
    """What a name has in common with the ways people type it: no case, no accents, single blanks."""
    letters = (c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    return " ".join("".join(letters).casefold().split())[:NAME_LENGTH]


class Client(SQLModel, table=True):
    """The party we deal with."""

    __tablename__ = "client"
    id: str = Field(default_factory=new_id("cli"), primary_key=True)
    name: str = Field(max_length=NAME_LENGTH, index=True)
    name_key: str | None = Field(default=None, max_length=NAME_LENGTH, unique=True, description="search_key(name)")
    language: Language = Field(default=Language.FR, sa_type=word(Language))
    disabled_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    dry_run: bool = Field(default=False, description="Everything is planned and explained, nothing leaves")
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    version: int = Field(default=1, description="Counts changes: the ETag")
    __table_args__ = (
        sa.Index("ix_client_dry_run", "id", sqlite_where=sa.text("dry_run"), postgresql_where=sa.text("dry_run")),
    )


class Company(SQLModel, table=True):
    """A legal unit, by its SIREN."""

    __tablename__ = "company"
    id: str = Field(default_factory=new_id("com"), primary_key=True)
    siren: str = Field(max_length=15, unique=True, description="9 digits; a foreign one by its VAT number")
    name: str = Field(max_length=NAME_LENGTH, index=True)
    name_key: str | None = Field(default=None, max_length=NAME_LENGTH, index=True, description="search_key(name)")
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    version: int = 1


class CompanyHolding(SQLModel, table=True):
    """A company belongs to one client at a time."""

    __tablename__ = "company_holding"
    id: str = Field(default_factory=new_id("chd"), primary_key=True)
    company_id: str = Field(foreign_key="company.id", index=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    from_day: dt.date
    to_day: dt.date | None = None


class Contract(SQLModel, table=True):
    """A contract of the issuer."""

    __tablename__ = "contract"
    id: str = Field(default_factory=new_id("con"), primary_key=True)
    number: str = Field(max_length=40, unique=True)
    type: ContractType = Field(sa_type=word(ContractType))
    type_name: str = Field(max_length=40, description="The issuer's own word when type is OTHER")
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    version: int = 1


class ContractHolding(SQLModel, table=True):
    """A contract belongs to one company at a time."""

    __tablename__ = "contract_holding"
    id: str = Field(default_factory=new_id("ohd"), primary_key=True)
    contract_id: str = Field(foreign_key="contract.id", index=True)
    company_id: str = Field(foreign_key="company.id", index=True)
    from_day: dt.date
    to_day: dt.date | None = None


class OriginalChannel(SQLModel, table=True):
    """Where a contract's originals go from a day on: `gateway`, or `platform` (then we deliver copies)."""

    __tablename__ = "original_channel"
    id: str = Field(default_factory=new_id("och"), primary_key=True)
    contract_id: str = Field(foreign_key="contract.id", index=True)
    channel: str = Field(max_length=10, description="gateway | platform")
    from_day: dt.date
    to_day: dt.date | None = None
    created_by: str = Field(max_length=64)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)


class Subscription(SQLModel, table=True):
    """A contract's subscription to the electronic invoice: who consented, when, to which terms."""

    __tablename__ = "subscription"
    id: str = Field(default_factory=new_id("sub"), primary_key=True)
    contract_id: str = Field(foreign_key="contract.id", index=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    from_day: dt.date
    to_day: dt.date | None = Field(default=None, description="Last day in force; before from_day: it never was")
    scope: str = Field(max_length=12, description="selection | all | future")
    terms_version: str = Field(max_length=20)
    reason: str = Field(default="", max_length=500, description="Why it was back-dated, by an operator alone")
    created_by: str = Field(max_length=64, description="Who: an actor id")
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    ended_by: str | None = Field(default=None, max_length=64)
    ended_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)


class FutureSubscription(SQLModel, table=True):
    """`include_future`: contracts that come to the client later are subscribed from their first day."""

    __tablename__ = "future_subscription"
    id: str = Field(default_factory=new_id("fsb"), primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    from_day: dt.date
    to_day: dt.date | None = None
    terms_version: str = Field(max_length=20)
    created_by: str = Field(max_length=64)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)


class Mailbox(SQLModel, table=True):
    """A client's e-mail address. All else refers to it by id, so that it can be erased without breaking proof."""

    __tablename__ = "mailbox"
    id: str = Field(default_factory=new_id("mbx"), primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    address: str | None = Field(max_length=254, description="None once erased")
    confirmed_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime, description="None: not yet used")
    confirmed_by: str | None = Field(default=None, max_length=64)
    suspended_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    suspended_reason: str | None = Field(default=None, max_length=500)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    __table_args__ = (sa.UniqueConstraint("client_id", "address"),)


class DeliverySettings(SQLModel, table=True):
    """How documents reach a client, from an instant on; contract over company over client.

    Exactly one row per subject is open (`valid_to` None). At least one channel is on.
    """

    __tablename__ = "delivery_settings"
    id: str = Field(default_factory=new_id("set"), primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    company_id: str | None = Field(default=None, foreign_key="company.id")
    contract_id: str | None = Field(default=None, foreign_key="contract.id")
    valid_from: dt.datetime = Field(sa_type=UTCDateTime)
    valid_to: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    email_enabled: bool
    mailbox_ids: list[str] = Field(sa_type=JSON)
    folder_enabled: bool
    other_kinds_in_folder: bool = Field(default=False, description="documents/ in the folder too")
    created_by: str = Field(max_length=64)


class User(SQLModel, table=True):
    """A person of a client. Screens come later; the row is what a consent or a change points at."""

    __tablename__ = "user_account"
    id: str = Field(default_factory=new_id("usr"), primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    email: str | None = Field(max_length=254, unique=True, description="None once erased")
    name: str | None = Field(max_length=200)
    password_hash: str | None = Field(default=None, max_length=200, description="argon2id")
    disabled_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)


class Right(enum.StrEnum):
    """What a user may do; DOMAIN rows 15 to 17."""

    DOCUMENTS_MANAGE = "documents.manage"
    USERS_MANAGE = "users.manage"


class UserRight(SQLModel, table=True):
    """A right granted to a user, by whom, until revoked."""

    __tablename__ = "user_right"
    id: str = Field(default_factory=new_id("rgt"), primary_key=True)
    user_id: str = Field(foreign_key="user_account.id", index=True)
    right: Right = Field(sa_type=word(Right))
    granted_by: str = Field(max_length=64)
    granted_at: dt.datetime = Field(sa_type=UTCDateTime)
    revoked_by: str | None = Field(default=None, max_length=64)
    revoked_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)


class ApiToken(SQLModel, table=True):
    """A bearer token: only its hash is kept. Scope `operator:<role>` or `client:<id>`."""

    __tablename__ = "api_token"
    id: str = Field(default_factory=new_id("tok"), primary_key=True)
    name: str = Field(max_length=100)
    scope: str = Field(max_length=64)
    hash: str = Field(max_length=64, unique=True, description="SHA-256, hex, of the 256-bit secret")
    created_by: str = Field(max_length=64)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    expires_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    revoked_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    last_used_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)


class IdempotencyKey(SQLModel, table=True):
    """The answer that a POST with this Idempotency-Key got; the same request gets it again for a day."""

    __tablename__ = "idempotency_key"
    token_id: str = Field(primary_key=True, max_length=40)
    key: str = Field(primary_key=True, max_length=200)
    request_sha256: str = Field(max_length=64)
    status: int
    body: dict[str, Any] = Field(sa_type=JSON)
    created_at: dt.datetime = Field(sa_type=UTCDateTime, index=True)
