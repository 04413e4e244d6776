"""Alembic's environment: runs migrations on the connection that `upgrade` hands over."""

from alembic import context

from gateway.domain.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
