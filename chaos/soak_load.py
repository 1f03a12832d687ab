"""A load under which no row is ever added: what grows in a worker then is a leak.

Every purchase is paid back cent by cent: each record changes two rows and gives an event.
Requests repeat the keys that they have.
"""

import asyncio
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec import Struct

from billing_stream.domain.ids import derived_id
from billing_stream.records import topics as names
from chaos.sender import Sender
from chaos.stage import Stage
from chaos.workers import Worker

MERCHANTS = 400
PURCHASES_MIN = 2_000
# The large pack costs 69.99; the last cent is never paid back.
STEPS_EACH = 6_998
TICK_SECONDS = 0.05
BATCHES_WAITING_MAX = 400
# The partition whose events are read to measure the latency: an eighth of all.
MEASURED_PARTITION = 0


class _Event(Struct):
    correlation_id: str


_decode = msgspec.json.Decoder(_Event).decode
_encode = msgspec.json.encode

Latency = tuple[float, float]
"""When it was measured (monotonic), and the latency in seconds."""


class SoakLoad:
    """`per_second` records and `http` requests a second."""

    def __init__(
        self, stage: Stage, workers: Sequence[Worker], per_second: int, http: float, seconds: float
    ) -> None:
        self._stage = stage
        self._workers = workers
        self._per_second = per_second
        self._http = http
        self._count = max(PURCHASES_MIN, int(per_second * seconds * 1.5 / STEPS_EACH) + 1)
        self._random = random.Random(1)
        self.merchants = [str(uuid.UUID(int=0xCA << 112 | n, version=4)) for n in range(MERCHANTS)]
        self._cents: list[int] = [0] * self._count
        self._producer: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._requests: set[asyncio.Task[None]] = set()
        self.sent = self.held_back = self.events = self.refused = 0
        self.of_records: list[Latency] = []
        self.of_requests: list[Latency] = []

    async def prepare(self) -> None:
        """All rows that there will be: merchants, purchases, trials, answers."""
        sender = Sender(self._stage)
        await sender.start()
        await asyncio.gather(*(sender.begin_trial(merchant) for merchant in self.merchants))
        pack = {"command": "reserve_purchase", "pack": "large", "platform": "shopify"}
        refs = await asyncio.gather(
            *(
                sender.send(names.COMMANDS, m, {**pack, "merchant_id": m})
                for m in map(self._owner, range(self._count))
            )
        )
        attach = {"command": "attach_charge", "checkout_url": "https://pay.example/1"}
        sends = []
        for number, (topic, partition, offset) in enumerate(refs):
            owner = self._owner(number)
            purchase = derived_id("purchase", owner, f"{topic}[{partition}]@{offset}")
            command = {**attach, "charge_id": f"soak/{number}", "purchase_id": purchase}
            sends.append(sender.send(names.COMMANDS, owner, {**command, "merchant_id": owner}))
        await asyncio.gather(*sends)
        await sender.close()

    def _owner(self, number: int) -> str:
        return self.merchants[number % MERCHANTS]

    async def start(self) -> None:
        """Begin."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._stage.kafka, acks=1, max_batch_size=1 << 19
        )
        await self._producer.start()
        self._tasks = [
            asyncio.create_task(self._records(), name="soak-records"),
            asyncio.create_task(self._follow(), name="soak-events"),
            asyncio.create_task(self._ask(), name="soak-requests"),
        ]

    async def stop(self) -> None:
        """End; raises what ended it before."""
        ended = [task for task in self._tasks if task.done()]
        for task in [*self._tasks, *self._requests]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._requests, return_exceptions=True)
        if self._producer is not None:
            await self._producer.stop()
        for task in ended:
            task.result()

    # -- records

    async def _records(self) -> None:
        partitions = [self._stage.partition_of(self._owner(n)) for n in range(self._count)]
        due = time.monotonic()
        number = 0
        waiting: set[asyncio.Future[Any]] = set()
        while True:
            due += TICK_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(waiting) > BATCHES_WAITING_MAX:
                self.held_back += int(self._per_second * TICK_SECONDS)
                continue
            groups: dict[int, list[int]] = defaultdict(list)
            for _ in range(int(self._per_second * TICK_SECONDS)):
                groups[partitions[number]].append(number)
                number = (number + 1) % self._count
            for partition, purchases in groups.items():
                sent = await self._send(partition, purchases, time.time_ns())
                waiting.add(sent)
                sent.add_done_callback(waiting.discard)

    async def _send(self, partition: int, purchases: list[int], now: int) -> "asyncio.Future[Any]":
        batch = self._producer.create_batch()
        for number in purchases:
            self._cents[number] = cents = min(self._cents[number] + 1, STEPS_EACH)
            owner = self._owner(number)
            told = {"merchant_id": owner, "charge_id": f"soak/{number}"}
            data = {**told, "amount": f"{cents / 100:.2f}"}
            value = _encode({"correlation_id": str(now), "data": data})
            batch.append(key=owner.encode(), value=value, timestamp=None)
        self.sent += len(purchases)
        topic = self._stage.topics.name(names.PURCHASE_REFUNDED)
        sent: asyncio.Future[Any] = await self._producer.send_batch(
            batch, topic, partition=partition
        )
        return sent

    async def _follow(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self._stage.kafka,
            isolation_level="read_committed",
            fetch_max_wait_ms=10,
        )
        await consumer.start()
        try:
            topic = self._stage.topics.name(names.event_type("purchase.refunded"))
            tp = TopicPartition(topic, MEASURED_PARTITION)
            consumer.assign([tp])
            await consumer.seek_to_end(tp)
            while True:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    now, at = time.time_ns(), time.monotonic()
                    self.events += len(records)
                    # One of a batch is enough: they were sent and committed together.
                    sent = int(_decode(records[0].value).correlation_id)
                    self.of_records.append((at, (now - sent) / 1e9))
        finally:
            await consumer.stop()

    # -- requests

    async def _ask(self) -> None:
        if not self._http:
            return
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
            due = time.monotonic()
            while True:
                due += 1 / self._http
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._request(session))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)

    async def _request(self, session: aiohttp.ClientSession) -> None:
        merchant = self._random.choice(self.merchants)
        url = self._random.choice(self._workers).url
        headers = self._stage.headers(self._stage.promises.domains[merchant])
        kind = self._random.random()
        began = time.monotonic()
        if kind < 0.5:
            request = session.get(f"{url}/api/billing", headers=headers)
        else:
            # The same key always: opened once, then answered from the rows.
            body = {"pack": "small", "platform": "shopify", "return_url": "https://a.example/"}
            keyed = {**headers, "Idempotency-Key": "soak"}
            request = session.post(f"{url}/api/billing/purchases", headers=keyed, json=body)
        try:
            async with request as response:
                await response.read()
                good = response.status < 300
        except (aiohttp.ClientError, TimeoutError):
            good = False
        if good:
            self.of_requests.append((began, time.monotonic() - began))
        else:
            self.refused += 1

    async def ask_all(self) -> None:
        """Let every merchant open its one purchase over HTTP, before anything is measured."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
            for merchant in self.merchants:
                headers = self._stage.headers(self._stage.promises.domains[merchant])
                headers["Idempotency-Key"] = "soak"
                body = {"pack": "small", "platform": "shopify", "return_url": "https://a.example/"}
                url = f"{self._workers[0].url}/api/billing/purchases"
                for _ in range(50):
                    async with session.post(url, headers=headers, json=body) as response:
                        if response.status == 201:
                            break
                    await asyncio.sleep(0.1)
