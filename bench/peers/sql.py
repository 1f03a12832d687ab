"""The shape of the old service: one SQL transaction per webhook, then publish.

Run as `python -m bench.peers.sql`, with the environment of a worker and DATABASE_URL. The
same decide between a SELECT that locks the merchant and one statement that writes both rows:
four round trips a webhook, each connection with its own merchants, so that none waits for
another's lock. Offsets are committed when their events are acknowledged: at least once.
"""

import asyncio
import logging
import zlib
from collections import deque
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.peers import work
from bench.peers.work import PeerSetting, PlainRows
from billing_stream.domain.commands import AttachCharge, UpdateCharge
from billing_stream.records.timestamps import instant
from billing_stream.tables import codecs

RECORDS_PER_BATCH_MAX = 500
BATCHES_AT_ONCE = 2

TABLES = """
CREATE TABLE IF NOT EXISTS merchants (id text PRIMARY KEY, row bytea NOT NULL, due timestamptz);
CREATE TABLE IF NOT EXISTS purchases (
    id text PRIMARY KEY, merchant_id text NOT NULL, charge_id text, expires_at timestamptz,
    pending boolean NOT NULL, row bytea NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS charges ON purchases (merchant_id, charge_id);
CREATE INDEX IF NOT EXISTS open ON purchases (merchant_id, expires_at) WHERE pending;
"""
FIND = """
SELECT m.row, m.due, p.row FROM merchants m LEFT JOIN purchases p ON p.{column} = $2{and_owner}
WHERE m.id = $1 FOR UPDATE OF m
"""
BY_CHARGE = FIND.format(column="charge_id", and_owner=" AND p.merchant_id = m.id")
BY_ID = FIND.format(column="id", and_owner="")
EXPIRED = "SELECT row FROM purchases WHERE merchant_id = $1 AND pending AND expires_at <= $2"
PUT_MERCHANT = """
INSERT INTO merchants VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET row = excluded.row, due = excluded.due
"""
PUT_PURCHASE = """
INSERT INTO purchases VALUES ($4, $1, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE
SET charge_id = excluded.charge_id, pending = excluded.pending, row = excluded.row
"""
PUT_BOTH = f"WITH m AS ({PUT_MERCHANT}) {PUT_PURCHASE}"

encode = msgspec.json.encode


class Batch:
    """What was read at once; done when every record of it is."""

    def __init__(self, read: dict[Any, list[Any]]) -> None:
        self.ends = {tp: records[-1].offset + 1 for tp, records in read.items()}
        self.left = sum(map(len, read.values()))
        self.done = asyncio.Event()
        self.sent: list[Any] = []

    def one_done(self) -> None:
        """Count a record."""
        self.left -= 1
        if not self.left:
            self.done.set()


class Service:
    """Reads, hands records out by merchant, and commits offsets."""

    def __init__(self, peer_setting: PeerSetting) -> None:
        self._place = peer_setting
        self._topics = peer_setting.event_topics
        self._producer = AIOKafkaProducer(
            bootstrap_servers=peer_setting.kafka,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=1 << 19,
        )
        self._consumer = AIOKafkaConsumer(
            peer_setting.input,
            bootstrap_servers=peer_setting.kafka,
            group_id=f"{peer_setting.topics.prefix}sql",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=10,
            session_timeout_ms=6_000,
        )

    async def run(self) -> None:
        """For ever."""
        connections = int(self._place.options["SQL_CONNECTIONS"])
        url = self._place.options["DATABASE_URL"]
        pool = [await asyncpg.connect(url) for _ in range(connections)]
        await pool[0].execute(TABLES)
        await self._producer.start()
        await self._consumer.start()
        work.configure_gc()
        queues: list[asyncio.Queue[tuple[Any, Batch]]] = [asyncio.Queue() for _ in pool]
        async with asyncio.TaskGroup() as tasks:
            for connection, queue in zip(pool, queues, strict=True):
                tasks.create_task(self._work(connection, queue))
            tasks.create_task(self._read(queues))

    async def _read(self, queues: "list[asyncio.Queue[tuple[Any, Batch]]]") -> None:
        running: deque[Batch] = deque()
        while True:
            read = await self._consumer.getmany(timeout_ms=20, max_records=RECORDS_PER_BATCH_MAX)
            if read:
                batch = Batch(read)
                running.append(batch)
                for records in read.values():
                    for record in records:
                        # Of the same merchant, in order, on one connection.
                        queue = queues[zlib.crc32(record.key) % len(queues)]
                        queue.put_nowait((record, batch))
            # With the next batch already handed out, no connection waits for the slowest.
            while running and (len(running) >= BATCHES_AT_ONCE or not read):
                await self._finish(running.popleft())

    async def _finish(self, batch: Batch) -> None:
        await batch.done.wait()
        await asyncio.gather(*batch.sent)
        ends = {TopicPartition(tp.topic, tp.partition): end for tp, end in batch.ends.items()}
        await self._consumer.commit(ends)

    async def _work(
        self, connection: asyncpg.Connection, queue: "asyncio.Queue[tuple[Any, Batch]]"
    ) -> None:
        while True:
            record, batch = await queue.get()
            for kind, value in await self._transact(connection, record):
                batch.sent.append(
                    await self._producer.send(self._topics[kind], value, key=record.key)
                )
            batch.one_done()

    async def _transact(
        self, connection: asyncpg.Connection, record: Any
    ) -> list[tuple[str, bytes]]:
        incoming = work.read(record)
        payload: Any = incoming.payload
        now = instant(record.timestamp)
        async with connection.transaction():
            rows = await self._fetch(connection, payload, now)
            decision = work.carry_out(rows, incoming, now)
            merchant = decision.merchant
            if merchant is None:
                return []
            merchant_id = merchant.merchant_id
            about = (merchant_id, encode(merchant), rows.due.get(merchant_id))
            if not decision.purchases:
                await connection.execute(PUT_MERCHANT, *about)
            for purchase in decision.purchases:
                await connection.execute(
                    PUT_BOTH,
                    *about,
                    purchase.id,
                    purchase.platform_charge_id,
                    purchase.expires_at,
                    purchase.status == "pending",
                    encode(purchase),
                )
        return work.events_of(decision, incoming)

    @staticmethod
    async def _fetch(connection: asyncpg.Connection, payload: Any, now: datetime) -> PlainRows:
        rows = PlainRows()
        merchant_id = payload.merchant_id
        if isinstance(payload, UpdateCharge):
            found = await connection.fetchrow(BY_CHARGE, merchant_id, payload.charge_id)
        else:
            of = payload.purchase_id if isinstance(payload, AttachCharge) else ""
            found = await connection.fetchrow(BY_ID, merchant_id, of)
        if found is None:
            return rows
        merchant, due, purchase = found
        rows.put_merchant(codecs.merchant.decode(merchant))
        if purchase is not None:
            rows.put_purchase(codecs.purchase.decode(purchase))
        if due is not None:
            rows.due[merchant_id] = due
            if due <= now:
                for (row,) in await connection.fetch(EXPIRED, merchant_id, now):
                    rows.put_purchase(codecs.purchase.decode(row))
        return rows


async def main() -> None:
    """Run the service."""
    await Service(PeerSetting.of_environment()).run()


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    uvloop.run(main())
