"""Very many overdue purchases of one merchant: how long they take, and what others wait.

Drives a real lane without Kafka: commits cost nothing but the encoding of what they write. Another
merchant asks for something all the time. Run as `python -m bench.overdue`; `--step` as large as
`--count` is one decision for all.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.setting import machine, say
from billing_stream.domain.commands import CreateMerchant, ReservePurchase
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import PurchaseOpened
from billing_stream.domain.policy import Policy
from billing_stream.engine.commit_scheduler import CommitScheduler
from billing_stream.engine.lane import Lane
from billing_stream.engine.log import Part
from billing_stream.engine.observer import Transaction
from billing_stream.engine.partition_inputs import Inputs
from billing_stream.engine.partition_processor import Request
from billing_stream.processor import BillingProcessor
from billing_stream.records import topics
from billing_stream.records.schemas import encode
from billing_stream.records.topics import Topics
from billing_stream.worker import configure_gc

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MANY, OTHER = derived_id("bench", "many"), derived_id("bench", "other")
PER_READ = 5_000


class _Writer:
    """Writes nowhere."""

    def __init__(self) -> None:
        self.records = 0
        self.most = 0

    async def commit(self, parts: Sequence[Part]) -> None:
        """Count what would be written."""
        count = sum(len(part.records) for part in parts)
        self.records += count
        self.most = max(self.most, count)
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Nothing to close."""


class _Observer:
    """The seconds of each transaction."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def committed(self, transaction: Transaction[Any]) -> None:
        """Note how long it took."""
        self.seconds.append(transaction.seconds)

    def restored(self, partitions: Sequence[int], records: int, seconds: float) -> None:
        """Nothing is measured of it."""


def _fail(why: object, error: object) -> None:
    raise RuntimeError(f"{why}: {error}")


def _rows(count: int) -> Iterator[tuple[bytes, bytes]]:
    for number in range(count):
        created = NOW + timedelta(milliseconds=number)
        purchase = Purchase(
            id=derived_id("purchase", str(number)),
            merchant_id=MANY,
            credits=100,
            amount="9.99",
            currency="USD",
            status=PurchaseStatus.PENDING,
            platform=Platform.SHOPIFY,
            created_at=created,
            expires_at=created + timedelta(hours=24),
            version=number + 2,
        )
        yield purchase.id.encode(), encode(purchase)


def _restored(count: int, policy: Policy) -> BillingProcessor:
    processor = BillingProcessor(
        0,
        partitions=1,
        policy=policy,
        names=Topics("bench"),
        max_record_bytes=262_144,
    )
    merchant = Merchant(merchant_id=MANY, created_at=NOW, updated_at=NOW, version=count + 1)
    processor.restore(topics.BILLING_RECORDS, [(MANY.encode(), encode(merchant))])
    rows = _rows(count)
    while chunk := [row for row, _ in zip(rows, range(PER_READ), strict=False)]:
        processor.restore(topics.CREDIT_PURCHASES, chunk)
    list(processor.restored())
    return processor


async def _measure(count: int, step: int) -> dict[str, Any]:
    policy = Policy(expired_per_step=step, open_purchases_max=1_000_000)
    processor = _restored(count, policy)
    configure_gc()
    writer, observer, scheduler = _Writer(), _Observer(), CommitScheduler()
    await scheduler.use(writer)
    lane = Lane(
        0,
        processor,
        scheduler,
        inputs=Inputs(0),
        positions_topic="positions",
        die=_fail,
        lose=_fail,
        clock=lambda: NOW + timedelta(days=3),
        observer=observer,
    )
    lane.start()
    await lane.ask(Request(CreateMerchant(OTHER, "shopify", "other.example", "c"), "http", "c"))
    writer.most = 0
    observer.seconds.clear()
    began = time.perf_counter()
    waiting = lane.ask(Request(_reserve(MANY, 0), "http", "waits"))
    waits: list[float] = []
    while not waiting.done():
        asked = time.perf_counter()
        await lane.ask(Request(_reserve(OTHER, len(waits)), "http", "other"))
        waits.append(time.perf_counter() - asked)
    seconds = time.perf_counter() - began
    if not isinstance(waiting.result().reply, PurchaseOpened):
        raise TypeError(waiting.result())
    await lane.stop()
    return {
        "seconds": round(seconds, 2),
        "transactions": len(observer.seconds),
        "longest transaction, ms": round(max(observer.seconds) * 1000),
        "records in the largest": writer.most,
        "commands of another between": len(waits),
        "of those, p50 ms": round(sorted(waits)[len(waits) // 2] * 1000),
        "of those, longest ms": round(max(waits) * 1000),
    }


def _reserve(merchant: str, number: int) -> ReservePurchase:
    return ReservePurchase(merchant, "small", Platform.SHOPIFY, command_id=f"{merchant}/{number}")


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.overdue", description=__doc__)
    parser.add_argument("--count", type=int, default=250_000, help="overdue purchases (250,000)")
    parser.add_argument("--step", type=int, default=Policy().expired_per_step, help="in a decision")
    options = parser.parse_args()
    say(f"{options.count} overdue purchases in steps of {options.step}; {machine()}")
    print(json.dumps(asyncio.run(_measure(options.count, options.step))), flush=True)


if __name__ == "__main__":
    main()
