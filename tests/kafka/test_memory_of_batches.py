"""How much memory a real worker takes for batches that are small until they are unpacked."""

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.raw_batches import GZIP, ZSTD, batch, produce
from tests.support.worker import create_topics, environment, worker

PARTITIONS = 4
MIB = 1 << 20
# Above what the worker has when it is ready: see decision 0040.
MORE_MAX = 700 * MIB

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


def peak(pid: int) -> int:
    """The most that a process ever had in memory, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def read_up(audit: Audit, topic: str) -> None:
    """Wait until the worker has committed all there is."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        lag = await audit.lag()
        if lag and not any(lag.values()):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"{topic} was not read up")


VALUE = json.dumps({"merchant_id": "x", "more": "x" * 200_000}).encode()
KINDS: dict[str, Any] = {
    "one of 300 MB, gzip": (GZIP, [(bytes(300 * MIB), [])], 1),
    "one of 300 MB, zstd": (ZSTD, [(bytes(300 * MIB), [])], 1),
    "one value of 31 MB": (ZSTD, [(bytes(31 * MIB), [])], 4),
    "many values of 200 kB": (ZSTD, [(VALUE, [])] * 150, 4),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_memory_is_bounded_whatever_a_batch_unpacks_to(
    kind: str, kafka: str, prefix: str, folder: Path, record_property: Any
) -> None:
    codec, records, copies = KINDS[kind]
    raw = batch(*records, codec=codec)
    topics = Topics("billing-stream", prefix)
    topic = topics.name(names.MERCHANT_CREATED)
    limits = {"BILLING_POISON_IN_A_ROW": "1000000", "BILLING_POISON_PERCENT": "100"}
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS), **limits)
    await create_topics(env)
    async with worker(env, folder) as running:
        await running.ready()
        before = peak(running.pid)
        sent = [(number % PARTITIONS) for number in range(copies * PARTITIONS)]
        for partition in sent:
            await produce(kafka, topic, partition, raw)
        await read_up(Audit(kafka, topics), topic)
        assert running.running
        more = peak(running.pid) - before
    packed, unpacked = len(raw) * len(sent), sum(len(v) for v, _ in records) * len(sent)
    said = (
        f"{kind}: {packed:,} bytes, {unpacked / MIB:,.0f} MiB unpacked: {more / MIB:,.0f} MiB more"
    )
    record_property("memory", said)
    print(said, f"(ready: {before / MIB:,.0f} MiB)")
    assert more < MORE_MAX, said
