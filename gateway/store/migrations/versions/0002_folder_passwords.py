"""Passwords that open a drop folder, which of them opened a session, and the networks that a folder's client has."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "folder_password",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("hash", sa.String(length=200), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_folder_password_folder_id_folder")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_folder_password")),
    )
    op.create_index(op.f("ix_folder_password_folder_id"), "folder_password", ["folder_id"])
    op.add_column("folder", sa.Column("networks", columns.JSON, nullable=True))
    op.add_column("folder_session", sa.Column("password_id", sa.String(length=40), nullable=True))


def downgrade() -> None:
    op.drop_column("folder_session", "password_id")
    op.drop_column("folder", "networks")
    op.drop_table("folder_password")
