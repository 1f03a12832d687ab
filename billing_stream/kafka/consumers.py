"""The Kafka consumer of billing-stream."""

from typing import Any

import aiokafka
from aiokafka.consumer import fetcher

from billing_stream.kafka.record_batches import BoundedRecords


class KafkaConsumer(aiokafka.AIOKafkaConsumer):
    """Reads whatever a broker takes, in bounded memory. See `kafka.record_batches`.

    It reads from the given offsets only: one that is out of the log is an OffsetOutOfRangeError,
    never a silent jump.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The fetcher looks this name up for each response; it takes no argument for it.
        fetcher.MemoryRecords = BoundedRecords
        super().__init__(*args, auto_offset_reset="none", **kwargs)
