"""What a folder's clients received last is found without a look at its whole archive."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_folder_entry_received", "folder_entry", ["folder_id", "received_at"])


def downgrade() -> None:
    op.drop_index("ix_folder_entry_received", "folder_entry")
