"""The monthly lists of folders' numbers, of months that are over."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "folder_month",
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime", sa.BigInteger(), nullable=False),
        sa.Column("made_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_folder_month_folder_id_folder")),
        sa.PrimaryKeyConstraint("folder_id", "month", name=op.f("pk_folder_month")),
    )


def downgrade() -> None:
    op.drop_table("folder_month")
