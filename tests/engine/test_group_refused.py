"""A process that its consumer group does not accept ends, and says why: it does not wait idle."""

import asyncio

from aiokafka import AIOKafkaConsumer

from billing_stream.errors import EXIT_GROUP
from billing_stream.records import topics as names
from tests.support.worker import create_topics, environment, run

ENDS_WITHIN_SECONDS = 60


async def ended(env: dict[str, str], command: str) -> str:
    """What the process says that its group refuses."""
    code, output = await asyncio.wait_for(run(env, command), ENDS_WITHIN_SECONDS)
    assert code == EXIT_GROUP, output
    assert "Traceback" not in output
    return output


async def test_session_timeout_out_of_range_is_named(
    kafka: str, prefix: str, postgres_url: str
) -> None:
    env = environment(kafka, prefix, DATABASE_URL=postgres_url, BILLING_SESSION_TIMEOUT="500ms")
    await create_topics(env)

    for command in ("worker", "projector"):
        output = await ended(env, command)
        assert "INVALID_SESSION_TIMEOUT" in output
        assert "BILLING_SESSION_TIMEOUT must be within group.min.session.timeout.ms" in output


async def test_another_application_in_the_group_is_named(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    async with AIOKafkaConsumer(
        prefix + names.COMMANDS, bootstrap_servers=kafka, group_id=f"{prefix}billing-stream"
    ):
        output = await ended(env, "worker")

    assert "INCONSISTENT_GROUP_PROTOCOL" in output
    assert "members of another application, or of another release, are in it" in output
