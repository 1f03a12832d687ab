"""On a cluster that nobody has used, coordinators are created at the first request for them."""

import asyncio
import json
from pathlib import Path

import pytest

from billing_stream.errors import KafkaNotReady
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.operator import Operator
from billing_stream.records.topics import Topics
from tests.support.cold import cold_kafka
from tests.support.projection import projector
from tests.support.worker import Worker, create_topics, environment, run

MORE_REPLICAS_THAN_BROKERS = """\
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
"""

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


async def test_first_worker_and_projector_of_a_cluster_become_ready(
    tmp_path: Path, postgres_url: str, prefix: str
) -> None:
    async with cold_kafka(tmp_path) as kafka:
        env = environment(kafka, prefix, DATABASE_URL=postgres_url)
        await create_topics(env)
        worker = Worker(env, tmp_path)
        await worker.start()
        async with projector(env, tmp_path) as projecting:
            try:
                await asyncio.gather(worker.ready(90), projecting.ready(90))
            finally:
                await worker.kill()

    logs = worker.log.read_text() + projecting.log.read_text()
    assert f"s for the coordinator of group {prefix}billing-stream" in logs, "nothing was awaited"
    assert "Traceback" not in logs


async def test_coordinators_that_never_come_end_the_start_with_2(
    tmp_path: Path, prefix: str
) -> None:
    async with cold_kafka(tmp_path, MORE_REPLICAS_THAN_BROKERS) as kafka:
        env = environment(
            kafka,
            prefix,
            DATABASE_URL="postgresql://u@127.0.0.1:9/x",
            BILLING_DATA_DIR=str(tmp_path / "data"),
        )
        await create_topics(env)
        env["BILLING_START_DEADLINE"] = "8s"
        ended = await asyncio.gather(run(env, "worker"), run(env, "projector"))
        code, output = await run(env, "doctor", "--json")
        letters = Cluster(
            {"bootstrap_servers": kafka}, Topics("billing-stream", prefix), 4, start_seconds=1
        )
        with pytest.raises(KafkaNotReady, match="the coordinator of transactional id"):
            async with Operator(letters):
                pass

    for exit_code, text in ended:
        assert exit_code == 2, text
        assert "Traceback" not in text
        assert "Kafka answers, but the coordinator of" in text
        assert "is not available after 8 s" in text
    assert code == 1
    found = {one["check"]: one for one in json.loads(output) if one["verdict"] != "SKIP"}
    for check in ("rights", "workers"):
        assert found[check]["said"].startswith("coordinator not available yet: the coordinator of")
        assert "__consumer_offsets" in found[check]["todo"]
