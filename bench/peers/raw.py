"""The ceiling of aiokafka: consume, transform, produce, with a transaction per batch.

`python -m bench.peers.raw` parses the JSON and writes two changelog records and an event of
the real sizes for each; `python -m bench.peers.raw decide` does all of the work, on plain
dicts that are changed at once. Both write their positions into the transaction. A plain loop:
no staging, no deadlines, no commands from outside, no rebalancing, no second partition owner.
"""

import asyncio
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.peers import work
from bench.peers.work import PeerSetting, PlainRows
from billing_stream.engine.log import POSITION_PREFIX
from billing_stream.records import topics as names
from billing_stream.records.timestamps import instant
from billing_stream.tables import codecs

BATCH_BYTES_MAX = 1 << 20
encode = msgspec.json.encode

Record = tuple[str, bytes, bytes, list[tuple[str, bytes]]]
"""(topic, key, value, headers)."""


class Transform(Protocol):
    """What is done with the records of one partition."""

    def restore(self, table: str, key: bytes, value: bytes) -> None:
        """Take a row of a changelog."""

    def outgoing(self, records: Sequence[Any]) -> Iterable[Record]:
        """What these records cause, for the same partition."""


class _Data(msgspec.Struct, gc=False):
    merchant_id: str
    charge_id: str
    status: str


class _Webhook(msgspec.Struct, gc=False):
    correlation_id: str
    data: _Data


class Copy:
    """Parses a webhook, and writes records of the real sizes with hardly a thought."""

    def __init__(self, peer_setting: PeerSetting) -> None:
        self._decode = msgspec.json.Decoder(_Webhook).decode
        self._merchants = peer_setting.topics.changelog(names.BILLING_RECORDS)
        self._purchases = peer_setting.topics.changelog(names.CREDIT_PURCHASES)
        self._events = peer_setting.event_topics["credits.purchased"]
        # What our worker writes has these sizes; the event has 380 bytes.
        self._merchant_row = b"m" * 321
        self._purchase_row = b"p" * 415
        self._event = b'{"event_id":"%036d","event_type":"' + b"e" * 313 + b'"}'
        self._headers = [("sequence", b"1"), ("cause", b"c" * 58)]

    def restore(self, table: str, key: bytes, value: bytes) -> None:
        """Nothing is kept."""

    def outgoing(self, records: Sequence[Any]) -> Iterable[Record]:
        """Two rows and an event for each."""
        rows, purchases, events = self._merchants, self._purchases, self._events
        none: list[tuple[str, bytes]] = []
        for record in records:
            read = self._decode(record.value)
            number = int(read.correlation_id[12:])
            key = record.key
            yield rows, key, self._merchant_row, none
            yield purchases, key, self._purchase_row, none
            yield events, key, self._event % number, self._headers


class Decide:
    """The same work as ours; each changed row is written once, as ours does."""

    def __init__(self, peer_setting: PeerSetting) -> None:
        self._rows = PlainRows()
        self._topics = peer_setting.topics
        self._event_topics = peer_setting.event_topics

    def restore(self, table: str, key: bytes, value: bytes) -> None:
        """Take a row of a changelog."""
        if table == names.BILLING_RECORDS:
            self._rows.put_merchant(codecs.merchant.decode(value))
        else:
            self._rows.put_purchase(codecs.purchase.decode(value))

    def outgoing(self, records: Sequence[Any]) -> Iterable[Record]:
        """The events, then each changed row once."""
        merchants: dict[str, Any] = {}
        purchases: dict[str, Any] = {}
        rows, topics = self._rows, self._event_topics
        for record in records:
            incoming = work.read(record)
            decision = work.carry_out(rows, incoming, instant(record.timestamp))
            merchant = decision.merchant
            if merchant is None:
                continue
            merchants[merchant.merchant_id] = merchant
            for purchase in decision.purchases:
                purchases[purchase.id] = purchase
            payload: Any = incoming.payload
            cause = ("cause", payload.command_id.encode())
            key = merchant.merchant_id.encode()
            sequence = merchant.sequence - len(decision.events)
            for kind, value in work.events_of(decision, incoming):
                sequence += 1
                yield topics[kind], key, value, [("sequence", b"%d" % sequence), cause]
        none: list[tuple[str, bytes]] = []
        topic = self._topics.changelog(names.BILLING_RECORDS)
        for merchant_id, row in merchants.items():
            yield topic, merchant_id.encode(), encode(row), none
        topic = self._topics.changelog(names.CREDIT_PURCHASES)
        for purchase_id, row in purchases.items():
            yield topic, purchase_id.encode(), encode(row), none


class Loop:
    """Consume a batch, transform it, commit it."""

    def __init__(self, peer_setting: PeerSetting, transform: Transform) -> None:
        self._place = peer_setting
        self._transform = transform
        self._positions_topic = peer_setting.topics.changelog(names.BILLING_RECORDS)

    async def run(self) -> None:
        """For ever."""
        peer_setting = self._place
        count = int(peer_setting.options["RAW_PRODUCERS"])
        producers = [
            AIOKafkaProducer(
                bootstrap_servers=peer_setting.kafka,
                transactional_id=f"{peer_setting.topics.prefix}raw-{turn}",
                max_batch_size=BATCH_BYTES_MAX,
                max_request_size=8 << 20,
                retry_backoff_ms=10,
                acks="all",
            )
            for turn in range(count)
        ]
        await asyncio.gather(*(producer.start() for producer in producers))
        consumer = await self._consumer()
        tps = [TopicPartition(peer_setting.input, p) for p in range(peer_setting.partitions)]
        positions = await self._restore(consumer)
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, positions.get(tp.partition, 0))
        work.configure_gc()
        most, turn = int(peer_setting.options["RAW_BATCH"]), 0
        ends: list[asyncio.Task[None] | None] = [None] * count
        while True:
            read = await consumer.getmany(timeout_ms=100, max_records=most)
            if not read:
                continue
            end = ends[turn]
            if end is not None:
                await end
            sent = await self._send(producers[turn], read)
            ends[turn] = asyncio.create_task(_end(producers[turn], sent, ends[turn - 1]))
            turn = (turn + 1) % count

    async def _consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._place.kafka,
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=10,
            max_partition_fetch_bytes=4 << 20,
        )
        await consumer.start()
        return consumer

    async def _send(self, producer: AIOKafkaProducer, read: dict[Any, list[Any]]) -> list[Any]:
        await producer.begin_transaction()
        sent: list[Any] = []
        for tp, records in read.items():
            partition = tp.partition
            batches: dict[str, Any] = {}
            position = b"%d" % (records[-1].offset + 1)
            last: Record = (
                self._positions_topic,
                POSITION_PREFIX + tp.topic.encode(),
                position,
                [],
            )
            for topic, key, value, headers in (*self._transform.outgoing(records), last):
                batch = batches.get(topic)
                if batch is None:
                    batch = batches[topic] = producer.create_batch()
                if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = batches[topic] = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None, headers=headers)
            for topic, batch in batches.items():
                sent.append(await producer.send_batch(batch, topic, partition=partition))
        return sent

    async def _restore(self, consumer: AIOKafkaConsumer) -> dict[int, int]:
        """Read the changelogs to their ends; the position of each partition."""
        topics = self._place.topics
        tables = {topics.changelog(t): t for t in (names.BILLING_RECORDS, names.CREDIT_PURCHASES)}
        tps = [TopicPartition(t, p) for t in tables for p in range(self._place.partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        positions: dict[int, int] = {}
        left = {tp for tp in tps if ends[tp] > 0}
        while left:
            read = await consumer.getmany(timeout_ms=50)
            for tp, records in read.items():
                for record in records:
                    if record.key.startswith(POSITION_PREFIX):
                        positions[tp.partition] = int(record.value)
                    else:
                        self._transform.restore(tables[tp.topic], record.key, record.value)
            left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
        return positions


async def _end(
    producer: AIOKafkaProducer, sent: list[Any], before: "asyncio.Task[None] | None"
) -> None:
    """Commit, after the transaction before: the next one is being made meanwhile."""
    await asyncio.gather(*sent)
    if before is not None:
        await before
    await producer.commit_transaction()


async def main() -> None:
    """Run the variant that was asked for."""
    peer_setting = PeerSetting.of_environment()
    await Loop(
        peer_setting, Decide(peer_setting) if "decide" in sys.argv[1:] else Copy(peer_setting)
    ).run()


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    uvloop.run(main())
