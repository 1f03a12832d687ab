"""Totals of 64 bits, gaps, the last record of each position, and rejects that are tried again.

Projectors of the version before work with these tables: columns are added or widened only.
"""

from typing import Any

from alembic import op
from sqlalchemy import text

from billing_stream.projector.projector_errors import ProjectionError

revision = "0002"
down_revision = "0001"

TABLES = """
ALTER TABLE billing_records ALTER COLUMN total_credits_purchased TYPE bigint,
    ALTER COLUMN credits_adjusted TYPE bigint;
ALTER TABLE credit_purchases ALTER COLUMN credits TYPE bigint;

ALTER TABLE projection_positions ADD COLUMN last_offset bigint, ADD COLUMN last_digest text;

ALTER TABLE projection_rejects ADD COLUMN headers text, ADD COLUMN tried_at timestamptz;

CREATE TABLE projection_gaps (
    topic text NOT NULL,
    partition integer NOT NULL,
    kind text NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    accepted_at timestamptz,
    accepted_by text,
    accepted_reason text,
    resumed_at timestamptz,
    PRIMARY KEY (topic, partition, kind, from_offset)
);
"""

COMMENTS = """
COMMENT ON COLUMN projection_positions.last_digest IS
    'Of the record at last_offset: shows whether this is still the log that was read.';
COMMENT ON COLUMN projection_rejects.headers IS
    'JSON, values in base64; null: kept by a release that did not store headers.';
COMMENT ON TABLE projection_gaps IS
    'Offsets that this projection lacks (trimmed) or has of another log (replaced).';
COMMENT ON COLUMN projection_gaps.to_offset IS 'The first offset after the gap.';
COMMENT ON COLUMN projection_gaps.resumed_at IS
    'When a stopped partition was read again from its beginning, after accepted_at.';
"""

VIEWS = """
CREATE OR REPLACE VIEW billing_history AS
SELECT event_id, merchant_id, sequence, event_type, at, credits_delta,
    (sum(credits_delta) OVER (PARTITION BY merchant_id ORDER BY sequence))::bigint
        AS balance_after,
    cause, correlation_id, topic || '[' || partition || ']@' || "offset" AS place, data,
    row_number() OVER (PARTITION BY merchant_id ORDER BY sequence) = sequence AS complete
FROM billing_events;
COMMENT ON VIEW billing_history IS
    'The events of each merchant with its balance after each; where not complete, earlier events '
    'are missing and the balance lacks them.';
"""

WIDENED = {
    "billing_records": ["total_credits_purchased", "credits_adjusted"],
    "credit_purchases": ["credits"],
}

_DEPENDENTS = """
WITH RECURSIVE dependents AS (
    SELECT w.ev_class AS oid, 1 AS depth
    FROM pg_depend d
    JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    JOIN pg_class t ON t.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
    WHERE t.relnamespace = CAST(:schema AS regnamespace)
        AND t.relname || '.' || a.attname = ANY(:columns)
    UNION
    SELECT w.ev_class, v.depth + 1
    FROM dependents v
    JOIN pg_depend d ON d.refobjid = v.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    WHERE w.ev_class <> v.oid
)
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind::text AS kind,
    pg_get_viewdef(c.oid) AS definition, array_to_string(c.reloptions, ', ') AS options,
    obj_description(c.oid, 'pg_class') AS comment
FROM (SELECT oid, max(depth) AS depth FROM dependents GROUP BY oid) v
JOIN pg_class c ON c.oid = v.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY v.depth, name
"""
_RIGHTS = """
SELECT format('ALTER VIEW %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(c.relowner))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = :oid AND pg_get_userbyid(c.relowner) <> current_user
UNION ALL
SELECT format('GRANT %s%s ON %I.%I TO %s%s', a.privilege_type, ' (' || quote_ident(a.name) || ')',
    n.nspname, c.relname,
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT NULL::name AS name, t.* FROM aclexplode(c.relacl) t
    UNION ALL
    SELECT k.attname, t.* FROM pg_attribute k CROSS JOIN aclexplode(k.attacl) t
    WHERE k.attrelid = c.oid
) a
WHERE c.oid = :oid AND a.grantee <> c.relowner
"""


def upgrade() -> None:
    """Widen, add, and put the views back."""
    # As projectors do: positions first, so that none of them waits for us while we wait for it.
    op.execute("LOCK TABLE projection_positions IN EXCLUSIVE MODE")
    views = _take_views_off(op.get_bind())
    for script in (TABLES, COMMENTS, VIEWS):
        for statement in script.split(";\n"):
            if statement.strip():
                op.execute(statement)
    for statement in views:
        op.get_bind().exec_driver_sql(statement)


def _take_views_off(connection: Any) -> list[str]:
    """Drop the views on widened columns; the statements that make them again, with rights."""
    schema = connection.execute(text("SELECT current_schema()")).scalar()
    columns = [f"{table}.{name}" for table, listed in WIDENED.items() for name in listed]
    # So that definitions of views name their schemas.
    connection.execute(text("SET LOCAL search_path = pg_catalog"))
    asked = {"schema": schema, "columns": columns}
    found = connection.execute(text(_DEPENDENTS), asked).mappings().all()
    fixed = [view["name"] for view in found if view["kind"] != "v"]
    if fixed:
        raise ProjectionError(
            f"materialized views depend on columns that this version widens: {', '.join(fixed)}. "
            "Drop them, run `billing-stream projector migrate`, and create them again"
        )
    again = []
    for view in found:
        options = f" WITH ({view['options']})" if view["options"] else ""
        again.append(f"CREATE VIEW {view['name']}{options} AS {view['definition']}")
        if view["comment"]:
            quoted = view["comment"].replace("'", "''")
            again.append(f"COMMENT ON VIEW {view['name']} IS '{quoted}'")
        again += connection.execute(text(_RIGHTS), {"oid": view["oid"]}).scalars()
    for view in reversed(found):
        connection.execute(text(f"DROP VIEW {view['name']}"))
    connection.execute(text(f"SET LOCAL search_path = {schema}"))
    return again
