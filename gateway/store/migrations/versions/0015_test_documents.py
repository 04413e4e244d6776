"""Test documents that were made for clients, and what the clients did with them."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sandbox_test",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("number", sa.String(length=35), nullable=False),
        sa.Column("format", sa.String(length=4), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("made_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("made_by", sa.String(length=64), nullable=False),
        sa.Column("read_ranges", columns.JSON, nullable=False),
        sa.Column("fully_read_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("removed_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_sandbox_test_folder_id_folder")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_test")),
    )
    op.create_index(op.f("ix_sandbox_test_folder"), "sandbox_test", ["folder_id", "made_at"])


def downgrade() -> None:
    op.drop_table("sandbox_test")
