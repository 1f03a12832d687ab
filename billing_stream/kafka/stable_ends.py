"""Where a changelog ends, once nothing in it is undecided any more."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

# Through the failover of a broker, which writes the markers of the last transactions then.
SECONDS_MAX = 60.0
RETRY_SECONDS = 0.02


async def stable_end_offsets(
    committed: AIOKafkaConsumer,
    everything: AIOKafkaConsumer,
    tps: Sequence[TopicPartition],
    seconds: float = SECONDS_MAX,
) -> dict[TopicPartition, int]:
    """The end offset of each partition, when all before it is committed or aborted.

    For partitions whose writers are fenced; `committed` reads what is committed, and `everything`
    what is not, too. A commit is answered before its markers are written, and a committed
    reader's end is before the first record that has none yet: whoever stopped there would miss
    rows that count. Raises KafkaError when a transaction stays open.
    """
    end = asyncio.get_running_loop().time() + seconds
    while True:
        ends: dict[TopicPartition, int] = await everything.end_offsets(list(tps))
        stable = await committed.end_offsets(list(tps))
        behind = [tp for tp in tps if stable[tp] < ends[tp]]
        if not behind:
            return ends
        if asyncio.get_running_loop().time() > end:
            names = ", ".join(f"{tp.topic}[{tp.partition}]@{stable[tp]}" for tp in behind)
            raise KafkaError(f"a transaction stays open at {names}")
        await asyncio.sleep(RETRY_SECONDS)
