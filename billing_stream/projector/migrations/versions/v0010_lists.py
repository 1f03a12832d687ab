"""Shops of merchants, indexes for lists of merchants and purchases, and when all was projected.

Projectors of the version before work with these tables: columns are added only, without a default.
Rows that they projected have no shop until the merchant changes, or the projection is rebuilt.
"""

from alembic import op

revision = "0010"
down_revision = "0004"

STATEMENTS = (
    "ALTER TABLE billing_records ADD COLUMN platform text, ADD COLUMN domain text",
    """
    COMMENT ON COLUMN billing_records.domain IS
        'Of the shop; empty: none, or erased. Null: projected by a release that did not store it.'
    """,
    "ALTER TABLE projection_positions ADD COLUMN complete_at timestamptz",
    """
    COMMENT ON COLUMN projection_positions.complete_at IS
        'When all that was committed in this partition was projected, last.'
    """,
    "CREATE INDEX billing_records_created_at_idx ON billing_records (created_at, merchant_id)",
    """
    CREATE INDEX billing_records_last_purchase_at_idx
        ON billing_records (last_purchase_at, merchant_id) WHERE last_purchase_at IS NOT NULL
    """,
    "CREATE INDEX credit_purchases_created_at_idx ON credit_purchases (created_at, id)",
    """
    CREATE INDEX credit_purchases_status_created_at_idx
        ON credit_purchases (status, created_at, id)
    """,
    """
    CREATE INDEX credit_purchases_platform_created_at_idx
        ON credit_purchases (platform, created_at, id)
    """,
    """
    CREATE INDEX credit_purchases_completed_at_idx ON credit_purchases (completed_at)
        WHERE completed_at IS NOT NULL
    """,
    # The index above begins with it.
    "DROP INDEX IF EXISTS credit_purchases_status_idx",
)


def upgrade() -> None:
    """Add the columns and the indexes."""
    op.execute("LOCK TABLE projection_positions IN EXCLUSIVE MODE")
    for statement in STATEMENTS:
        op.execute(statement)
