"""How much of a folder was asked for again lately is counted without a look at all its deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_delivery_again",
        "delivery",
        ["destination", "created_at"],
        sqlite_where=sa.text("again > 0"),
        postgresql_where=sa.text("again > 0"),
    )


def downgrade() -> None:
    op.drop_index("ix_delivery_again", "delivery")
