"""Rules of a folder: its layout, its names, its times; and the folders inside an inbox that a layout has."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # With its CHECK, in words that both databases know: SQLite cannot add one later.
    op.execute(
        "ALTER TABLE folder ADD COLUMN layout VARCHAR(24) NOT NULL DEFAULT 'flat'"
        " CONSTRAINT ck_folder_layout CHECK (layout IN ('flat', 'by_contract'))"
    )
    op.add_column("folder", sa.Column("name_template", sa.String(length=100), nullable=True))
    op.add_column("folder", sa.Column("inbox_days", sa.Integer(), nullable=True))
    op.add_column("folder", sa.Column("linger_minutes", sa.Integer(), nullable=True))
    op.add_column("folder_entry", sa.Column("directory", sa.String(length=61), nullable=False, server_default=""))
    op.add_column("folder_directory", sa.Column("by_layout", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("folder_directory", "by_layout")
    op.drop_column("folder_entry", "directory")
    with op.batch_alter_table("folder") as folder:
        folder.drop_constraint(op.f("ck_folder_layout"), type_="check")
        for name in ("linger_minutes", "inbox_days", "name_template", "layout"):
            folder.drop_column(name)
