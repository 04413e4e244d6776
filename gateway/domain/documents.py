"""Documents and their seals."""

import datetime as dt
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .columns import JSON, Amount, UTCDateTime, new_id, word
from .states import DocumentState, Kind, Nature

UNDELIVERED = "state = 'sealed' AND state_reason <> ''"  # SQL; as text, so that the partial index is recognised


class Document(SQLModel, table=True):
    """One document, as received and, where it has one, as sealed.

    `key` is what must be unique: kind group, seller, year of issue, number (other kinds: and contract). `accepted_key`
    repeats it once the document was accepted, and is empty for what came into quarantine at the door, so that only
    one document can ever hold it.
    """

    __tablename__ = "document"
    id: str = Field(default_factory=new_id("doc"), primary_key=True)
    kind: Kind = Field(sa_type=word(Kind))
    number: str = Field(max_length=40, index=True)
    issue_date: dt.date
    type_code: str = Field(max_length=4, description="UNTDID 1001: 380, 381, 384; empty for other kinds")
    seller: str = Field(max_length=15, description="SIREN, or VAT number of a foreign seller")
    key: str = Field(max_length=120, index=True)
    accepted_key: str | None = Field(default=None, max_length=120, unique=True)
    version: int = Field(default=1, description="2 after a replacement out of quarantine or before anything left")
    replaces_id: str | None = Field(default=None, foreign_key="document.id")

    contract_id: str | None = Field(default=None, foreign_key="contract.id")
    company_id: str | None = Field(default=None, foreign_key="company.id")
    client_id: str | None = Field(default=None, foreign_key="client.id")
    currency: str = Field(default="", max_length=3, description="ISO 4217; empty for other kinds")
    total: Decimal | None = Field(default=None, sa_type=Amount, description="BT-112, with VAT")
    due: Decimal | None = Field(default=None, sa_type=Amount, description="BT-115, amount due")
    period_start: dt.date | None = None
    period_end: dt.date | None = None
    corrects: str = Field(default="", max_length=40, description="Number of the invoice that this one corrects")
    corrects_id: str | None = Field(default=None, foreign_key="document.id")

    nature: Nature | None = Field(default=None, sa_type=word(Nature))
    nature_reason: str = Field(default="", max_length=300)
    subscription_id: str | None = Field(default=None, foreign_key="subscription.id")
    state: DocumentState = Field(sa_type=word(DocumentState))
    state_reason: str = Field(
        default="", max_length=1000, description="Why quarantined, waiting, withdrawn, or sealed without a delivery"
    )

    received_sha256: str = Field(max_length=64, index=True)
    received_size: int
    received_at: dt.datetime = Field(sa_type=UTCDateTime)
    source: str = Field(max_length=20, description="The door: api, submit, spool, account")
    facts: dict[str, Any] = Field(sa_type=JSON)
    # ^ everything read (intake.read.Facts as JSON): warnings, profile, layers that ran, page count
    xml_sha256: str | None = Field(default=None, max_length=64, description="The embedded XML, as a blob")
    xml_size: int | None = None

    sealed_sha256: str | None = Field(default=None, max_length=64)
    sealed_size: int | None = None
    due_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime, description="Next look at sealing it")
    lease_until: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    lease_owner: str | None = Field(default=None, max_length=40)
    updated_at: dt.datetime = Field(sa_type=UTCDateTime)
    row_version: int = 1

    __table_args__ = (
        sa.Index("ix_document_search", "client_id", "contract_id", sa.text("issue_date DESC"), sa.text("id DESC")),
        sa.Index("ix_document_state", "state", "id"),
        sa.Index(
            "ix_document_quarantined",
            "key",
            "received_sha256",
            unique=True,  # of two gateways that take the same bytes at once, one finds the other's row
            sqlite_where=sa.text("state = 'quarantined'"),
            postgresql_where=sa.text("state = 'quarantined'"),
        ),
        sa.Index(
            "ix_document_to_seal",
            "due_at",
            "id",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        ),
        sa.Index(
            "ix_document_undelivered",
            "client_id",
            "company_id",
            "contract_id",
            "id",
            sqlite_where=sa.text(UNDELIVERED),
            postgresql_where=sa.text(UNDELIVERED),
        ),
    )


class Seal(SQLModel, table=True):
    """Who sealed a document, how, and our own verification made before anything left."""

    __tablename__ = "seal"
    document_id: str = Field(primary_key=True, foreign_key="document.id")
    sha256: str = Field(max_length=64, description="Of the sealed bytes")
    level: str = Field(max_length=8, description="PAdES level reached: B-B, B-T, …")
    made_by: str = Field(max_length=10, description="gateway | issuer: it arrived sealed")
    signer: str = Field(max_length=500, description="Subject, RFC 4514")
    signer_issuer: str = Field(max_length=500)
    signer_serial: str = Field(max_length=50, description="Hexadecimal")
    certificate_sha256: str = Field(max_length=64)
    sealed_at: dt.datetime = Field(sa_type=UTCDateTime, description="Our clock, unless level is B-T or higher")
    verification: dict[str, Any] = Field(sa_type=JSON)


class Duplicate(SQLModel, table=True):
    """The stamped duplicate of a document without a subscription, made at the first request and kept."""

    __tablename__ = "duplicate"
    document_id: str = Field(primary_key=True, foreign_key="document.id")
    sha256: str = Field(max_length=64)
    size: int
    made_at: dt.datetime = Field(sa_type=UTCDateTime)
