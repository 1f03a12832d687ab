"""A real worker, what is sent to it, and `billing-stream dlq` in processes of its own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from billing_stream.audit.verify.verifier import verify
from billing_stream.audit.verify.verify_report import Report
from billing_stream.engine.partitioner import partition_of
from billing_stream.ops.dead_letters import Cluster, DeadLetterHistory, Filters, find
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit, read_committed
from tests.support.catalogue import CATALOGUE
from tests.support.worker import Worker, create_topics, environment, run, worker

PARTITIONS = 4
EXPIRY = timedelta(seconds=5)
WAIT_SECONDS = 60.0


class Stage:
    """Topics of one test, and who writes to them."""

    def __init__(self, kafka: str, prefix: str, env: Mapping[str, str]) -> None:
        self.kafka = kafka
        self.env = env
        self.topics = Topics("billing-stream", prefix)
        self.cluster = Cluster({"bootstrap_servers": kafka}, self.topics, PARTITIONS)
        self.audit = Audit(kafka, self.topics)
        self.worker: Worker
        self._producer: AIOKafkaProducer

    async def start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all")
        await self._producer.start()

    async def stop(self) -> None:
        """Let go."""
        await self._producer.stop()

    async def send(
        self, topic: str, value: Any, key: str, *, wrong: bool = False, partition: int | None = None
    ) -> str:
        """Write a record; its reference. `wrong`: on another partition than its key's."""
        raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        if partition is None:
            partition = (partition_of(key, PARTITIONS) + wrong) % PARTITIONS
        name = self.topics.name(topic)
        sent = await self._producer.send_and_wait(name, raw, key=key.encode(), partition=partition)
        return f"{sent.topic}[{sent.partition}]@{sent.offset}"

    async def command(self, merchant: str, name: str, **fields: Any) -> str:
        """Write a command; its reference."""
        value = {"command": name, "merchant_id": merchant, **fields}
        return await self.send(names.COMMANDS, value, merchant)

    async def create(self, merchant: str) -> None:
        """A merchant, created through the commands: what follows there finds it."""
        fields = {"platform": "shopify", "domain": f"{merchant[:13]}.example"}
        await self.command(merchant, "create_merchant", **fields)

    async def charged(self, merchant: str, charge: str) -> str:
        """A pending purchase of a small pack with this charge; its id."""
        before = set(await self.purchases())
        await self.command(merchant, "reserve_purchase", pack="small", platform="shopify")
        opened: str
        (opened,) = await self.until(lambda: self._opened(before))
        url = "https://pay.example/1"
        await self.command(
            merchant, "attach_charge", purchase_id=opened, charge_id=charge, checkout_url=url
        )
        return opened

    async def _opened(self, before: set[str]) -> set[str]:
        return set(await self.purchases()) - before

    async def purchases(self) -> dict[str, dict[str, Any]]:
        """The rows of purchases."""
        return await self.audit.table(names.CREDIT_PURCHASES)

    async def credits(self, merchant: str) -> int:
        """The total of a merchant."""
        rows = await self.audit.table(names.BILLING_RECORDS)
        return int(rows.get(merchant, {}).get("total_credits_purchased", 0))

    async def letters(self, count: int, state: Any = None) -> list[DeadLetterHistory]:
        """All letters, once there are so many."""

        async def enough() -> list[DeadLetterHistory]:
            found = await find(self.cluster, Filters(state=state))
            return found if len(found) >= count else []

        found: list[DeadLetterHistory] = await self.until(enough)
        assert len(found) == count, [one.letter.record.reason for one in found]
        return found

    async def until(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """Look until there is something to be seen."""
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.2)
        raise AssertionError(f"waited for {WAIT_SECONDS} s in vain\n{self.worker.tail()}")

    async def quiet(self) -> None:
        """Wait until the worker has read all there is."""

        async def none_left() -> bool:
            lag = await self.audit.lag()
            return bool(lag) and not any(lag.values())

        await self.until(none_left)

    async def dlq(self, *arguments: str, **env: str) -> tuple[int, str]:
        """Run the command: exit code and output."""
        return await run({**self.env, **env}, "dlq", *arguments)

    async def ledger(self) -> list[dict[str, Any]]:
        """What stands in it."""
        return [
            json.loads(r.value) for r in await read_committed(self.kafka, [self.cluster.ledger])
        ]

    async def copies(self) -> list[Any]:
        """The records that are copies of letters."""
        found = await read_committed(self.kafka, [self.cluster.commands])
        return [r for r in found if dict(r.headers).get("billing-redriven-from")]

    async def verify(self) -> Report:
        """The verdict of the verifier on all of it; the worker is stopped, for time goes on."""
        await self.quiet()
        if self.worker.running:
            assert await self.worker.stop() == 0
        options = {"bootstrap_servers": self.kafka}
        return await verify(options, self.topics, PARTITIONS, CATALOGUE, purchase_expiry=EXPIRY)


@asynccontextmanager
async def stage(kafka: str, prefix: str, folder: Path, **settings: str) -> AsyncIterator[Stage]:
    """A stage with its topics and a worker that is ready."""
    env = environment(
        kafka,
        prefix,
        PENDING_PURCHASE_EXPIRY=f"{EXPIRY.seconds}s",
        BILLING_PARTITIONS="4",
        **settings,
    )
    await create_topics(env)
    found = Stage(kafka, prefix, env)
    await found.start()
    try:
        async with worker(env, folder) as found.worker:
            yield found
    finally:
        await found.stop()
