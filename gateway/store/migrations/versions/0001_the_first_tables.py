"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gateway.domain import columns

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_token_hash")),
    )
    op.create_table(
        "client",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_key", sa.String(length=200), nullable=True),
        sa.Column(
            "language",
            sa.Enum("fr", "en", name="language", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column("disabled_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client")),
        sa.UniqueConstraint("name_key", name=op.f("uq_client_name_key")),
    )
    op.create_index(op.f("ix_client_name"), "client", ["name"], unique=False)

    op.create_table(
        "company",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("siren", sa.String(length=15), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_key", sa.String(length=200), nullable=True),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_company")),
        sa.UniqueConstraint("siren", name=op.f("uq_company_siren")),
    )
    op.create_index(op.f("ix_company_name"), "company", ["name"], unique=False)
    op.create_index(op.f("ix_company_name_key"), "company", ["name_key"], unique=False)

    op.create_table(
        "contract",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("number", sa.String(length=40), nullable=False),
        sa.Column(
            "type",
            sa.Enum(
                "CARD_S", "CARD_I", "OTHER", name="contracttype", native_enum=False, create_constraint=True, length=24
            ),
            nullable=False,
        ),
        sa.Column("type_name", sa.String(length=40), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contract")),
        sa.UniqueConstraint("number", name=op.f("uq_contract_number")),
    )
    op.create_table(
        "evidence_record",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("document_id", sa.String(length=40), nullable=True),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence_record")),
    )
    op.create_index("ix_evidence_record_document", "evidence_record", ["document_id", "id"], unique=False)
    op.create_index("ix_evidence_record_subject", "evidence_record", ["subject", "id"], unique=False)

    op.create_table(
        "idempotency_key",
        sa.Column("token_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_id", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index(op.f("ix_idempotency_key_created_at"), "idempotency_key", ["created_at"], unique=False)

    op.create_table(
        "personal_value",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("value", sa.String(length=320), nullable=True),
        sa.Column("lookup", sa.String(length=64), nullable=True),
        sa.Column("salt", sa.String(length=32), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_personal_value")),
        sa.UniqueConstraint("lookup", name=op.f("uq_personal_value_lookup")),
    )
    op.create_table(
        "company_holding",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("company_id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("from_day", sa.Date(), nullable=False),
        sa.Column("to_day", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_company_holding_client_id_client")),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f("fk_company_holding_company_id_company")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_company_holding")),
    )
    op.create_index(op.f("ix_company_holding_client_id"), "company_holding", ["client_id"], unique=False)
    op.create_index(op.f("ix_company_holding_company_id"), "company_holding", ["company_id"], unique=False)

    op.create_table(
        "contract_holding",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("company_id", sa.String(), nullable=False),
        sa.Column("from_day", sa.Date(), nullable=False),
        sa.Column("to_day", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f("fk_contract_holding_company_id_company")),
        sa.ForeignKeyConstraint(
            ["contract_id"], ["contract.id"], name=op.f("fk_contract_holding_contract_id_contract")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contract_holding")),
    )
    op.create_index(op.f("ix_contract_holding_company_id"), "contract_holding", ["company_id"], unique=False)
    op.create_index(op.f("ix_contract_holding_contract_id"), "contract_holding", ["contract_id"], unique=False)

    op.create_table(
        "delivery_settings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("company_id", sa.String(), nullable=True),
        sa.Column("contract_id", sa.String(), nullable=True),
        sa.Column("valid_from", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("valid_to", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("email_enabled", sa.Boolean(), nullable=False),
        sa.Column("mailbox_ids", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("folder_enabled", sa.Boolean(), nullable=False),
        sa.Column("other_kinds_in_folder", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_delivery_settings_client_id_client")),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f("fk_delivery_settings_company_id_company")),
        sa.ForeignKeyConstraint(
            ["contract_id"], ["contract.id"], name=op.f("fk_delivery_settings_contract_id_contract")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_settings")),
    )
    op.create_index(op.f("ix_delivery_settings_client_id"), "delivery_settings", ["client_id"], unique=False)

    op.create_table(
        "folder",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("user_name", sa.String(length=64), nullable=False),
        sa.Column("formats", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column(
            "receipt_mode",
            sa.Enum(
                "delete",
                "full_read",
                "api",
                "none",
                name="receiptmode",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("all_contracts", sa.Boolean(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_mtime", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_folder_client_id_client")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_folder")),
        sa.UniqueConstraint("user_name", name=op.f("uq_folder_user_name")),
    )
    op.create_index(op.f("ix_folder_client_id"), "folder", ["client_id"], unique=False)

    op.create_table(
        "future_subscription",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("from_day", sa.Date(), nullable=False),
        sa.Column("to_day", sa.Date(), nullable=True),
        sa.Column("terms_version", sa.String(length=20), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_future_subscription_client_id_client")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_future_subscription")),
    )
    op.create_index(op.f("ix_future_subscription_client_id"), "future_subscription", ["client_id"], unique=False)

    op.create_table(
        "mailbox",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("address", sa.String(length=254), nullable=True),
        sa.Column("confirmed_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("confirmed_by", sa.String(length=64), nullable=True),
        sa.Column("suspended_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("suspended_reason", sa.String(length=500), nullable=True),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_mailbox_client_id_client")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailbox")),
        sa.UniqueConstraint("client_id", "address", name=op.f("uq_mailbox_client_id_address")),
    )
    op.create_index(op.f("ix_mailbox_client_id"), "mailbox", ["client_id"], unique=False)

    op.create_table(
        "original_channel",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(length=10), nullable=False),
        sa.Column("from_day", sa.Date(), nullable=False),
        sa.Column("to_day", sa.Date(), nullable=True),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["contract_id"], ["contract.id"], name=op.f("fk_original_channel_contract_id_contract")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_original_channel")),
    )
    op.create_index(op.f("ix_original_channel_contract_id"), "original_channel", ["contract_id"], unique=False)

    op.create_table(
        "subscription",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("from_day", sa.Date(), nullable=False),
        sa.Column("to_day", sa.Date(), nullable=True),
        sa.Column("scope", sa.String(length=12), nullable=False),
        sa.Column("terms_version", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("ended_by", sa.String(length=64), nullable=True),
        sa.Column("ended_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_subscription_client_id_client")),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.id"], name=op.f("fk_subscription_contract_id_contract")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscription")),
    )
    op.create_index(op.f("ix_subscription_client_id"), "subscription", ["client_id"], unique=False)
    op.create_index(op.f("ix_subscription_contract_id"), "subscription", ["contract_id"], unique=False)

    op.create_table(
        "user_account",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("password_hash", sa.String(length=200), nullable=True),
        sa.Column("disabled_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_user_account_client_id_client")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint("email", name=op.f("uq_user_account_email")),
    )
    op.create_index(op.f("ix_user_account_client_id"), "user_account", ["client_id"], unique=False)

    op.create_table(
        "document",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "invoice",
                "credit_note",
                "corrected_invoice",
                "contract",
                "amendment",
                "continuity_report",
                "management_sheet",
                name="kind",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("number", sa.String(length=40), nullable=False),
        sa.Column("issue_date", sa.Date(), nullable=False),
        sa.Column("type_code", sa.String(length=4), nullable=False),
        sa.Column("seller", sa.String(length=15), nullable=False),
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.Column("accepted_key", sa.String(length=120), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("replaces_id", sa.String(), nullable=True),
        sa.Column("contract_id", sa.String(), nullable=True),
        sa.Column("company_id", sa.String(), nullable=True),
        sa.Column("client_id", sa.String(), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("total", columns.Amount(), nullable=True),
        sa.Column("due", columns.Amount(), nullable=True),
        sa.Column("period_start", sa.Date(), nullable=True),
        sa.Column("period_end", sa.Date(), nullable=True),
        sa.Column("corrects", sa.String(length=40), nullable=False),
        sa.Column("corrects_id", sa.String(), nullable=True),
        sa.Column(
            "nature",
            sa.Enum(
                "original",
                "platform_copy",
                "duplicate",
                name="nature",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=True,
        ),
        sa.Column("nature_reason", sa.String(length=300), nullable=False),
        sa.Column("subscription_id", sa.String(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "received",
                "quarantined",
                "sealed",
                "waiting",
                "withdrawn",
                name="documentstate",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("state_reason", sa.String(length=1000), nullable=False),
        sa.Column("received_sha256", sa.String(length=64), nullable=False),
        sa.Column("received_size", sa.Integer(), nullable=False),
        sa.Column("received_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("facts", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("xml_sha256", sa.String(length=64), nullable=True),
        sa.Column("xml_size", sa.Integer(), nullable=True),
        sa.Column("sealed_sha256", sa.String(length=64), nullable=True),
        sa.Column("sealed_size", sa.Integer(), nullable=True),
        sa.Column("due_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("lease_until", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=40), nullable=True),
        sa.Column("updated_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_document_client_id_client")),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f("fk_document_company_id_company")),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.id"], name=op.f("fk_document_contract_id_contract")),
        sa.ForeignKeyConstraint(["corrects_id"], ["document.id"], name=op.f("fk_document_corrects_id_document")),
        sa.ForeignKeyConstraint(["replaces_id"], ["document.id"], name=op.f("fk_document_replaces_id_document")),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscription.id"], name=op.f("fk_document_subscription_id_subscription")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document")),
        sa.UniqueConstraint("accepted_key", name=op.f("uq_document_accepted_key")),
    )
    op.create_index(op.f("ix_document_key"), "document", ["key"], unique=False)
    op.create_index(op.f("ix_document_number"), "document", ["number"], unique=False)
    op.create_index(op.f("ix_document_received_sha256"), "document", ["received_sha256"], unique=False)
    op.create_index(
        "ix_document_to_seal",
        "document",
        ["due_at", "id"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )

    op.create_table(
        "folder_contract",
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.id"], name=op.f("fk_folder_contract_contract_id_contract")),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_folder_contract_folder_id_folder")),
        sa.PrimaryKeyConstraint("folder_id", "contract_id", name=op.f("pk_folder_contract")),
    )
    op.create_table(
        "folder_directory",
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("path_folded", sa.String(length=300), nullable=False),
        sa.Column("path", sa.String(length=300), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_folder_directory_folder_id_folder")),
        sa.PrimaryKeyConstraint("folder_id", "path_folded", name=op.f("pk_folder_directory")),
    )
    op.create_table(
        "ssh_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=60), nullable=False),
        sa.Column("public_key", sa.String(length=4000), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_ssh_key_folder_id_folder")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ssh_key")),
        sa.UniqueConstraint("folder_id", "fingerprint", name=op.f("uq_ssh_key_folder_id_fingerprint")),
    )
    op.create_index(op.f("ix_ssh_key_folder_id"), "ssh_key", ["folder_id"], unique=False)

    op.create_table(
        "user_right",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column(
            "right",
            sa.Enum(
                "documents.manage", "users.manage", name="right", native_enum=False, create_constraint=True, length=24
            ),
            nullable=False,
        ),
        sa.Column("granted_by", sa.String(length=64), nullable=False),
        sa.Column("granted_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("revoked_by", sa.String(length=64), nullable=True),
        sa.Column("revoked_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_user_right_user_id_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_right")),
    )
    op.create_index(op.f("ix_user_right_user_id"), "user_right", ["user_id"], unique=False)

    op.create_table(
        "delivery",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column(
            "channel",
            sa.Enum("email", "folder", name="channel", native_enum=False, create_constraint=True, length=24),
            nullable=False,
        ),
        sa.Column("destination", sa.String(length=40), nullable=False),
        sa.Column("again", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "planned",
                "held",
                "attempting",
                "deferred",
                "uncertain",
                "accepted",
                "delivered",
                "bounced",
                "failed",
                "cancelled",
                "published",
                "received",
                "expired_unread",
                "withdrawn",
                name="deliverystate",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("state_reason", sa.String(length=500), nullable=False),
        sa.Column("settings_id", sa.String(), nullable=True),
        sa.Column("due_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("lease_until", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=40), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_since", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("maybe_sent", sa.Boolean(), nullable=False),
        sa.Column("last_reply", sa.String(length=1000), nullable=False),
        sa.Column("remote_queue_id", sa.String(length=100), nullable=False),
        sa.Column("message_id", sa.String(length=200), nullable=False),
        sa.Column("message_sha256", sa.String(length=64), nullable=True),
        sa.Column("message_size", sa.Integer(), nullable=True),
        sa.Column("message_headers", sa.String(), nullable=False),
        sa.Column("message_forgotten_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("final_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_delivery_client_id_client")),
        sa.ForeignKeyConstraint(["document_id"], ["document.id"], name=op.f("fk_delivery_document_id_document")),
        sa.ForeignKeyConstraint(
            ["settings_id"], ["delivery_settings.id"], name=op.f("fk_delivery_settings_id_delivery_settings")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint(
            "document_id",
            "channel",
            "destination",
            "again",
            name=op.f("uq_delivery_document_id_channel_destination_again"),
        ),
    )
    op.create_index(op.f("ix_delivery_client_id"), "delivery", ["client_id"], unique=False)
    op.create_index("ix_delivery_client_state", "delivery", ["client_id", "state", "id"], unique=False)
    op.create_index(op.f("ix_delivery_document_id"), "delivery", ["document_id"], unique=False)
    op.create_index(
        "ix_delivery_due",
        "delivery",
        ["channel", "due_at", "id"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )

    op.create_table(
        "duplicate",
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("made_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["document_id"], ["document.id"], name=op.f("fk_duplicate_document_id_document")),
        sa.PrimaryKeyConstraint("document_id", name=op.f("pk_duplicate")),
    )
    op.create_table(
        "folder_session",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("protocol", sa.String(length=10), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("address_id", sa.String(length=40), nullable=True),
        sa.Column("banner", sa.String(length=255), nullable=False),
        sa.Column("algorithms", sa.String(length=300), nullable=False),
        sa.Column("highest_sequence", sa.BigInteger(), nullable=False),
        sa.Column("started_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_folder_session_folder_id_folder")),
        sa.ForeignKeyConstraint(["key_id"], ["ssh_key.id"], name=op.f("fk_folder_session_key_id_ssh_key")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_folder_session")),
    )
    op.create_index(op.f("ix_folder_session_folder_id"), "folder_session", ["folder_id"], unique=False)

    op.create_table(
        "seal",
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("made_by", sa.String(length=10), nullable=False),
        sa.Column("signer", sa.String(length=500), nullable=False),
        sa.Column("signer_issuer", sa.String(length=500), nullable=False),
        sa.Column("signer_serial", sa.String(length=50), nullable=False),
        sa.Column("certificate_sha256", sa.String(length=64), nullable=False),
        sa.Column("sealed_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("verification", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.ForeignKeyConstraint(["document_id"], ["document.id"], name=op.f("fk_seal_document_id_document")),
        sa.PrimaryKeyConstraint("document_id", name=op.f("pk_seal")),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("phase", sa.String(length=20), nullable=False),
        sa.Column("relay", sa.String(length=260), nullable=False),
        sa.Column("reply", sa.String(length=1000), nullable=False),
        sa.Column("tls", sa.String(length=60), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name=op.f("fk_attempt_delivery_id_delivery")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    op.create_index(op.f("ix_attempt_delivery_id"), "attempt", ["delivery_id"], unique=False)

    op.create_table(
        "folder_entry",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("area", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("name_folded", sa.String(length=100), nullable=False),
        sa.Column("format", sa.String(length=4), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime", sa.BigInteger(), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("path", sa.String(length=300), nullable=True),
        sa.Column("path_folded", sa.String(length=300), nullable=True),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("read_ranges", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("fully_read_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("renamed_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("removed_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("received_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name=op.f("fk_folder_entry_delivery_id_delivery")),
        sa.ForeignKeyConstraint(["document_id"], ["document.id"], name=op.f("fk_folder_entry_document_id_document")),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_folder_entry_folder_id_folder")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_folder_entry")),
        sa.UniqueConstraint("folder_id", "name_folded", name=op.f("uq_folder_entry_folder_id_name_folded")),
    )
    op.create_index("ix_folder_entry_changed", "folder_entry", ["folder_id", "changed"], unique=False)
    op.create_index(op.f("ix_folder_entry_delivery_id"), "folder_entry", ["delivery_id"], unique=False)
    op.create_index("ix_folder_entry_listed", "folder_entry", ["folder_id", "listed", "sequence"], unique=False)
    op.create_index("ix_folder_entry_month", "folder_entry", ["folder_id", "month", "sequence"], unique=False)

    op.create_table(
        "folder_event",
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column(
            "event",
            sa.Enum(
                "published",
                "published_again",
                "withdrawn",
                name="eventkind",
                native_enum=False,
                create_constraint=True,
                length=24,
            ),
            nullable=False,
        ),
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["folder_entry.id"], name=op.f("fk_folder_event_entry_id_folder_entry")),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_folder_event_folder_id_folder")),
        sa.PrimaryKeyConstraint("folder_id", "sequence", name=op.f("pk_folder_event")),
    )
    op.create_index(op.f("ix_folder_event_entry_id"), "folder_event", ["entry_id"], unique=False)

    op.create_index("ix_document_state", "document", ["state", "id"])
    op.create_index(
        "ix_document_quarantined",
        "document",
        ["key", "received_sha256"],
        unique=True,
        sqlite_where=sa.text("state = 'quarantined'"),
        postgresql_where=sa.text("state = 'quarantined'"),
    )
    op.create_index(
        "ix_document_undelivered",
        "document",
        ["client_id", "company_id", "contract_id", "id"],
        sqlite_where=sa.text("state = 'sealed' AND state_reason <> ''"),
        postgresql_where=sa.text("state = 'sealed' AND state_reason <> ''"),
    )
    op.create_index(
        "ix_folder_session_open",
        "folder_session",
        ["id"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_delivery_state", "delivery", ["state", "id"])
    op.create_index(
        "ix_document_search", "document", ["client_id", "contract_id", sa.text("issue_date DESC"), sa.text("id DESC")]
    )
    _make_insert_only()


def _make_insert_only() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'evidence is insert-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER evidence_record_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence_record "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for what in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER evidence_record_no_{what.lower()} BEFORE {what} ON evidence_record "
            "BEGIN SELECT RAISE(ABORT, 'evidence is insert-only'); END"
        )
    # INSERT OR REPLACE deletes without firing a DELETE trigger.
    op.execute(
        "CREATE TRIGGER evidence_record_no_replace BEFORE INSERT ON evidence_record "
        "WHEN EXISTS (SELECT 1 FROM evidence_record WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'evidence is insert-only'); END"
    )


def downgrade() -> None:
    op.drop_table("folder_event")
    op.drop_table("folder_entry")
    op.drop_table("attempt")
    op.drop_table("seal")
    op.drop_table("folder_session")
    op.drop_table("duplicate")
    op.drop_table("delivery")
    op.drop_table("user_right")
    op.drop_table("ssh_key")
    op.drop_table("folder_directory")
    op.drop_table("folder_contract")
    op.drop_table("document")
    op.drop_table("user_account")
    op.drop_table("subscription")
    op.drop_table("original_channel")
    op.drop_table("mailbox")
    op.drop_table("future_subscription")
    op.drop_table("folder")
    op.drop_table("delivery_settings")
    op.drop_table("contract_holding")
    op.drop_table("company_holding")
    op.drop_table("personal_value")
    op.drop_table("idempotency_key")
    op.drop_table("evidence_record")
    op.drop_table("contract")
    op.drop_table("company")
    op.drop_table("client")
    op.drop_table("api_token")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change")
