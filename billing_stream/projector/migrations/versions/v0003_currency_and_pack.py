"""Currency, pack and test flag of purchases; revenue per currency, without test purchases.

Projectors of the version before work with these tables: columns are added only, and the currency
has a default for what they write.
"""

from alembic import context, op
from sqlalchemy import text

from billing_stream.projector.projector_errors import ProjectionError

revision = "0003"
down_revision = "0002"

TABLES = """
ALTER TABLE credit_purchases ADD COLUMN currency text, ADD COLUMN pack text,
    ADD COLUMN test boolean NOT NULL DEFAULT false;
"""

COMMENTS = """
COMMENT ON COLUMN credit_purchases.currency IS 'Of the amount, ISO 4217.';
COMMENT ON COLUMN credit_purchases.pack IS
    'Null: imported, or opened by a release up to 0.5.1, which did not store it.';
COMMENT ON COLUMN credit_purchases.test IS 'The platform took no money for it.';
"""

VIEWS = """
CREATE OR REPLACE VIEW billing_revenue_daily AS
SELECT day, pack, credits, purchases, revenue, refunds, refunded, revenue - refunded AS net,
    currency
FROM (
    SELECT (CASE e.event_type
            -- Paid before this service was there: on the day it was paid, not that of the import.
            WHEN 'evt.billing.credits.imported.v1' THEN COALESCE(p.completed_at, p.created_at)
            ELSE e.at END AT TIME ZONE 'UTC')::date AS day,
        COALESCE(p.pack, CASE p.credits WHEN 100 THEN 'small' WHEN 500 THEN 'medium'
            WHEN 1000 THEN 'large' ELSE 'other' END) AS pack,
        p.credits,
        count(*) FILTER (WHERE bought) AS purchases,
        COALESCE(sum((e.data->>'amount')::numeric) FILTER (WHERE bought), 0) AS revenue,
        count(*) FILTER (WHERE NOT bought) AS refunds,
        COALESCE(sum((e.data->>'amount')::numeric) FILTER (WHERE NOT bought), 0) AS refunded,
        p.currency
    FROM billing_events e
    CROSS JOIN LATERAL
        (SELECT e.event_type <> 'evt.billing.purchase.refunded.v1' AS bought) kind
    JOIN credit_purchases p ON p.id = (e.data->>'purchase_id')::uuid
    WHERE e.event_type IN ('evt.billing.credits.purchased.v1',
        'evt.billing.credits.imported.v1', 'evt.billing.purchase.refunded.v1')
        AND NOT p.test
    GROUP BY 1, 2, 3, p.currency
) daily;
COMMENT ON VIEW billing_revenue_daily IS
    'Per UTC day, pack and currency: paid purchases and refunds, each on the day it was told. '
    'Test purchases are left out.';
"""


def upgrade() -> None:
    """Add the columns; purchases that are there have the currency of old rows."""
    op.execute("LOCK TABLE projection_positions IN EXCLUSIVE MODE")
    connection = op.get_bind()
    currency = context.config.attributes.get("currency_of_old_rows")
    if currency is None and connection.execute(text("SELECT 1 FROM credit_purchases")).first():
        raise ProjectionError(
            "BILLING_CURRENCY_OF_OLD_ROWS is not set, and these tables have purchases of 0.5.1 or "
            "older, which did not store their currency. Set it to what BILLING_CURRENCY was until "
            "now, e.g. BILLING_CURRENCY_OF_OLD_ROWS=USD (docs/upgrade.md)"
        )
    for script in (TABLES, COMMENTS, VIEWS):
        for statement in script.split(";\n"):
            if statement.strip():
                op.execute(statement)
    if currency is not None:
        # Three capitals: the settings and the log have nothing else.
        op.execute(f"ALTER TABLE credit_purchases ALTER COLUMN currency SET DEFAULT '{currency}'")
        op.execute("UPDATE credit_purchases SET currency = DEFAULT")
