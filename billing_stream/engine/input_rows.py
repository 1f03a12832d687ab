"""What the changelog of a partition says of its inputs: positions, logs, stops."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.engine.log import (
    ACCEPTED_PREFIX,
    CHANGELOGS_KEY,
    LOG_PREFIX,
    ORDER_KEY,
    POSITION_PREFIX,
    STOPPED_PREFIX,
)
from billing_stream.engine.record_order import OrderMark
from billing_stream.kafka.topic_logs import ChangelogIds, LogMark, decode_ids


class StopCause(StrEnum):
    """What stopped an input."""

    INVALID_RECORDS = "invalid_records"
    TOPIC_CHANGED = "topic_changed"


class StoppedInput(Struct, frozen=True, gc=False, omit_defaults=True):
    """Why an input is stopped, and since when (UTC). In JSON in the changelog, see `stopped_key`.

    A worker reads the causes that it does not know as INVALID_RECORDS, which can be resumed. With
    TOPIC_CHANGED, `resume` is the offset at which reading continues once that is accepted, and
    `mark` names the log that it is of.
    """

    reason: str
    at: datetime
    cause: str = StopCause.INVALID_RECORDS
    resume: int | None = None
    mark: LogMark | None = None

    @property
    def changed(self) -> bool:
        """Whether the topic changed: to be accepted, and not resumed."""
        return self.cause == StopCause.TOPIC_CHANGED


class InputRows:
    """Positions, marks of the logs that they are of, and stops, by the name of the input.

    `accepted` has the names of added partitions that an operator has accepted, `order` how far the
    order of records is written.
    """

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.marks: dict[str, LogMark] = {}
        self.stopped: dict[str, StoppedInput] = {}
        self.accepted: set[str] = set()
        self.order = OrderMark()
        # The ids of all changelogs, as this one has them.
        self.changelogs: ChangelogIds | None = None

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take a record of the changelog; one that is not of an input is passed over.

        Raises ValueError and msgspec.DecodeError when it is not as a worker writes it.
        """
        if key == CHANGELOGS_KEY and value is not None:
            self.changelogs = decode_ids(value)
        if key == ORDER_KEY and value is not None:
            self.order = _decode_order(value)
        if key.startswith(ACCEPTED_PREFIX):
            self.accepted.add(key[len(ACCEPTED_PREFIX) :].decode())
        kinds: tuple[tuple[bytes, dict[str, Any], Callable[[bytes], Any]], ...] = (
            (POSITION_PREFIX, self.positions, int),
            (LOG_PREFIX, self.marks, _decode_mark),
            (STOPPED_PREFIX, self.stopped, _decode_stopped),
        )
        for prefix, rows, decode in kinds:
            if not key.startswith(prefix):
                continue
            name = key[len(prefix) :].decode()
            rows.pop(name, None)
            if value is not None:
                rows[name] = decode(value)


_decode_order = msgspec.json.Decoder(OrderMark).decode
_decode_mark = msgspec.json.Decoder(LogMark).decode
_decode_stopped = msgspec.json.Decoder(StoppedInput).decode
