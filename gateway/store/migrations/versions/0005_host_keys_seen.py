"""Which host keys a folder's clients were told of, asked the proof of, and were served by."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "host_key_seen",
        sa.Column("folder_id", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=60), nullable=False),
        sa.Column("announced_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("proven_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.Column("used_at", columns.UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["folder_id"], ["folder.id"], name=op.f("fk_host_key_seen_folder_id_folder")),
        sa.PrimaryKeyConstraint("folder_id", "fingerprint", name=op.f("pk_host_key_seen")),
    )


def downgrade() -> None:
    op.drop_table("host_key_seen")
