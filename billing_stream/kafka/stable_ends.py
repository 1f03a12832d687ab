"""Where a changelog ends, once nothing in it is undecided any more."""

import asyncio
import logging
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from billing_stream.kafka.open_transactions import OpenTransactions

RETRY_SECONDS = 0.02
REPORT_SECONDS = 10.0

logger = logging.getLogger(__name__)


async def stable_end_offsets(
    committed: AIOKafkaConsumer,
    everything: AIOKafkaConsumer,
    tps: Sequence[TopicPartition],
    waits: OpenTransactions | None = None,
) -> dict[TopicPartition, int]:
    """The end offset of each partition, when all before it is committed or aborted.

    For partitions whose writers are fenced; `committed` reads what is committed, and `everything`
    what is not, too. A commit is answered before its markers are written, and a committed
    reader's end is before the first record that has none yet: whoever stopped there would miss
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
        if clock() - reported > REPORT_SECONDS:
            reported = clock()
            for one in found:
                logger.warning("a restore waits: %s -> %s", one, one.action)
        await asyncio.sleep(RETRY_SECONDS)
