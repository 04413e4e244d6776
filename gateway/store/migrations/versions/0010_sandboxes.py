"""What clients keep under sandbox/."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sandbox_file",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(length=300), nullable=False),
        sa.Column("path_folded", sa.String(length=300), nullable=False),
        sa.Column("blob_sha256", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime", sa.BigInteger(), nullable=False),
        sa.Column("is_made", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_sandbox_file_folder_id_folder")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_file")),
        sa.UniqueConstraint("folder_id", "path_folded", name=op.f("uq_sandbox_file_folder_id_path_folded")),
    )
    op.create_index(op.f("ix_sandbox_file_mtime"), "sandbox_file", ["mtime"])
    op.create_table(
        "sandbox_directory",
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("path_folded", sa.String(length=300), nullable=False),
        sa.Column("path", sa.String(length=300), nullable=False),
        sa.Column("mtime", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_sandbox_directory_folder_id_folder")),
        sa.PrimaryKeyConstraint("folder_id", "path_folded", name=op.f("pk_sandbox_directory")),
    )
    op.create_table(
        "sandbox_leftover",
        sa.Column("blob_sha256", sa.String(length=64), nullable=False),
        sa.Column("at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("blob_sha256", name=op.f("pk_sandbox_leftover")),
    )


def downgrade() -> None:
    op.drop_table("sandbox_leftover")
    op.drop_table("sandbox_directory")
    op.drop_table("sandbox_file")
