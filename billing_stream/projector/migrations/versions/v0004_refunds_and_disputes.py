"""What was refunded of purchases, and taken for disputes.

Projectors of the version before work with these tables: columns are added only, with defaults.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    """
    ALTER TABLE credit_purchases ADD COLUMN refunded_amount numeric NOT NULL DEFAULT 0,
        ADD COLUMN refunded_credits bigint NOT NULL DEFAULT 0,
        ADD COLUMN disputed_credits bigint NOT NULL DEFAULT 0
    """,
    """
    COMMENT ON COLUMN credit_purchases.refunded_amount IS
        'In the currency of the purchase; failed refunds are not in it.'
    """,
    """
    COMMENT ON COLUMN credit_purchases.disputed_credits IS
        'Taken for disputes, beyond those that were refunded.'
    """,
    # What earlier releases refunded, their events say.
    """
    UPDATE credit_purchases p SET refunded_amount = e.amount, refunded_credits = e.credits
    FROM (
        SELECT (data->>'purchase_id')::uuid AS id, sum((data->>'amount')::numeric) AS amount,
            sum((data->>'credits')::bigint) AS credits
        FROM billing_events WHERE event_type = 'evt.billing.purchase.refunded.v1' GROUP BY 1
    ) e
    WHERE p.id = e.id
    """,
)


def upgrade() -> None:
    """Add the columns, and fill them with what was refunded before."""
    op.execute("LOCK TABLE projection_positions IN EXCLUSIVE MODE")
    for statement in STATEMENTS:
        op.execute(statement)
