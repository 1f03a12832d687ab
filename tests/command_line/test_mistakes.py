"""The usual mistakes end with a message that says what to do next, never with a traceback."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.silent import silent_server
from tests.support.worker import create_topics, environment, run

MERCHANT = "11111111-1111-4111-8111-111111111111"
# Twice the five seconds for a connection, on a machine with much else to do; and not the two
# minutes of three brokers in a row.
SOON_SECONDS = 80.0
NOBODY = "127.0.0.1:9"
PASSWORD = "a-password-that-nobody-should-see"


async def told(env: dict[str, str], *arguments: str, code: int = 2) -> str:
    """What a command says that ends with this code."""
    ended, output = await run(env, *arguments)
    assert ended == code, output
    assert "Traceback" not in output
    assert "Unclosed" not in output
    return output


@pytest.mark.parametrize(
    "command",
    [
        "worker",
        "topics create",
        "topics check",
        "verify",
        "replay",
        f"explain {MERCHANT}",
        "dlq list",
        "inputs list",
        f"forget {MERCHANT} --yes",
        "projector",
        "projector rebuild",
        "dev merchant anna.example",
    ],
)
async def test_no_broker(command: str) -> None:
    env = environment(NOBODY, "p.", DATABASE_URL="postgresql://u@127.0.0.1:9/x")

    output = await told(env, *command.split())

    assert "no Kafka broker answers" in output
    assert f"{NOBODY}: Conn" in output
    assert "KAFKA_BOOTSTRAP_SERVERS says where" in output
    if command.split()[0] not in ("worker", "projector"):
        # Those have a log, in which the client has its say as well.
        assert len(output.splitlines()) == 3


@pytest.mark.parametrize("command", ["topics create", "topics check", "verify", "dlq list"])
async def test_brokers_that_never_answer_end_a_command_soon(command: str) -> None:
    """A client would wait for one after the other, 40 seconds each."""
    with silent_server() as first, silent_server() as second, silent_server() as third:
        env = environment(",".join([first, second, third]), "p.")

        async with asyncio.timeout(SOON_SECONDS):
            output = await told(env, *command.split())

    assert "no Kafka broker answers" in output
    for server in (first, second, third):
        assert f"{server}: no answer within 5 s" in output


async def test_a_broker_that_never_answers_does_not_hold_up_those_that_do(
    kafka: str, prefix: str
) -> None:
    with silent_server() as server:
        env = environment(f"{server},{kafka}", prefix)
        async with asyncio.timeout(SOON_SECONDS):
            ended, output = await run(env, "topics", "create")

    assert ended == 0, output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CLIENT_JWT_SECRET": "short"}, "CLIENT_JWT_SECRET: must have 32 characters at least"),
        ({"APP_ENV": ""}, "APP_ENV: is not set"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka"}, "of the right form: Kafka brokers, host:port"),
        ({"BILLING_ENV_FILE": "/none/.env"}, "there is no file /none/.env"),
        ({"APP_ENV": "prod"}, "'development', 'test', 'staging' or 'production'"),
    ],
)
async def test_a_setting(change: dict[str, str], words: str) -> None:
    output = await told({**environment(NOBODY, "p."), **change}, "worker")

    assert words in output


async def test_a_port_that_is_taken_as_by_a_second_worker(kafka: str, prefix: str) -> None:
    await create_topics(environment(kafka, prefix))
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = str(other.getsockname()[1])
        env = environment(kafka, prefix, BILLING_API_EXTERNAL_PORT=port)
        output = await told(env, "worker")

    assert f"port {port} of 0.0.0.0 cannot be listened on" in output
    assert "BILLING_API_EXTERNAL_PORT of its own" in output


async def test_a_folder_that_cannot_be_made(kafka: str, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder, port = str(tmp_path / "file" / "data"), str(free_port())
    env = environment(kafka, prefix, BILLING_DATA_DIR=folder, BILLING_API_EXTERNAL_PORT=port)
    await create_topics(env)

    output = await told(env, "worker")

    assert "BILLING_DATA_DIR must be a folder that this user can write" in output


@pytest.mark.parametrize(
    "command",
    [
        "verify --json {}",
        "replay --json {}",
        f"explain {MERCHANT} --json {{}}",
        "import --json {}",
        "import --rejects {}",
        "import shadow --json {}",
        "dlq show 0@0 --value-to {}",
    ],
)
async def test_a_result_that_has_nowhere_to_go_is_told_before_the_work(
    command: str, tmp_path: Path
) -> None:
    env = environment(NOBODY, "p.", OLD_DATABASE_URL="postgresql://u@127.0.0.1:9/x")

    nowhere = await told(env, *command.format(tmp_path / "none" / "report").split())
    folder = await told(env, *command.format(tmp_path).split())

    assert f"there is no folder {tmp_path / 'none'}" in nowhere
    assert f"{tmp_path} is a folder" in folder


@pytest.mark.parametrize(
    "command",
    ["topics check", "worker", f"forget {MERCHANT} --yes", "dev merchant anna.example", "dlq list"],
)
async def test_topics_that_are_not_there(command: str, kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)

    assert "billing-stream topics create" in await told(env, *command.split())


@pytest.mark.parametrize("command", ["verify", "replay", f"explain {MERCHANT}"])
async def test_what_only_reads_says_where_it_looked(command: str, kafka: str, prefix: str) -> None:
    output = await told(environment(kafka, prefix), *command.split())

    assert f"topic {prefix}" in output
    assert "is not there" in output
    assert "billing-stream topics " in output


async def test_other_partitions_than_there_are(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    env["BILLING_PARTITIONS"] = "5"

    for command in ("worker", "topics check", "forget " + MERCHANT + " --yes"):
        output = await told(env, *command.split())
        assert "has 4 partitions, must have 5" in output
        assert "BILLING_PARTITIONS must say what there is" in output
        assert "missing topics" not in output
    for command in ("verify", "replay"):
        assert "BILLING_PARTITIONS says 5" in await told(env, command)


async def test_a_merchant_a_shop_a_letter_that_nobody_knows(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)

    assert "platform:domain" in await told(env, "explain", MERCHANT)
    assert "shopify:anna.example" in await told(env, "explain", "shopify:no.example")
    assert "is not a merchant id" in await told(env, "forget", "anna", "--yes")
    assert "is that its id, a uuid?" in await told(env, "verify", "--merchant", "anna")
    assert "'anna' is not a dead letter like 3@17" in await told(env, "dlq", "show", "anna")
    assert "--state all" in await told(env, "dlq", "show", "0@7")


async def test_postgresql_that_is_away_or_refuses(
    kafka: str, prefix: str, postgres_url: str
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    user_at = postgres_url.index("://") + 3
    refused = f"{postgres_url[:user_at]}postgres:{PASSWORD}@{postgres_url.split('@')[1]}"
    away = f"postgresql://u:{PASSWORD}@127.0.0.1:9/x"

    for url in (refused, away):
        for command in ("projector migrate", "projector rebuild", "verify"):
            output = await told({**env, "DATABASE_URL": url}, *command.split())
            assert "PostgreSQL cannot be" in output
            assert "DATABASE_URL" in output
            assert PASSWORD not in output


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("wrker", "Did you mean worker?"), ("dlq lst", "Did you mean list?"), ("xyzzy", "xyzzy'.")],
)
async def test_a_misspelt_command_is_answered_with_the_near_ones(wrong: str, meant: str) -> None:
    output = await told({}, *wrong.split())

    assert output.strip().endswith(meant)
