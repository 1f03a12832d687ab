"""What the story needs: one worker process, a producer, a reader of events, an HTTP client."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer

from billing_stream.dev.client import client_headers
from billing_stream.dev.server_process import free_port
from billing_stream.dev.worker_process import WorkerProcess, run_command
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.records import topics as names

PARTITIONS = 4
SHOWN = (*map(names.event_type, names.EVENT_TYPES), names.DEAD_LETTERS)


class Worker(WorkerProcess):
    """The `billing-stream worker` of the story."""

    def __init__(self, kafka: str, folder: Path, **settings: str) -> None:
        self.client_secret = secrets.token_hex(32)
        env = {
            **os.environ,
            "APP_ENV": "development",
            "BILLING_ENV_FILE": "",
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "CLIENT_JWT_SECRET": self.client_secret,
            "INTERNAL_JWT_SECRET": secrets.token_hex(32),
            "BILLING_PARTITIONS": str(PARTITIONS),
            # A static member: started again, it gets its partitions back at once.
            "BILLING_WORKER_NAME": "demo",
            "BILLING_TOPIC_PREFIX": "",
            "BILLING_APP_ID": "billing-stream",
            "BILLING_DRAIN_DELAY": "100ms",
            **settings,
        }
        super().__init__(env, folder, free_port())

    async def run(self, *arguments: str) -> None:
        """Run `billing-stream` to its end; RuntimeError when it fails."""
        await run_command(self.env, *arguments)

    async def start_ready(self) -> float:
        """Start the worker and wait until it is ready; the seconds that took."""
        began = time.monotonic()
        await self.start()
        await self.ready()
        return time.monotonic() - began

    async def get(self, domain: str, path: str) -> tuple[int, Any]:
        """Ask as the client of a shop; status and body."""
        return await self._ask("GET", domain, path)

    async def post(
        self, domain: str, path: str, body: Mapping[str, str] | None, key: str = ""
    ) -> tuple[int, Any]:
        """Have something done as the client of a shop; status and body."""
        return await self._ask("POST", domain, path, body, {"Idempotency-Key": key} if key else {})

    async def pay(self, page: str) -> None:
        """Press "Pay" on a checkout page; RuntimeError when that fails."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(page, data={"action": "pay"}) as response,
        ):
            if response.status != 200:
                raise RuntimeError(f"the checkout page: {response.status}")

    async def _ask(
        self,
        method: str,
        domain: str,
        path: str,
        body: Mapping[str, str] | None = None,
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, Any]:
        headers = {**client_headers(domain, self.client_secret), **extra}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, headers=headers, json=body) as response,
        ):
            return response.status, await response.json()


class Stream:
    """Sends records as upstream does, and reads events as a consumer does."""

    def __init__(self, kafka: str) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
        self._consumer = KafkaConsumer(
            *SHOWN, bootstrap_servers=kafka, isolation_level="read_committed", fetch_max_wait_ms=50
        )
        self.seen: list[tuple[str, dict[str, Any]]] = []

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()
        await self._consumer.start()
        await self._consumer.seek_to_beginning()

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(self._producer.stop(), self._consumer.stop(), return_exceptions=True)

    async def send(self, topic: str, merchant_id: str, value: Mapping[str, Any] | bytes) -> str:
        """Send one record, keyed by merchant; its reference, topic[partition]@offset."""
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        partition = partition_of(merchant_id, PARTITIONS)
        sent = await self._producer.send_and_wait(
            topic, raw, key=merchant_id.encode(), partition=partition
        )
        return f"{sent.topic}[{sent.partition}]@{sent.offset}"

    async def read(self, wanted: int, seconds: float) -> list[tuple[str, dict[str, Any]]]:
        """The next published records, `wanted` of them, or fewer when time is up."""
        got: list[tuple[str, dict[str, Any]]] = []
        end = time.monotonic() + seconds
        while len(got) < wanted and time.monotonic() < end:
            for records in (await self._consumer.getmany(timeout_ms=100)).values():
                got += [(record.topic, json.loads(record.value)) for record in records]
        self.seen += got
        return got
