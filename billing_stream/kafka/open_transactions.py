"""Transactions that stay open: readers of committed records stop before the first record of one.

Where a producer hangs, or its broker lost track of it (KIP-664), the last stable offset of a
partition stays behind its end, and such readers do not see that there are more records.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct

logger = logging.getLogger(__name__)

# How long brokers let a transaction be open at most (transaction.max.timeout.ms), and a minute.
# One that is open for longer has no end of its own.
OPEN_SECONDS_MAX = 960.0
REPORT_AFTER = 5.0
REPORT_SECONDS = 30.0


class OpenTransaction(Struct, frozen=True):
    """It begins at `offset`, the last stable offset, with `held_back` offsets from there on.

    `seconds` is for how long it has been seen.
    """

    topic: str
    partition: int
    offset: int
    held_back: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"a transaction is open at {self.topic}[{self.partition}]@{self.offset}, for "
            f"{self.seconds:.0f} s: {self.held_back} offsets from there on cannot be read"
        )

    @property
    def action(self) -> str:
        """What ends it."""
        return (
            "end its producer, or wait for its transaction timeout; one without an end "
            "(kafka-transactions.sh find-hanging) is ended by kafka-transactions.sh abort "
            f"--topic {self.topic} --partition {self.partition} --start-offset {self.offset}"
        )


class OpenTransactions:
    """Those seen at the last look, and for how long the last stable offset has not moved."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, int], tuple[int, int, float]] = {}

    def note(self, ends: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        """Take the last stable offset and the end of each partition; others are forgotten."""
        now, before = self._clock(), self._seen
        self._seen = {}
        for tp, (stable, end) in ends.items():
            if stable < end:
                offset, _, since = before.get(tp, (stable, end, now))
                self._seen[tp] = stable, end, since if offset == stable else now

    def found(self, seconds: float = 0.0) -> list[OpenTransaction]:
        """Those that have been seen for `seconds` or longer."""
        now = self._clock()
        return [
            OpenTransaction(*tp, stable, end - stable, now - since)
            for tp, (stable, end, since) in sorted(self._seen.items())
            if now - since >= seconds
        ]


class ReadStalled(Exception):
    """No record came for too long; the text names the offset, and what to do."""


class Stalls:
    """Of one reader: logs what it waits for, and ends the wait when that has no end."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._moved = self._reported = time.monotonic()
        self._open = OpenTransactions()

    def moved(self) -> None:
        """Some partition made progress."""
        self._moved = self._reported = time.monotonic()

    def look(
        self,
        consumer: Any,
        left: Iterable[TopicPartition],
        at: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Raises ReadStalled; `at` are positions of a `consumer` of committed records.

        Without progress for `seconds_max`, or, behind transactions that are open, for as long as
        brokers let one be open.
        """
        now = time.monotonic()
        if now - self._moved < REPORT_AFTER:
            return
        stable = {tp: consumer.last_stable_offset(tp) for tp in left}
        self._open.note({tp: (at[tp], ends[tp]) for tp, end in stable.items() if end == at[tp]})
        found = self._open.found()
        if now - self._moved > (
            max(self._seconds_max, OPEN_SECONDS_MAX) if found else self._seconds_max
        ):
            stuck = ", ".join(f"{tp.topic}[{tp.partition}]@{at[tp]}" for tp in sorted(stable))
            raise ReadStalled("; ".join(_lines(found)) or f"no more records come from {stuck}")
        if found and (now - self._reported > REPORT_SECONDS or self._reported == self._moved):
            self._reported = now
            for line in _lines(found):
                logger.warning("waiting: %s", line)


def _lines(found: Iterable[OpenTransaction]) -> list[str]:
    return [f"{one} -> {one.action}" for one in found]


RESTORE_RETRY_SECONDS = 0.02
RESTORE_REPORT_SECONDS = 10.0


async def stable_end_offsets(
    committed: AIOKafkaConsumer,
    everything: AIOKafkaConsumer,
    tps: Sequence[TopicPartition],
    waits: OpenTransactions | None = None,
) -> dict[TopicPartition, int]:
    """The end offset of each partition, when all before it is committed or aborted.

    For partitions with fenced writers; `committed` reads committed records, `everything` also
    uncommitted ones. A commit is answered before its markers are written, and a committed
    reader's end is before the first record without one: stopping there would miss
    rows that count. It waits for as long as that takes: `waits` has for what, and the log says it.
    """
    waits = waits if waits is not None else OpenTransactions()
    clock = asyncio.get_running_loop().time
    reported = clock()
    while True:
        ends: dict[TopicPartition, int] = await everything.end_offsets(list(tps))
        stable = await committed.end_offsets(list(tps))
        waits.note({tp: (stable[tp], ends[tp]) for tp in tps})
        found = waits.found()
        if not found:
            return ends
        if clock() - reported > RESTORE_REPORT_SECONDS:
            reported = clock()
            for one in found:
                logger.warning("a restore waits: %s -> %s", one, one.action)
        await asyncio.sleep(RESTORE_RETRY_SECONDS)
