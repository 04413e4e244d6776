"""Permits of the legacy SFTP listener."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "legacy_permit",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("folder_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("ends_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_legacy_permit_client_id_client")),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_legacy_permit_folder_id_folder")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legacy_permit")),
    )
    op.create_index(op.f("ix_legacy_permit_client_id"), "legacy_permit", ["client_id"])


def downgrade() -> None:
    op.drop_table("legacy_permit")
