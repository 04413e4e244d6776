"""Clients in dry run."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("client", sa.Column("dry_run", sa.Boolean(), nullable=False, server_default=sa.false()))
    where = sa.text("dry_run")
    op.create_index("ix_client_dry_run", "client", ["id"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_client_dry_run", "client")
    op.drop_column("client", "dry_run")
