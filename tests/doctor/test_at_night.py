"""What the doctor says of a system that runs and does not do all of its work."""

import socket
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from billing_stream.ops.doctor.database_checks import not_connected
from billing_stream.ops.doctor.finding import Verdict
from billing_stream.ops.doctor.work_checks import waiting_records
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.dead_letters.stage import stage
from tests.doctor.test_doctor import findings, of
from tests.support.worker import create_topics, environment, run
from tests.support.world import M1, M2

WRONG = "another-internal-secret-for-tests-0123"


async def test_dead_letters_secrets_and_workers_without_kafka_are_named(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.create(M1)
        for merchant in (M1, M2, M2):
            await at.send(names.PURCHASE_UPDATED, b"{", merchant)
        await at.letters(3)
        await at.quiet()
        code, found = await findings(dict(at.env))
        assert code == 0
        (letters,) = of(found, "dead letters")
        assert letters["verdict"] == "WARN"
        assert letters["said"] == f"3 open: 3 NOT_UNDERSTOOD of {names.PURCHASE_UPDATED}"
        assert letters["todo"] == "billing-stream dlq list"
        assert of(found, "lag")[0]["verdict"] == "OK"

        code, found = await findings({**at.env, "INTERNAL_JWT_SECRET": WRONG})
        assert code == 1
        (peers,) = of(found, "peers")
        assert peers["verdict"] == "FAIL"
        assert "INTERNAL_JWT_SECRET differs" in peers["said"]


async def test_the_same_fault_of_many_topics_is_one_line(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    code, output = await run({**env, "BILLING_PARTITIONS": "8"}, "doctor")
    assert code == 1
    (line,) = [line for line in output.splitlines() if "partitions, must have" in line]
    assert line.startswith("FAIL  topics: has 4 partitions, must have 8: ")
    assert "SKIP  topics: not looked at because of this: " in output
    assert len(output.splitlines()) < 30


async def test_a_port_of_another_program_is_a_failure(kafka: str, prefix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        env = environment(kafka, prefix, BILLING_API_EXTERNAL_PORT=str(port))
        code, found = await findings(env)
    (finding,) = of(found, "ports")
    assert code == 1
    assert finding["verdict"] == "FAIL"
    assert finding["said"] == f"another program listens on port {port}"
    assert "BILLING_API_EXTERNAL_PORT" in finding["todo"]


async def test_a_folder_that_cannot_be_made_is_a_failure() -> None:
    env = environment("127.0.0.1:9", "x.", BILLING_DATA_DIR="/proc/nowhere")
    code, found = await findings(env, "--timeout", "5")
    assert code == 1
    assert of(found, "data folder")[0]["verdict"] == "FAIL"
    assert "cannot be made" in of(found, "data folder")[0]["said"]


async def test_a_database_that_refuses_is_not_said_to_be_away(postgres_url: str) -> None:
    import asyncpg

    error: BaseException | None = None
    try:
        await asyncpg.connect(postgres_url, database="not-there")
    except asyncpg.PostgresError as raised:
        error = raised
    assert error is not None
    refused, away = not_connected(error), not_connected(ConnectionRefusedError(111, "refused"))
    assert refused.message.startswith("refuses the connection: ")
    assert "not-there" in refused.message
    assert refused.action.startswith("fix DATABASE_URL")
    assert away.message == "does not answer: Connection refused"
    assert refused.verdict is away.verdict is Verdict.FAIL


def test_records_after_the_shown_position_or_the_begin_wait() -> None:
    topics = Topics("billing-stream", "p.")
    first, second, third = (TopicPartition("p.t", number) for number in range(3))
    shown_at = {first: OffsetAndMetadata(7, ""), second: OffsetAndMetadata(-1, "")}
    begins, ends = {first: 0, second: 3, third: 0}, {first: 10, second: 5, third: 0}
    assert waiting_records(topics, shown_at, begins, ends) == {"t": 5}
