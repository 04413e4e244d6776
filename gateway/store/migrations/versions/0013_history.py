"""What clients had on the server before, in the archives of their folders."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "history_file",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_folded", sa.String(length=300), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime", sa.BigInteger(), nullable=False),
        sa.Column("import_id", sa.String(length=40), nullable=False),
        sa.Column("imported_at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_history_file_folder_id_folder")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_history_file")),
        sa.UniqueConstraint("folder_id", "month", "name_folded", name="uq_history_file_folder_id_month_name_folded"),
    )
    op.create_index("ix_history_file_name", "history_file", ["folder_id", "name_folded"])
    op.add_column("folder", sa.Column("imports", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("folder", "imports")
    op.drop_index("ix_history_file_name", "history_file")
    op.drop_table("history_file")
