"""Alembic's entry: migrations run on the connection that `mollm_backend.store` opened."""

from alembic import context

from mollm_backend.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
