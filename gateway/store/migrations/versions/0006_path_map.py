"""A folder's path map: the paths of the server before."""

import sqlalchemy as sa
from alembic import op

from gateway.domain import columns

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("folder", sa.Column("path_map", columns.JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("folder", "path_map")
