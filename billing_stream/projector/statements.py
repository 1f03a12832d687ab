"""The statements that write rows, many at a time: one array per column."""

from msgspec import Struct

from billing_stream.records import topics as names

EVENTS = "billing_events"


class Column(Struct, frozen=True):
    """A column: its type, and that of the values sent, which PostgreSQL casts."""

    name: str
    type: str
    sent_as: str


class Statements(Struct, frozen=True):
    """How rows of a table are written and deleted."""

    write: str
    delete: str


def _columns(text: str) -> list[Column]:
    found = []
    for part in text.split(","):
        name, kind, *sent = part.split()
        found.append(Column(name, kind, sent[0] if sent else kind))
    return found


MERCHANTS = _columns(
    "merchant_id uuid, trial_available boolean, trial_started_at timestamptz, "
    "trial_ends_at timestamptz, total_credits_purchased bigint, last_purchase_at timestamptz, "
    "created_at timestamptz, updated_at timestamptz, credits_adjusted bigint, version bigint, "
    "platform text, domain text"
)
# An amount is text until PostgreSQL reads it: exact, and quicker than a Decimal.
PURCHASES = _columns(
    "id uuid, merchant_id uuid, credits bigint, amount numeric text, status text, platform text, "
    "platform_charge_id text, created_at timestamptz, completed_at timestamptz, "
    "expires_at timestamptz, version bigint, currency text, pack text, test boolean, "
    "refunded_amount numeric text, refunded_credits bigint, disputed_credits bigint"
)
EVENT = _columns(
    "event_id uuid, merchant_id uuid, event_type text, sequence bigint, cause text, "
    "correlation_id text, at timestamptz, credits_delta bigint, topic text, partition integer, "
    '"offset" bigint, data jsonb'
)


def _statements(table: str, columns: list[Column], on_conflict: str) -> Statements:
    listed = ", ".join(column.name for column in columns)
    cast = ", ".join(f"{c.name}::{c.type}" for c in columns)
    arrays = ", ".join(f"${n}::{c.sent_as}[]" for n, c in enumerate(columns, 1))
    key = columns[0].name
    return Statements(
        f"INSERT INTO {table} ({listed}) SELECT {cast} FROM unnest({arrays}) AS u ({listed}) "
        f"ON CONFLICT ({key}) {on_conflict}",
        f"DELETE FROM {table} WHERE {key} = ANY($1::uuid[])",
    )


def _by_version(table: str, columns: list[Column]) -> str:
    changed = ", ".join(f"{c.name} = excluded.{c.name}" for c in columns[1:])
    # A row that was written before, or that is older than what stands there, changes nothing.
    return f"DO UPDATE SET {changed} WHERE {table}.version < excluded.version"


STATEMENTS = {
    names.BILLING_RECORDS: _statements(
        names.BILLING_RECORDS, MERCHANTS, _by_version(names.BILLING_RECORDS, MERCHANTS)
    ),
    names.CREDIT_PURCHASES: _statements(
        names.CREDIT_PURCHASES, PURCHASES, _by_version(names.CREDIT_PURCHASES, PURCHASES)
    ),
    EVENTS: _statements(EVENTS, EVENT, "DO NOTHING"),
}
