"""The command, on a real broker with a real worker."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.audit.verify.log_source import VerifyError
from billing_stream.audit.verify.verifier import verify
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit, read_committed
from tests.support.catalogue import CATALOGUE
from tests.support.traffic import Traffic
from tests.support.worker import create_topics, environment, run, worker

pytestmark = pytest.mark.timeout(90)


async def test_what_a_real_worker_did_has_no_fault_and_a_doubled_event_has(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    topics, options = Topics("billing-stream", prefix), {"bootstrap_servers": kafka}
    await create_topics(env)
    async with Traffic(kafka, prefix, 4, seed=7) as traffic, worker(env, folder):
        await traffic.merchants(60)
        running = await verify(options, topics, 4, CATALOGUE, allow_lag=True)
        await Audit(kafka, topics).wait_for(traffic.expected, 30)
        await Audit(kafka, topics).check(traffic.expected)

    quiet = await verify(options, topics, 4, CATALOGUE)
    good = await run_verify(env, "--json", str(folder / "report.json"), "--max-examples", "3")
    await double_an_event(kafka, topics)
    bad = await run_verify(env, "--merchant", next(iter(traffic.expected.trials)))

    assert running.ok, "\n".join(running.lines())
    assert quiet.ok, "\n".join(quiet.lines())
    assert quiet.checks["order"].counted == 60
    assert good == (0, good[1])
    assert "no fault" in good[1]
    written = json.loads((folder / "report.json").read_text())
    assert written["ok"]
    assert {check["name"] for check in written["checks"]} == set(quiet.checks)
    assert bad[0] == 1
    assert "event-ids: 1 faults" in bad[1]
    assert "trial.started" in bad[1]


async def run_verify(env: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """The command in a process of its own: exit code and output."""
    return await run(env, "verify", *arguments)


async def double_an_event(kafka: str, topics: Topics) -> None:
    """Someone else writes into a topic of events."""
    topic = topics.name(names.event_type("trial.started"))
    record = (await read_committed(kafka, [topic]))[0]
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    await producer.send_and_wait(
        topic,
        record.value,
        key=record.key,
        partition=record.partition,
        headers=list(record.headers),
    )
    await producer.stop()


async def test_what_cannot_be_read_says_so(kafka: str, prefix: str) -> None:
    options = {"bootstrap_servers": kafka}
    env = environment(kafka, prefix)
    with pytest.raises(VerifyError, match="is not there"):
        await verify(options, Topics("billing-stream", prefix), 4, CATALOGUE)
    await create_topics(env)
    with pytest.raises(VerifyError, match="4 partitions"):
        await verify(options, Topics("billing-stream", prefix), 8, CATALOGUE)
    with pytest.raises(VerifyError, match="knows nothing of merchant"):
        await verify(options, Topics("billing-stream", prefix), 4, CATALOGUE, merchant="nobody")

    nothing = await run_verify({**env, "BILLING_TOPIC_PREFIX": "none."})
    nobody = await run_verify({**env, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    report = await verify(options, Topics("billing-stream", prefix), 4, CATALOGUE)

    assert report.ok
    assert report.records == 0
    assert nothing[0] == 2
    assert "is not there" in nothing[1]
    assert nobody[0] == 2
    assert "no Kafka broker answers" in nobody[1]
