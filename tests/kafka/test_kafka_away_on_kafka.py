"""The only broker is gone: processes say so in plain words, ask seldom, and come back."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from billing_stream.dev.cluster import Cluster
from tests.support.projection import projector
from tests.support.worker import Worker, create_topics, environment, worker

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]
SECONDS = 10.0
# Of a worker it was 70 with the pauses of aiokafka, which are none. Here are two processes.
PER_SECOND_MAX = 15.0


async def ready(of: Worker) -> tuple[int, list[str]]:
    """The status of `/ready`, and the problems that it names."""
    async with aiohttp.ClientSession() as session, session.get(f"{of.url}/ready") as response:
        body: dict[str, Any] = await response.json()
        # A worker's has an envelope, a projector's has none.
        found = body if "problems" in body else body["data"] or body["error"]["details"]
        return response.status, found["problems"]


async def until(of: Worker, status: int, seconds: float) -> list[str]:
    """The problems, as soon as `/ready` answers with the status. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            answered, problems = await ready(of)
            if answered == status:
                return problems
            await asyncio.sleep(0.1)


@asynccontextmanager
async def in_its_place(address: str) -> AsyncIterator[list[float]]:
    """The times of connections to where the broker was; each is closed at once."""
    times: list[float] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        writer.close()

    host, _, port = address.rpartition(":")
    async with await asyncio.start_server(accept, host, int(port)):
        yield times


async def test_processes_without_kafka_say_so_and_ask_seldom(
    tmp_path: Path, prefix: str, folder: Path, postgres_url: str
) -> None:
    with Cluster(tmp_path / "kafka", brokers=1) as cluster:
        address = cluster.bootstrap_servers
        env = environment(
            address,
            prefix,
            BILLING_SESSION_TIMEOUT="8s",
            BILLING_LOG_FORMAT="json",
            DATABASE_URL=postgres_url,
        )
        await create_topics(env)
        async with worker(env, folder) as one, projector(env, folder) as other:
            await other.ready()
            cluster.kafka.kill()
            async with in_its_place(address) as times:
                (problem,) = await until(one, 503, 5)
                assert problem.startswith("Kafka has not answered since ")
                assert f"({address}: " in problem
                (problem,) = await until(other, 503, 5)
                assert problem.startswith("Kafka has not answered since ")
                begun = time.monotonic()
                await asyncio.sleep(SECONDS)
                asked = sum(at >= begun for at in times)
                assert 1 <= asked < PER_SECOND_MAX * SECONDS
                # Past the session: still the cause, and nothing that follows from it.
                _, (problem,) = await ready(one)
                assert problem.startswith("Kafka has not answered since ")
            await asyncio.to_thread(cluster.kafka.start)
            await until(one, 200, 60)
            await until(other, 200, 60)
            assert one.running
            assert other.running
        logs = [process.log.read_text().splitlines() for process in (one, other)]
    for lines in ([json.loads(line) for line in log] for log in logs):
        said = [line["event"] for line in lines if line["level"] != "info"]
        assert len([text for text in said if text.startswith("Kafka has not answered")]) == 1
        assert not [text for text in said if "NodeNotReady" in text or "Unable connect" in text]
        assert "Kafka answers again" in [line["event"] for line in lines]
