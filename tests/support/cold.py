"""A broker that nobody has used yet: it has neither internal topic, so no coordinators."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from billing_stream.dev.kafka import READY_SECONDS_MAX, Kafka
from tests.support.ports import free_port


@asynccontextmanager
async def cold_kafka(folder: Path, properties: str = "") -> AsyncIterator[str]:
    """The bootstrap servers of a new broker that answers; ended with the block.

    Unlike `Kafka.start`, nothing here asks for a coordinator, which would create them.
    """
    broker = Kafka(
        folder / "cold", folder / "cold.log", free_port(), free_port(), properties=properties
    )
    broker.launch()
    try:
        end = time.monotonic() + READY_SECONDS_MAX
        while not await _answers(broker.bootstrap_servers):
            broker.server.require_alive()
            assert time.monotonic() < end, "the broker does not answer"
            await asyncio.sleep(0.1)
        yield broker.bootstrap_servers
    finally:
        broker.stop()


async def _answers(servers: str) -> bool:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    client = AIOKafkaClient(bootstrap_servers=servers)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except (KafkaError, OSError, asyncio.TimeoutError):
        return False
    finally:
        await client.close()
        logging.getLogger("aiokafka").setLevel(logging.NOTSET)
