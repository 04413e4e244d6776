"""The ledger's rows: insert-only records, and the personal values that they refer to by id."""

import datetime as dt

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .columns import UTCDateTime, new_id


class Record(SQLModel, table=True):
    """One fact, written in the transaction of that fact. `body` is canonical JSON; triggers refuse any change."""

    __tablename__ = "evidence_record"
    id: str = Field(default_factory=new_id("evr"), primary_key=True)
    at: dt.datetime = Field(sa_type=UTCDateTime)
    event: str = Field(max_length=60)
    subject: str = Field(max_length=40, description="Id of what the fact is about")
    document_id: str | None = Field(default=None, max_length=40, description="Of the document's life, if any")
    body: str
    sha256: str = Field(max_length=64, description="Of body, UTF-8")
    __table_args__ = (
        sa.Index("ix_evidence_record_subject", "subject", "id"),
        sa.Index("ix_evidence_record_document", "document_id", "id"),
    )


class PersonalValue(SQLModel, table=True):
    """A value about a person (mail address, network address, name) that records hold by id and salted SHA-256 only."""

    __tablename__ = "personal_value"
    id: str = Field(default_factory=new_id("pvl"), primary_key=True)
    kind: str = Field(max_length=20)
    value: str | None = Field(max_length=320, description="None once erased")
    lookup: str | None = Field(max_length=64, unique=True, description="SHA-256 of kind and value; None once erased")
    salt: str = Field(max_length=32, description="Hexadecimal; kept, so that a record can still be checked")
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
