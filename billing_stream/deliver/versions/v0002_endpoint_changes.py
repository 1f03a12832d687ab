"""Changes of endpoints that are not in Kafka yet; those of endpoints that are there begin it."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    """
    CREATE TABLE webhook_endpoint_changes (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        endpoint_id text NOT NULL,
        state text NOT NULL,
        url text NOT NULL,
        reason text,
        last_error text,
        queued bigint NOT NULL
    )
    """,
    """
    COMMENT ON TABLE webhook_endpoint_changes IS
        'Written with the change, and deleted when Kafka has its event.'
    """,
    """
    INSERT INTO webhook_endpoint_changes (endpoint_id, state, url, reason, last_error, queued)
    SELECT id, CASE WHEN disabled_at IS NULL THEN 'enabled' ELSE 'disabled' END, url,
        disabled_because, last_error,
        (SELECT count(*) FROM webhook_deliveries d WHERE d.endpoint_id = e.id)
    FROM webhook_endpoints e ORDER BY id
    """,
)


def upgrade() -> None:
    """Make the table."""
    for statement in STATEMENTS:
        op.execute(statement)
