"""Accounts of the issuer's own systems, which hand documents in over SFTP and FTPS."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("folder", sa.Column("is_intake", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("folder", "is_intake")
