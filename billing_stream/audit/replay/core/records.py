"""The records of one merchant, and the outcome of deciding it again. JSON between processes."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field


class Input(Struct, kw_only=True):
    """An input record as the Kafka client gave it; `timestamp` is in ms since the epoch.

    `base` is its topic without prefix.
    """

    base: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()

    @property
    def ref(self) -> str:
        """`topic[partition]@offset`."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


class Entry(Struct):
    """A record of the journal."""

    ref: str
    value: bytes


class RecordedEvent(Struct, kw_only=True):
    """A published event. `at` is RFC 3339 text; `cause` a record reference, or an origin."""

    event_id: str
    type: str
    at: str
    correlation_id: str
    sequence: int
    cause: str
    data: dict[str, Any]
    # The name in `explain --json`.
    ref: str = field(default="", name="place")


class RecordedDeadLetter(Struct):
    """A dead letter of an input record: why, and its time (of a webhook, when it was parked).

    `offset` is its own, in the dead letters of the partition.
    """

    reason: str
    at: str
    offset: int


class Row(Struct):
    """A row as a changelog has it; without a `value` when it was deleted."""

    table: str
    key: str
    value: dict[str, Any] | None


class KnownVersion(Struct):
    """A version of the catalogue that the partition knew when `after` commands were decided."""

    after: int
    version: dict[str, Any]


class Recorded(Struct, kw_only=True):
    """One merchant's whole history.

    `order` are the references of `inputs` and `entries` as they were decided; of `unproved`
    records it is that of their times, as no other is written. `events` are by sequence. `letters`
    are the dead letters by the reference of the record. `rows` are as old as the changelogs still
    have them, the last of a key is the present one. `older_rules` are the references of records
    that were decided by an older version of the rules. From `reminded_from` on (RFC 3339) workers
    are known to have published reminders of trials.
    """

    merchant_id: str
    inputs: list[Input] = []
    entries: list[Entry] = []
    events: list[RecordedEvent] = []
    letters: dict[str, list[RecordedDeadLetter]] = {}
    rows: list[Row] = []
    order: list[str] = []
    unproved: int = 0
    versions: list[KnownVersion] = []
    older_rules: list[str] = []
    reminded_from: str | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """One thing that is otherwise than recorded.

    `kind` is `event missing`, `event extra`, `event differs`, `dead letter missing`,
    `dead letter extra`, `row missing`, `row extra` or `row differs`. `subject` is the id of an
    event, the place of a record or the key of a row, `type` its event type, topic or table;
    `cause` is what caused the event, as recorded where it was, and `at` (RFC 3339) when.
    """

    merchant_id: str
    kind: str
    type: str
    subject: str
    field: str | None = None
    recorded: Any = None
    replayed: Any = None
    cause: str | None = None
    at: str | None = None


class Step(Struct, kw_only=True):
    """What one command did. `name` is the place of its record or of its entry in the journal.

    `origin` is empty for a command from a topic. `at` is the merchant's time after it.
    `claimed` are the references of waiting webhooks that it applied. `refused` is the code and
    message of a refusal, or why the record is bad. `merchant` is the row after it, None when
    nothing changed.
    """

    name: str
    origin: str
    command: dict[str, Any]
    now: str
    at: str
    events: list[RecordedEvent] = []
    claimed: list[str] = []
    given_up: list[str] = []
    refused: str | None = None
    merchant: dict[str, Any] | None = None
    purchases: list[dict[str, Any]] = []


class Outcome(Struct, kw_only=True):
    """The outcome. `steps` are filled on demand.

    `by_older_rules` are the records that the rules of then decided otherwise than those of now.
    """

    merchant_id: str
    by_older_rules: list[str] = []
    differences: list[Difference] = []
    steps: list[Step] = []


class Job(Struct, kw_only=True):
    """What a driver reads first. `policy` are the numbers that are not the code's own."""

    root: str
    policy: dict[str, Any] = field(default_factory=dict)
    max_record_bytes: int = 262_144
