"""The same domain work on stock Faust: one record at a time, its own tables, plain sends.

Run as `python -m bench.stock_app worker`, with the environment of a worker. At least once
at best: it is here to be compared with for speed.
"""

import logging
import os
from typing import Any

import faust
import msgspec

from billing_stream.domain.decide import decide
from billing_stream.domain.policy import Policy
from billing_stream.domain.state import State
from billing_stream.records import schemas
from billing_stream.records import topics as names
from billing_stream.records.timestamps import instant
from billing_stream.records.topics import Topics
from billing_stream.tables.rows import PartitionRows, StagedRows

SETTINGS = os.environ
TOPICS = Topics("billing-stream", SETTINGS["BILLING_TOPIC_PREFIX"])
PARTITIONS = int(SETTINGS["BILLING_PARTITIONS"])


class _Record:
    """A message of Faust, as the schemas read it."""

    def __init__(self, message: Any) -> None:
        self.topic: str = message.topic
        self.partition: int = message.partition
        self.offset: int = message.offset
        self.timestamp = int(message.timestamp * 1000)
        self.key: bytes | None = message.key
        self.value: bytes | None = message.value
        self.headers: schemas.Headers = ()


def build() -> faust.App:
    """The app."""
    app = faust.App(
        f"{TOPICS.prefix}stock",
        broker=f"kafka://{SETTINGS['KAFKA_BOOTSTRAP_SERVERS']}",
        datadir=SETTINGS["BILLING_DATA_DIR"] + "-stock",
        producer_max_batch_size=1 << 19,
        store="memory://",
        topic_partitions=PARTITIONS,
        topic_replication_factor=1,
        web_enabled=False,
        broker_max_poll_records=500,
        stream_buffer_maxsize=4096,
    )
    raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw"}
    inputs = [app.topic(TOPICS.name(t), **raw) for t in (names.COMMANDS, names.PURCHASE_UPDATED)]
    output = app.topic(f"{TOPICS.prefix}stock-events", partitions=PARTITIONS, **raw)
    schema: Any = faust.Schema(key_type=bytes, value_type=bytes, **raw)
    merchants: Any = app.Table("merchants", partitions=PARTITIONS, schema=schema)
    purchases: Any = app.Table("purchases", partitions=PARTITIONS, schema=schema)
    rows, policy, encode = PartitionRows(), Policy(), msgspec.json.encode

    def agent(topic: Any, base: str) -> None:
        async def process(stream: Any) -> None:
            async for event in stream.events():
                record = _Record(event.message)
                incoming = schemas.decode(base, record, 262_144)
                command: Any = incoming.payload
                staged = StagedRows(rows)
                decision = decide(
                    State.of(policy, staged, command.merchant_id),
                    command,
                    instant(record.timestamp),
                )
                staged.add(decision)
                staged.apply()
                if decision.merchant is not None:
                    merchants[command.merchant_id.encode()] = encode(decision.merchant)
                for purchase in decision.purchases:
                    purchases[purchase.id.encode()] = encode(purchase)
                for one in decision.events:
                    kind = names.event_type(one.data.kind)
                    value = schemas.encode_event(one, kind, incoming.correlation_id or "")
                    await output.send(key=command.merchant_id.encode(), value=value)

        app.agent(topic, name=f"stock-{base}")(process)

    agent(inputs[0], names.COMMANDS)
    agent(inputs[1], names.PURCHASE_UPDATED)
    return app


if __name__ == "__main__":
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.WARNING)
    build().main()
