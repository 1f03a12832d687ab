"""What a tick of the timers costs when nothing is due, in this process, without a broker."""

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from bench.fill import Filled
from bench.setting import Setting, say
from billing_stream.domain.policy import Policy
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.log import OnRows, OnTotal, Part
from billing_stream.kafka.topic_logs import ChangelogIds
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.processor import BillingProcessor
from billing_stream.records.topics import Topics

TICKS = 2_000


class _NoWriter:
    """Nothing is written here."""

    async def commit(self, parts: Sequence[Part]) -> None:
        """Nothing is due, so nothing comes."""
        raise RuntimeError("an idle tick wrote something")

    async def close(self) -> None:
        """Nothing to close."""


class _FilledLog:
    """A log that has the rows of `filled` in its changelogs."""

    protocol = 0
    changelogs: Mapping[str, str] = MappingProxyType({})
    ids: ChangelogIds | None = None

    def __init__(self, filled: Filled) -> None:
        self._filled = filled

    async def join(self, member: Member, partitions: Collection[int]) -> _NoWriter:
        """There is no other owner."""
        return _NoWriter()

    async def end_old_release(self, partition: int) -> None:
        """There is none."""

    async def restore(
        self, partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        """Give all rows."""
        count = 0
        for table, partition, key, value in self._filled.rows():
            on_rows(partition, table, [(key, value)])
            count += 1
        return count


async def tick_ms(setting: Setting, merchants: int) -> float:
    """Milliseconds of one tick over all partitions, while all trials run on."""
    say(f"restoring {merchants:,} merchants in this process, for the idle tick")
    topics = Topics("billing-stream")
    lanes = Lanes(
        _FilledLog(Filled(setting, merchants, 0)),
        partial(
            BillingProcessor,
            partitions=setting.partitions,
            policy=Policy(),
            names=topics,
            max_record_bytes=262_144,
        ),
        positions_topic="positions",
    )
    lanes.adopt(await lanes.restore(range(setting.partitions)))
    owned = list(lanes.values())
    if sum(lane.processor.next_due() is not None for lane in owned) != setting.partitions:
        raise RuntimeError("a partition has no deadline: nothing would be measured")
    began = time.perf_counter()
    for _ in range(TICKS):
        for lane in owned:
            lane.wake_if_due()
    return (time.perf_counter() - began) / TICKS * 1000
