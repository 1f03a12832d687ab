"""What the engine asks of the application: decide, collect, apply. It knows no Kafka."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from billing_stream.records.operator_commands import InputCommand
from billing_stream.records.schemas import Headers, InputRecord
from billing_stream.records.topics import Topics

ChangelogRows = Sequence[tuple[bytes, bytes | None]]
"""Keys and values of a changelog; None deletes."""


class Outgoing(Struct, frozen=True, gc=False):
    """A record to be written. `partition` None: the lane's own."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


class Request(NamedTuple):
    """A command that comes from no topic. `origin` is http, timer, cli or operator:<who>.

    `traceparent` (W3C) is that of the caller, when it is traced.
    """

    command: Any
    origin: str
    correlation_id: str
    traceparent: str | None = None


FAILED = "a rule failed on this request: nothing was done, and the failure is logged"


class RequestFailed(Exception):
    """The application failed on a request, and nothing of it is done or stored."""

    def __init__(self) -> None:
        super().__init__(FAILED)


class MustWait(Exception):
    """A command cannot be decided in this transaction, as others must be before. It did nothing."""


class Stage(Protocol):
    """The changes of one transaction, not yet visible. Used once, by one lane.

    Nothing here may do I/O, wait, or change what was committed, except `apply`.
    """

    def add_record(self, topic: str, record: InputRecord) -> bool | InputCommand:
        """Take an input record of `topic`; False when it is invalid: a dead letter.

        A command about an input is returned, for the lane to carry out. Raises MustWait; every
        other error is fatal. A record that must wait, and all after it in its topic, are added
        again in the next transaction.
        """

    def take_back(self) -> None:
        """Undo the last `add_record`, which returned False."""

    def divert(self, record: InputRecord, code: str, reason: str) -> None:
        """Make a dead letter of an input record, for a `reason` of the engine's."""

    def add_request(self, request: Request, now: datetime, positions: dict[str, int]) -> Any:
        """Take a command and give its reply; `positions` are those of the inputs by then.

        A reply that is an exception (RequestFailed) is raised where the command came from.

        Raises MustWait: it is to be added again in the next transaction.
        """

    def expire_overdue(self, now: datetime, positions: dict[str, int]) -> bool:
        """Let happen what fell due by `now`, or a part of it that fits a transaction.

        Whether there is more of it.
        """

    def outgoing(self) -> Iterable[Outgoing]:
        """All that is to be written: changed rows, events, journal, dead letters."""

    def apply(self) -> None:
        """Make the changes visible; called once, after the commit."""


class Processor(Protocol):
    """The application's state and rules of one partition; `names` are those of the topics."""

    names: Topics

    def restore(self, table: str, rows: ChangelogRows) -> None:
        """Take rows from a changelog; later ones replace earlier ones."""

    def restore_mark(self, key: bytes, value: bytes | None) -> None:
        """Take a mark: what was written under `MARK_PREFIX` and this key."""

    def restored(self) -> Iterator[None]:
        """All changelogs were read to their ends. It has steps, so that others have their turn."""

    def begin(self) -> Stage:
        """An empty stage over what was committed."""

    def next_due(self) -> datetime | None:
        """When something falls due next, or None."""
