"""Log-ins and negotiations that failed, with their cause."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "failed_connection",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", columns.UTCDateTime(timezone=True), nullable=False),
        sa.Column("protocol", sa.String(length=12), nullable=False),
        sa.Column("address_id", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=40), nullable=True),
        sa.Column("user_name", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("cause", sa.String(length=1000), nullable=False),
        sa.Column("banner", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_failed_connection")),
    )
    op.create_index("ix_failed_connection_at", "failed_connection", ["at"])
    op.create_index("ix_failed_connection_client", "failed_connection", ["client_id", "id"])


def downgrade() -> None:
    op.drop_table("failed_connection")
