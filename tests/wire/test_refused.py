"""Whoever may not come in is told why, and what to do: never a hang, never a traceback."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from billing_stream.kafka.acls import Acl, Process, Resource, acls
from billing_stream.records.topics import Topics
from tests.support.secured import PASSWORD, SecuredKafka
from tests.support.shop import create_merchants
from tests.support.worker import create_topics, environment, run, worker

pytestmark = pytest.mark.full

ENDS_WITHIN_SECONDS = 30
MERCHANT = "11111111-1111-4111-8111-111111111111"
READ_ONLY = ("Describe", "DescribeConfigs")


@pytest_asyncio.fixture
async def with_topics(secured: SecuredKafka, prefix: str) -> AsyncIterator[str]:
    """A prefix whose topics are there, and the user `worker` may work on."""
    await create_topics(environment(secured.plain, prefix))
    await secured.allow_process(Process.WORKER, prefix)
    yield prefix


async def said(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        code, output = await run(env, *arguments)
    assert "Traceback" not in output, output
    assert PASSWORD not in output
    return code, output


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_said_to_be_refused(
    secured: SecuredKafka, prefix: str, folder: Path, mechanism: str
) -> None:
    wrong = {"KAFKA_SASL_PASSWORD": "not-this-one", "BILLING_DATA_DIR": str(folder)}
    env = environment("", prefix, **{**secured.sasl_environment("worker", mechanism), **wrong})

    code, output = await said(env, "worker")

    assert code == 2
    assert f"{secured.sasl}: it refuses KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD" in output
    assert "not-this-one" not in output


async def test_brokers_of_an_unknown_authority_are_not_trusted(
    secured: SecuredKafka, prefix: str, folder: Path
) -> None:
    other = folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    env = environment("", prefix, **secured.sasl_environment("worker"))

    for command in (["topics", "check"], ["verify"], ["dlq", "list"], ["projector"]):
        code, output = await said(
            {**env, "KAFKA_SSL_CAFILE": str(other), "DATABASE_URL": "postgresql://a@b/c"}, *command
        )

        assert code == 2, output
        assert "certificate is not trusted" in output, (command, output)
        assert "KAFKA_SSL_CAFILE" in output


async def test_the_name_of_a_broker_is_checked(secured: SecuredKafka, prefix: str) -> None:
    env = environment("", prefix, **secured.sasl_environment("worker"))
    env["KAFKA_BOOTSTRAP_SERVERS"] = secured.sasl.replace("127.0.0.1", "127.0.0.2")

    code, output = await said(env, "topics", "check")

    # The broker listens on 127.0.0.1 alone, and so does its certificate.
    assert code == 2
    assert "127.0.0.2" in output


async def test_a_client_without_a_certificate_is_told_that_one_is_needed(
    secured: SecuredKafka, prefix: str
) -> None:
    env = environment("", prefix, **secured.mutual_environment("worker"))
    del env["KAFKA_SSL_CERTFILE"]

    code, output = await said(env, "topics", "check")

    assert code == 2
    assert "KAFKA_SSL_CERTFILE" in output


async def test_the_wrong_listener_is_said_to_be_so(secured: SecuredKafka, prefix: str) -> None:
    env = environment("", prefix, **secured.sasl_environment("worker"))

    code, output = await said({**env, "KAFKA_BOOTSTRAP_SERVERS": secured.plain}, "topics", "check")

    assert code == 2
    assert "is it the listener for KAFKA_SECURITY_PROTOCOL" in output


async def test_a_user_without_rights_is_told_what_it_may_not_do(
    secured: SecuredKafka, with_topics: str
) -> None:
    env = environment("", with_topics, **secured.sasl_environment("nobody"))

    code, output = await said(env, "topics", "check")

    assert code == 2
    assert "is missing" in output
    assert "billing-stream topics acls" in output


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        (Resource.TRANSACTIONAL_ID, "transactional id"),
        (Resource.GROUP, "group"),
    ],
)
async def test_a_worker_that_lacks_one_right_ends_and_names_it(
    secured: SecuredKafka, with_topics: str, folder: Path, left_out: Resource, named: str
) -> None:
    user = f"crippled-{left_out}"
    rules = acls(Process.WORKER, Topics("billing-stream", with_topics))
    await secured.allow(user, [rule for rule in rules if rule.resource is not left_out])
    env = environment("", with_topics, **secured.mutual_environment(user))

    code, output = await said({**env, "BILLING_DATA_DIR": str(folder)}, "worker")

    assert code == 2
    assert f"Kafka does not allow it: {named} {with_topics}billing-stream" in output
    assert "billing-stream topics acls" in output


async def test_a_worker_that_may_not_write_a_topic_ends_hard_and_names_it(
    secured: SecuredKafka, with_topics: str, folder: Path
) -> None:
    journal = f"{with_topics}billing.journal.v1"
    rules = acls(Process.WORKER, Topics("billing-stream", with_topics))
    await secured.allow("no-journal", [rule for rule in rules if rule.name != journal])
    await secured.allow("no-journal", [Acl(Resource.TOPIC, journal, READ_ONLY)])
    env = environment("", with_topics, **secured.mutual_environment("no-journal"))

    # Each transaction writes the order of its records there: the first cannot be written.
    async with worker(env, folder) as running:
        await create_merchants(secured.plain, with_topics, {MERCHANT: "anna.example"})
        code = await asyncio.wait_for(running.process.wait(), ENDS_WITHIN_SECONDS)

    assert code == 70
    assert f"Kafka does not allow it: topic {journal}" in running.tail()
    assert "billing-stream topics acls" in running.tail()
