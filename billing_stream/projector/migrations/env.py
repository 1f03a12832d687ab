"""Run by Alembic, on the connection that `projector.migrate` opened."""

from alembic import context

from billing_stream.projector.migrate import VERSIONS_TABLE

done: list[str] = context.config.attributes["done"]
context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSIONS_TABLE,
    on_version_apply=lambda step, **_: done.append(str(step.up_revision_id)),
)
with context.begin_transaction():
    context.run_migrations()
