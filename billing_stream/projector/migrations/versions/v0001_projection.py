"""The tables of the old service, the history of events, positions and views.

No CHECK and no foreign key: the log is the truth, and its oddities must be seen here too,
not stop the projection.
"""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE billing_records (
    merchant_id uuid PRIMARY KEY,
    trial_available boolean NOT NULL DEFAULT true,
    trial_started_at timestamptz,
    trial_ends_at timestamptz,
    total_credits_purchased integer NOT NULL DEFAULT 0,
    last_purchase_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    credits_adjusted integer NOT NULL DEFAULT 0,
    version bigint NOT NULL
) WITH (fillfactor = 80);

CREATE TABLE credit_purchases (
    id uuid PRIMARY KEY,
    merchant_id uuid NOT NULL,
    credits integer NOT NULL,
    amount numeric NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    platform text NOT NULL,
    platform_charge_id text,
    created_at timestamptz NOT NULL,
    completed_at timestamptz,
    expires_at timestamptz NOT NULL,
    version bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX credit_purchases_merchant_id_idx ON credit_purchases (merchant_id, created_at);
CREATE INDEX credit_purchases_status_idx ON credit_purchases (status);
-- A charge is unique per merchant; the charge comes first, for who looks for it alone.
CREATE UNIQUE INDEX credit_purchases_platform_charge_id_key
    ON credit_purchases (platform_charge_id, merchant_id);

CREATE TABLE billing_events (
    event_id uuid PRIMARY KEY,
    merchant_id uuid NOT NULL,
    event_type text NOT NULL,
    sequence bigint NOT NULL,
    cause text,
    correlation_id text,
    at timestamptz NOT NULL,
    credits_delta bigint NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    data jsonb NOT NULL
);
CREATE INDEX billing_events_merchant_id_sequence_idx ON billing_events (merchant_id, sequence);
CREATE INDEX billing_events_event_type_at_idx ON billing_events (event_type, at);

CREATE TABLE projection_positions (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE projection_rejects (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    reason text NOT NULL,
    key bytea,
    value bytea,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, "offset")
);
"""

COMMENTS = """
COMMENT ON TABLE billing_records IS
    'One row per merchant, as of the log. Written by billing-stream projector alone.';
COMMENT ON TABLE credit_purchases IS
    'One row per purchase, as of the log. Written by billing-stream projector alone.';
COMMENT ON TABLE billing_events IS 'Everything that happened, append-only.';
COMMENT ON COLUMN billing_events.sequence IS 'Numbers a merchant''s events 1, 2, 3 without gaps.';
COMMENT ON COLUMN billing_events.cause IS
    'The record that caused it, topic[partition]@offset, or http, timer, cli.';
COMMENT ON COLUMN billing_events.credits_delta IS
    'What this event adds to the merchant''s balance; 0 for a trial.';
COMMENT ON TABLE projection_positions IS
    'The next offset of each partition; committed together with the rows before it.';
COMMENT ON TABLE projection_rejects IS 'Records that fit into no table, whole, and why.';
"""

VIEWS = """
CREATE VIEW billing_history AS
SELECT event_id, merchant_id, sequence, event_type, at, credits_delta,
    (sum(credits_delta) OVER (PARTITION BY merchant_id ORDER BY sequence))::bigint
        AS balance_after,
    cause, correlation_id, topic || '[' || partition || ']@' || "offset" AS place, data
FROM billing_events;
COMMENT ON VIEW billing_history IS
    'The events of each merchant with its balance after each.';

CREATE VIEW billing_revenue_daily AS
SELECT day, pack, credits, purchases, revenue, refunds, refunded, revenue - refunded AS net
FROM (
    SELECT (CASE e.event_type
            -- Paid before this service was there: on the day it was paid, not that of the import.
            WHEN 'evt.billing.credits.imported.v1' THEN COALESCE(p.completed_at, p.created_at)
            ELSE e.at END AT TIME ZONE 'UTC')::date AS day,
        CASE p.credits WHEN 100 THEN 'small' WHEN 500 THEN 'medium' WHEN 1000 THEN 'large'
            ELSE 'other' END AS pack,
        p.credits,
        count(*) FILTER (WHERE bought) AS purchases,
        COALESCE(sum((e.data->>'amount')::numeric) FILTER (WHERE bought), 0) AS revenue,
        count(*) FILTER (WHERE NOT bought) AS refunds,
        COALESCE(sum((e.data->>'amount')::numeric) FILTER (WHERE NOT bought), 0) AS refunded
    FROM billing_events e
    CROSS JOIN LATERAL
        (SELECT e.event_type <> 'evt.billing.purchase.refunded.v1' AS bought) kind
    JOIN credit_purchases p ON p.id = (e.data->>'purchase_id')::uuid
    WHERE e.event_type IN ('evt.billing.credits.purchased.v1',
        'evt.billing.credits.imported.v1', 'evt.billing.purchase.refunded.v1')
    GROUP BY 1, 2, 3
) daily;
COMMENT ON VIEW billing_revenue_daily IS
    'Per UTC day and pack: paid purchases and refunds, each on the day it was told.';

CREATE VIEW billing_trial_conversion AS
SELECT (r.trial_started_at AT TIME ZONE 'UTC')::date AS day,
    count(*) AS trials,
    count(*) FILTER (WHERE r.trial_ends_at <= now()) AS ended,
    count(paid.first_at) AS converted,
    count(*) FILTER (WHERE paid.first_at <= r.trial_ends_at) AS converted_during_trial,
    round(count(paid.first_at)::numeric / count(*), 4) AS conversion
FROM billing_records r
LEFT JOIN LATERAL (
    SELECT min(p.completed_at) AS first_at FROM credit_purchases p
    WHERE p.merchant_id = r.merchant_id AND p.completed_at >= r.trial_started_at
) paid ON true
WHERE r.trial_started_at IS NOT NULL
GROUP BY 1;
COMMENT ON VIEW billing_trial_conversion IS
    'Per UTC day on which trials began: how many of those merchants paid afterwards.';
"""


def upgrade() -> None:
    """Make everything."""
    for script in (TABLES, COMMENTS, VIEWS):
        for statement in script.split(";\n"):
            if statement.strip():
                op.execute(statement)
