"""Endpoints, events that wait or may be delivered again, and how far the log was read.

`projection_positions` is as in the schema of the projection: the same statements use it.
"""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE webhook_endpoints (
        id text PRIMARY KEY,
        url text NOT NULL,
        event_types text[],
        begins_at timestamptz NOT NULL,
        secret text NOT NULL,
        old_secret text,
        old_secret_until timestamptz,
        disabled_at timestamptz,
        disabled_because text,
        failing_since timestamptz,
        last_error text
    )
    """,
    "COMMENT ON COLUMN webhook_endpoints.event_types IS 'Null: all.'",
    "COMMENT ON COLUMN webhook_endpoints.begins_at IS 'Earlier events are not delivered.'",
    "COMMENT ON COLUMN webhook_endpoints.failing_since IS 'The first failure after a success.'",
    """
    CREATE TABLE webhook_events (
        event_id text PRIMARY KEY,
        merchant_id text NOT NULL,
        sequence bigint NOT NULL,
        event_type text NOT NULL,
        at timestamptz NOT NULL,
        body bytea NOT NULL,
        UNIQUE (merchant_id, sequence)
    )
    """,
    "CREATE INDEX webhook_events_at_idx ON webhook_events (at)",
    """
    CREATE TABLE webhook_merchants (
        merchant_id text PRIMARY KEY,
        sequence bigint NOT NULL,
        waiting_since timestamptz
    )
    """,
    """
    COMMENT ON COLUMN webhook_merchants.sequence IS
        'All events up to this one were read, and are queued.'
    """,
    """
    COMMENT ON COLUMN webhook_merchants.waiting_since IS
        'A later event was read, and one before it was not.'
    """,
    """
    CREATE INDEX webhook_merchants_waiting_idx ON webhook_merchants (waiting_since)
        WHERE waiting_since IS NOT NULL
    """,
    """
    CREATE TABLE webhook_deliveries (
        endpoint_id text NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
        merchant_id text NOT NULL,
        sequence bigint NOT NULL,
        event_id text NOT NULL REFERENCES webhook_events,
        PRIMARY KEY (endpoint_id, merchant_id, sequence)
    )
    """,
    "CREATE INDEX webhook_deliveries_event_id_idx ON webhook_deliveries (event_id)",
    """
    CREATE TABLE webhook_queues (
        endpoint_id text NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
        merchant_id text NOT NULL,
        due_at timestamptz NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        failing_since timestamptz,
        PRIMARY KEY (endpoint_id, merchant_id)
    )
    """,
    "CREATE INDEX webhook_queues_due_at_idx ON webhook_queues (endpoint_id, due_at)",
    """
    COMMENT ON TABLE webhook_queues IS
        'Merchants with deliveries to an endpoint; due_at is when the next one is sent.'
    """,
    """
    CREATE TABLE projection_positions (
        topic text NOT NULL,
        partition integer NOT NULL,
        next_offset bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        last_offset bigint,
        last_digest text,
        PRIMARY KEY (topic, partition)
    )
    """,
)


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
