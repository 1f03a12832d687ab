"""Paid webhooks in one partition, in bulk; and what was committed of them, counted by itself."""

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec import Struct
from msgspec import json as msgspec_json

from billing_stream.domain.ids import derived_id
from billing_stream.engine.log import RESERVED_PREFIX
from billing_stream.records import topics as names
from chaos.stage import Stage

# Few: the verifier looks for an order of what befell a merchant.
PURCHASES_EACH = 4
# So long that the rows of some hundred purchases do not fit into one produce request.
CHECKOUT_URL = "https://pay.example/".ljust(2048, "x")
CORRELATION_ID = "c" * 255
BATCH_BYTES_MAX = 1 << 20
READ_SECONDS_MAX = 120.0


class Load:
    """Opens purchases, and pays for them on demand. `paid` are those that were paid for."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._producer: Any = None
        self._unpaid: list[tuple[str, str, str]] = []
        self.paid: set[str] = set()

    async def start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._stage.kafka, acks="all", max_batch_size=BATCH_BYTES_MAX
        )
        await self._producer.start()

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def open(self, count: int) -> set[str]:
        """Open so many purchases with a charge; the ids of those that are not paid for yet."""
        merchants = [str(uuid.uuid4()) for _ in range(0, count, PURCHASES_EACH)]
        create = {"command": "create_merchant", "platform": "shopify"}
        await self._send(
            names.COMMANDS,
            [(m, {**create, "merchant_id": m, "domain": f"{m}.example"}) for m in merchants],
        )
        owners = [merchants[n // PURCHASES_EACH] for n in range(count)]
        reserve = {"command": "reserve_purchase", "pack": "small", "platform": "shopify"}
        offsets = await self._send(
            names.COMMANDS, [(m, {**reserve, "merchant_id": m}) for m in owners]
        )
        attach = {"command": "attach_charge", "checkout_url": CHECKOUT_URL}
        commands = []
        topic = self._stage.topics.name(names.COMMANDS)
        for merchant, offset in zip(owners, offsets, strict=True):
            purchase = derived_id("purchase", merchant, f"{topic}[0]@{offset}")
            charge = f"gid://shopify/AppPurchaseOneTime/{purchase}"
            of_it = {"merchant_id": merchant, "purchase_id": purchase, "charge_id": charge}
            commands.append((merchant, {**attach, **of_it}))
            self._unpaid.append((merchant, purchase, charge))
        await self._send(names.COMMANDS, commands)
        return {purchase for _, purchase, _ in self._unpaid}

    @property
    def unpaid(self) -> int:
        """How many purchases can still be paid for."""
        return len(self._unpaid)

    async def pay(self, count: int) -> None:
        """Send the webhooks of so many purchases, or of all that are left."""
        chosen, self._unpaid = self._unpaid[:count], self._unpaid[count:]
        webhooks = [
            (
                merchant,
                {
                    "correlation_id": CORRELATION_ID,
                    "data": {"merchant_id": merchant, "charge_id": charge, "status": "ACTIVE"},
                },
            )
            for merchant, _, charge in chosen
        ]
        await self._send(names.PURCHASE_UPDATED, webhooks)
        self.paid |= {purchase for _, purchase, _ in chosen}

    async def _send(self, topic: str, records: Sequence[tuple[str, Any]]) -> list[int]:
        """Send in as few batches as hold them; the offset of each."""
        name = self._stage.topics.name(topic)
        offsets: list[int] = []
        batch, count = self._producer.create_batch(), 0
        for number, (key, value) in enumerate(records, 1):
            fields = {"key": key.encode(), "value": json.dumps(value).encode(), "timestamp": None}
            if batch.append(**fields) is None:
                offsets += await self._send_batch(name, batch, count)
                batch, count = self._producer.create_batch(), 0
                batch.append(**fields)
            count += 1
            if number == len(records):
                offsets += await self._send_batch(name, batch, count)
        return offsets

    async def _send_batch(self, topic: str, batch: Any, count: int) -> range:
        sent = await self._producer.send_batch(batch, topic, partition=0)
        first = (await sent).offset
        return range(first, first + count)


class _Row(Struct):
    status: str
    platform_charge_id: str | None = None


class _Subject(Struct):
    purchase_id: str


class _Event(Struct):
    data: _Subject


class Books:
    """What is committed: the rows of purchases, and how many events each purchase has."""

    def __init__(self, stage: Stage) -> None:
        self._rows = TopicPartition(stage.topics.changelog(names.CREDIT_PURCHASES), 0)
        event = stage.topics.name(names.event_type("credits.purchased"))
        self._events = TopicPartition(event, 0)
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=stage.kafka,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=4 << 20,
        )
        self._row = msgspec_json.Decoder(_Row).decode
        self._event = msgspec_json.Decoder(_Event).decode
        self.attached: set[str] = set()
        self.completed: set[str] = set()
        self.announced: Counter[str] = Counter()

    async def start(self) -> None:
        """Connect."""
        await self._consumer.start()
        self._consumer.assign([self._rows, self._events])

    async def close(self) -> None:
        """Disconnect."""
        # On a busy machine the client fails of a fetch that it cancels itself.
        await asyncio.gather(self._consumer.stop(), return_exceptions=True)

    async def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Read until it is so; whether it is, in time."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            await self.read()
        return True

    async def read_all(self) -> None:
        """Read to what is the end by now. Raises TimeoutError when it does not get there."""
        ends = await self._consumer.end_offsets([self._rows, self._events])
        async with asyncio.timeout(READ_SECONDS_MAX):
            for partition, end in ends.items():
                while await self._consumer.position(partition) < end:
                    await self.read()

    async def read(self) -> None:
        """Read what has come, if anything has within a moment."""
        found = await self._consumer.getmany(timeout_ms=200)
        for record in found.get(self._rows, ()):
            if record.value is None or record.key.startswith(RESERVED_PREFIX):
                continue
            purchase, row = record.key.decode(), self._row(record.value)
            if row.platform_charge_id is not None:
                self.attached.add(purchase)
            if row.status == "completed":
                self.completed.add(purchase)
        for record in found.get(self._events, ()):
            self.announced[self._event(record.value).data.purchase_id] += 1

    def has(self, purchases: set[str]) -> bool:
        """Whether all are completed and announced."""
        return purchases <= self.completed and purchases <= self.announced.keys()
