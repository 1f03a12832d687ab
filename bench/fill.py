"""Changelogs filled with rows as if a worker had written them: a million merchants in a minute.

Nothing but the worker's own commands could tell where such rows come from, so the verifier,
which judges a whole history, cannot pass. `bench.verified.sums` is checked instead.
"""

import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from bench.load import charge, encode
from bench.setting import Setting, say
from billing_stream.domain.commands import (
    AttachCharge,
    Command,
    CreateMerchant,
    ReservePurchase,
    StartTrial,
)
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Merchant, Platform, Purchase
from billing_stream.domain.outcomes import PurchaseOpened
from billing_stream.domain.policy import Policy
from billing_stream.domain.state import State
from billing_stream.engine.kafka_writer import NO_HEADERS, OF_ROWS
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.schemas import Headers
from billing_stream.tables import codecs
from billing_stream.tables.rows import PartitionRows, StagedRows

PROGRESS_SECONDS = 5.0
BATCH_BYTES = 1 << 19

Row = tuple[str, int, bytes, bytes]
"""(table, partition, key, value)."""

EndsAt = Callable[[int], datetime]
"""When the trial of the merchant with this number ends."""


def merchant_id(number: int) -> str:
    """The id of the merchant with this number."""
    return f"00000000-0000-4000-8000-{number:012x}"


def purchase_id(number: int) -> str:
    """The id of the purchase with this number."""
    return f"00000000-0000-5000-8000-{number:012x}"


class Batches:
    """Sends records to given partitions in large batches, many records at little cost."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._open: dict[tuple[str, int], Any] = {}
        self._sent: list[Any] = []

    async def add(
        self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers = NO_HEADERS
    ) -> None:
        """Add a record; sends the batch that is full."""
        record = {"key": key, "value": value, "timestamp": None, "headers": headers}
        tp = (topic, partition)
        batch = self._open.get(tp)
        if batch is None:
            batch = self._open[tp] = self._producer.create_batch()
        if batch.append(**record) is None:
            await self._send(tp)
            batch = self._open[tp] = self._producer.create_batch()
            batch.append(**record)

    async def flush(self) -> None:
        """Send the rest, and wait until the broker has all."""
        for tp in list(self._open):
            await self._send(tp)
        for sent in self._sent:
            await sent
        self._sent.clear()

    async def _send(self, tp: tuple[str, int]) -> None:
        topic, partition = tp
        batch = self._open.pop(tp)
        self._sent.append(await self._producer.send_batch(batch, topic, partition=partition))


class Filled:
    """`merchants` merchants with a running trial and a shop, and pending purchases in all.

    Purchase n, which is charge n, is of merchant n modulo the number of merchants.
    """

    def __init__(
        self, setting: Setting, merchants: int, purchases: int, ends_at: EndsAt | None = None
    ) -> None:
        self._setting = setting
        self._ends_at = ends_at
        self._partitions = array("H")
        self.merchants = merchants
        self.purchases = purchases
        self.value_bytes = 0

    async def write(self) -> None:
        """Write the changelogs."""
        changelog = self._setting.topics.changelog
        async with self._producer() as producer:
            batches = Batches(producer)
            for table, partition, key, value in self._reported(self.rows()):
                self.value_bytes += len(value)
                await batches.add(changelog(table), partition, key, value, OF_ROWS)
            await batches.flush()

    async def send_webhooks(self, numbers: Iterable[int]) -> None:
        """Send the webhooks that complete these purchases."""
        topic = self._setting.topics.name(names.PURCHASE_UPDATED)
        async with self._producer() as producer:
            batches = Batches(producer)
            for number in numbers:
                owner = number % self.merchants
                key, value = self.webhook(number)
                await batches.add(topic, self.partition(owner), key, value)
            await batches.flush()

    def chosen(self, records: int) -> list[int]:
        """So many purchases at random, the same ones each time."""
        return Random(0).sample(range(self.purchases), records)

    def webhook(self, number: int) -> tuple[bytes, bytes]:
        """Key and value of the webhook that completes this purchase."""
        owner = merchant_id(number % self.merchants)
        data = {"merchant_id": owner, "charge_id": charge(number), "status": "ACTIVE"}
        value = {
            "event_id": str(number),
            "event_type": names.PURCHASE_UPDATED,
            "correlation_id": f"correlation-{number}",
            "source_service": "webhooks",
            "timestamp": "2026-01-01T00:00:00Z",
            "data": data,
        }
        return owner.encode(), encode(value)

    def partition(self, number: int) -> int:
        """The partition of the merchant with this number."""
        for more in range(len(self._partitions), number + 1):
            found = partition_of(merchant_id(more), self._setting.partitions)
            self._partitions.append(found)
        return self._partitions[number]

    def rows(self) -> Iterator[Row]:
        """All rows, those of the merchants last: their trials may end soon."""
        a_merchant, a_purchase = _pattern()
        for number in range(self.purchases):
            owner = number % self.merchants
            purchase = replace(
                a_purchase,
                id=purchase_id(number),
                merchant_id=merchant_id(owner),
                platform_charge_id=charge(number),
            )
            yield (
                names.CREDIT_PURCHASES,
                self.partition(owner),
                purchase.id.encode(),
                encode(purchase),
            )
        for number in range(self.merchants):
            owned, domain = merchant_id(number), _domain(number)
            shop = codecs.shop_key("shopify", domain)
            partition = partition_of(shop, self._setting.partitions)
            yield names.SHOPS_TABLE, partition, shop.encode(), owned.encode()
        for number in range(self.merchants):
            ends_at = self._ends_at(number) if self._ends_at else a_merchant.trial_ends_at
            merchant = replace(
                a_merchant,
                merchant_id=merchant_id(number),
                domain=_domain(number),
                trial_ends_at=ends_at,
            )
            yield (
                names.BILLING_RECORDS,
                self.partition(number),
                merchant.merchant_id.encode(),
                encode(merchant),
            )

    def _reported(self, rows: Iterable[Row]) -> Iterator[Row]:
        total = 2 * self.merchants + self.purchases
        logged_at = time.monotonic()
        for number, row in enumerate(rows):
            if number % 1_000 == 0 and time.monotonic() - logged_at > PROGRESS_SECONDS:
                logged_at = time.monotonic()
                say(f"filled {number:,} of {total:,} rows")
            yield row

    def _producer(self) -> Any:
        return AIOKafkaProducer(
            bootstrap_servers=self._setting.kafka, acks=1, max_batch_size=BATCH_BYTES
        )


def _domain(number: int) -> str:
    return f"m{number}.example"


def _pattern() -> tuple[Merchant, Purchase]:
    """The rows of one merchant with a trial and a pending purchase, as the rules make them."""
    rows, now, policy = StagedRows(PartitionRows()), datetime.now(UTC), Policy()
    owner = merchant_id(0)

    def do(command: Command) -> Any:
        decision = decide(State.of(policy, rows, owner), command, now)
        rows.add(decision)
        return decision.reply

    do(CreateMerchant(owner, "shopify", _domain(0)))
    do(StartTrial(owner))
    opened = do(ReservePurchase(owner, "small", Platform.SHOPIFY, command_id="fill"))
    if not isinstance(opened, PurchaseOpened):
        raise RuntimeError(f"no purchase for the pattern of rows: {opened}")
    do(AttachCharge(owner, opened.purchase_id, charge(0), "https://pay.example/1"))
    return rows.merchants[owner], rows.purchases[opened.purchase_id]
