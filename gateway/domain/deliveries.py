"""Deliveries and their attempts: the outbox."""

import datetime as dt

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .columns import UTCDateTime, new_id, word
from .states import Channel, DeliveryState


class Delivery(SQLModel, table=True):
    """One document to one destination over one channel.

    `destination` is a mailbox id or a folder id. `again` is 0, or counts those before one that was asked for.
    """

    __tablename__ = "delivery"
    id: str = Field(default_factory=new_id("dlv"), primary_key=True)
    document_id: str = Field(foreign_key="document.id", index=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    channel: Channel = Field(sa_type=word(Channel))
    destination: str = Field(max_length=40)
    again: int = 0
    state: DeliveryState = Field(sa_type=word(DeliveryState))
    state_reason: str = Field(default="", max_length=500, description="Why held, failed, cancelled, withdrawn")
    settings_id: str | None = Field(
        default=None, foreign_key="delivery_settings.id", description="In force at planning"
    )

    due_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime, description="None: nothing to do by itself")
    lease_until: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    lease_owner: str | None = Field(default=None, max_length=40)
    attempts: int = 0
    retry_since: dt.datetime = Field(sa_type=UTCDateTime, description="Giving up counts from here; a retry starts anew")
    maybe_sent: bool = Field(default=False, description="An attempt was uncertain: the next may arrive twice")
    last_reply: str = Field(default="", max_length=1000)
    remote_queue_id: str = Field(default="", max_length=100)

    message_id: str = Field(default="", max_length=200, description="RFC 5322 3.6.4, without angle brackets")
    message_sha256: str | None = Field(default=None, max_length=64, description="The composed message, as a blob")
    message_size: int | None = None
    message_headers: str = Field(default="", description="Kept when the message goes")
    message_forgotten_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)

    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    updated_at: dt.datetime = Field(sa_type=UTCDateTime)
    final_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    row_version: int = 1

    __table_args__ = (
        sa.UniqueConstraint("document_id", "channel", "destination", "again"),
        sa.Index(
            "ix_delivery_due",
            "channel",
            "due_at",
            "id",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        ),
        sa.Index("ix_delivery_state", "state", "id"),
        sa.Index(
            "ix_delivery_again",
            "destination",
            "created_at",
            sqlite_where=sa.text("again > 0"),
            postgresql_where=sa.text("again > 0"),
        ),
        sa.Index("ix_delivery_client_state", "client_id", "state", "id"),
    )


class Attempt(SQLModel, table=True):
    """One try of a mail delivery. Registered before the network is touched; ended with what was answered."""

    __tablename__ = "attempt"
    id: str = Field(default_factory=new_id("att"), primary_key=True)
    delivery_id: str = Field(foreign_key="delivery.id", index=True)
    number: int
    started_at: dt.datetime = Field(sa_type=UTCDateTime)
    ended_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    outcome: str = Field(default="", max_length=20, description="accepted, deferred, uncertain, failed; empty: running")
    phase: str = Field(default="", max_length=20, description="Where it ended: connect, ehlo, mail, rcpt, data, dot")
    relay: str = Field(default="", max_length=260)
    reply: str = Field(default="", max_length=1000, description="Code, enhanced status and text")
    tls: str = Field(default="", max_length=60, description="Protocol and cipher; empty: in clear")
    duration_ms: int | None = None
    late: bool = Field(default=False, description="It ended after its lease: a fact, not a result")
