"""What rows cost: memory per merchant and purchase, CPU to restore them, and of webhooks on them.

Drives the processor of one partition directly, without Kafka. Run as `python -m bench.memory`.
"""

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import psutil

from bench.load import charge
from bench.setting import machine, say
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.domain.policy import Policy
from billing_stream.processor import BillingProcessor
from billing_stream.records import schemas, topics
from billing_stream.records.schemas import encode
from billing_stream.records.topics import Topics
from billing_stream.worker import configure_gc

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PER_COMMIT = 1_000
PER_READ = 5_000
MIB = 1 << 20
Row = tuple[str, bytes, bytes]
"""(table, key, value) of a changelog."""


class _Record:
    """A webhook as the Kafka client gives it."""

    def __init__(self, offset: int, merchant_id: str, number: int) -> None:
        self.topic = topics.PURCHASE_UPDATED
        self.partition = 0
        self.offset = offset
        self.timestamp = int(NOW.timestamp() * 1000)
        self.key: bytes | None = merchant_id.encode()
        data = {"merchant_id": merchant_id, "charge_id": charge(number), "status": "ACTIVE"}
        self.value: bytes | None = encode({"data": data})
        self.headers: schemas.Headers = ()


def merchant_id(number: int) -> str:
    """The merchant with this number: ids as random as real ones."""
    return derived_id("bench", str(number))


def merchants(count: int, *, trial: bool) -> Iterator[Row]:
    """Rows of merchants, on trial or not."""
    for number in range(count):
        name = merchant_id(number)
        row = Merchant(
            merchant_id=name,
            platform="shopify",
            domain=f"shop-{number}.example",
            trial_available=not trial,
            trial_started_at=NOW if trial else None,
            trial_ends_at=NOW + timedelta(days=14, milliseconds=number) if trial else None,
            created_at=NOW,
            updated_at=NOW + timedelta(milliseconds=number),
            version=2,
            sequence=1,
        )
        yield topics.BILLING_RECORDS, name.encode(), encode(row)


def purchases(count: int, owners: int) -> Iterator[Row]:
    """Rows of pending purchases with charges, one after the other of all owners."""
    for number in range(count):
        owner = merchant_id(number % owners)
        row = Purchase(
            id=derived_id("bench", owner, str(number)),
            merchant_id=owner,
            credits=100,
            amount="9.99",
            status=PurchaseStatus.PENDING,
            platform=Platform.SHOPIFY,
            created_at=NOW + timedelta(milliseconds=number),
            expires_at=NOW + timedelta(hours=24, milliseconds=number),
            platform_charge_id=charge(number),
            checkout_url="https://pay.example/1",
            version=2,
        )
        yield topics.CREDIT_PURCHASES, row.id.encode(), encode(row)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Restore a partition, then decide webhooks; all in this process."""
    configure_gc()
    process = psutil.Process()
    processor = BillingProcessor(
        0, partitions=1, policy=Policy(), names=Topics("bench"), max_record_bytes=262_144
    )
    found: dict[str, float] = {}
    counts = arguments.merchants, arguments.purchases
    read = merchants(counts[0], trial=arguments.trial), purchases(counts[1], counts[0])
    for what, count, rows in zip(("merchant", "purchase"), counts, read, strict=True):
        if not count:
            continue
        before = process.memory_info().rss
        found[f"{what} restored, us of CPU"] = _restore(processor, rows)
        found[f"bytes of memory per {what}"] = (process.memory_info().rss - before) / count
    found["RSS, MiB"] = process.memory_info().rss / MIB
    if arguments.webhooks:
        found["webhook, us of CPU"] = _webhooks(processor, arguments)
        found["RSS after webhooks, MiB"] = process.memory_info().rss / MIB
    found["peak RSS, MiB"] = _peak()
    return found


def _peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _restore(processor: BillingProcessor, rows: Iterator[Row]) -> float:
    """Microseconds of this thread's CPU per row."""
    count = 0
    spent = 0.0
    while chunk := list(islice(rows, PER_READ)):
        began = time.thread_time()
        processor.restore(chunk[0][0], [(key, value) for _, key, value in chunk])
        spent += time.thread_time() - began
        count += len(chunk)
    began = time.thread_time()
    list(processor.restored())
    spent += time.thread_time() - began
    return spent / count * 1e6


def _webhooks(processor: BillingProcessor, arguments: argparse.Namespace) -> float:
    """Complete purchases spread over all merchants, in transactions, as a lane does."""
    step = max(1, arguments.purchases // arguments.webhooks)
    count: int = arguments.webhooks
    spent = 0.0
    for start in range(0, count, PER_COMMIT):
        numbers = range(start, min(start + PER_COMMIT, count))
        records = [
            _Record(n, merchant_id(n * step % arguments.merchants), n * step) for n in numbers
        ]
        began = time.thread_time()
        stage = processor.begin()
        for record in records:
            stage.add_record(topics.PURCHASE_UPDATED, record)
        list(stage.outgoing())
        stage.apply()
        spent += time.thread_time() - began
    return spent / count * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--merchants", type=int, default=1_000_000)
    parser.add_argument("--purchases", type=int, default=1_000_000)
    parser.add_argument("--webhooks", type=int, default=100_000)
    parser.add_argument("--trial", action="store_true", help="merchants are on trial")
    arguments = parser.parse_args()
    say(f"{arguments.merchants} merchants, {arguments.purchases} purchases; {machine()}")
    for what, figure in measure(arguments).items():
        print(f"{what:32} {figure:>12,.1f}")


if __name__ == "__main__":
    main()
