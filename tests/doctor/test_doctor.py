"""The doctor finds what is wrong, says what to do, and changes nothing."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from billing_stream.ops.doctor.database_checks import of_content, of_version, skew
from billing_stream.ops.doctor.finding import Verdict
from billing_stream.projector.gaps import Gap
from billing_stream.projector.migrate import VERSIONS_TABLE, migrate
from billing_stream.records import topics as names
from tests.support.projection import projector
from tests.support.worker import create_topics, environment, run, worker


async def findings(env: dict[str, str], *options: str) -> tuple[int, list[dict[str, Any]]]:
    code, output = await run(env, "doctor", "--json", *options)
    return code, json.loads(output)


def of(found: list[dict[str, Any]], check: str) -> list[dict[str, Any]]:
    return [one for one in found if one["check"] == check]


def failing(found: list[dict[str, Any]]) -> list[str]:
    return [one["check"] for one in found if one["verdict"] == "FAIL"]


def skipped(finding: dict[str, Any]) -> list[str]:
    """The checks that were left out."""
    assert finding["verdict"] == "SKIP"
    names: str = finding["said"].removeprefix("not looked at because of this: ")
    return names.split(", ")


async def test_where_all_is_well_it_says_so(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    env = environment(kafka, prefix, DATABASE_URL=postgres_url)
    await create_topics(env)
    await migrate(postgres_url)
    code, before = await findings(env)
    assert (code, failing(before)) == (0, [])
    none, hidden = of(before, "workers")
    assert none["todo"] == "billing-stream worker"
    assert skipped(hidden) == ["peers", "ready", "worker clocks"]
    assert of(before, "projector")[0]["todo"] == "billing-stream projector"
    async with worker(env, folder) as one, projector(env, folder) as other:
        await other.ready()
        ports = {"BILLING_API_EXTERNAL_PORT": one.port, "BILLING_PROJECTOR_PORT": other.port}
        code, found = await findings(env | {name: str(port) for name, port in ports.items()})
    assert code == 0
    assert {one["verdict"] for one in found} == {"OK"}
    in_use = f"{one.port}, {other.port} in use by billing-stream itself"
    assert of(found, "ports")[0]["said"] == in_use
    assert of(found, "ready")[0]["said"] == "1 of 1 workers take requests"
    assert {one["check"] for one in found} == {
        *("settings", "data folder", "ports", "brokers", "replicas", "transactions", "topics"),
        *("rights", "workers", "peers", "ready", "open transactions", "worker clocks", "state"),
        *("inputs", "lag", "dead letters", "catalogue", "projector", "projection", "clock"),
    }


async def test_what_is_wrong_with_the_topics_is_said_with_what_to_do(
    kafka: str, prefix: str
) -> None:
    env = environment(kafka, prefix)
    code, found = await findings(env)
    missing, hidden = of(found, "topics")
    assert code == 1
    assert missing["said"].startswith("is missing: ")
    assert missing["todo"] == "billing-stream topics create"
    assert {"state", "inputs", "lag", "dead letters"} <= set(skipped(hidden))
    _, again = await findings(env)
    assert again == found, "nothing was changed"

    await create_topics(env)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_partitions({prefix + names.COMMANDS: NewPartitions(total_count=5)})
    await admin.alter_configs(
        [
            ConfigResource(
                ConfigResourceType.TOPIC,
                prefix + names.MERCHANT_CREATED,
                configs={"retention.ms": "1000"},
            )
        ]
    )
    await admin.close()
    code, found = 0, []
    # The broker learns of a change after the controller has taken it.
    async with asyncio.timeout(60):
        while sum("were added" in one["said"] or "retention" in one["said"] for one in found) < 2:
            code, found = await findings(env)
    said = {one["said"]: one["todo"] for one in of(found, "topics")}
    assert code == 1
    (added,) = [action for text, action in said.items() if f"{names.COMMANDS}[4]" in text]
    assert "billing-stream inputs accept" in added
    assert [text for text in said if "retention" in text and names.MERCHANT_CREATED in text]


async def test_brokers_and_a_database_that_are_away_do_not_make_it_hang() -> None:
    env = environment(
        "127.0.0.1:9,127.0.0.1:10", "x.", DATABASE_URL="postgresql://u:hidden@127.0.0.1:9/d"
    )
    code, found = await findings(env, "--timeout", "5")
    assert code == 1
    assert failing(found) == ["brokers", "postgresql"]
    assert "hidden" not in json.dumps(found)
    # One cause is one line, and what it hides is named.
    brokers, hidden = of(found, "brokers")
    assert brokers["said"] == "none answers: 127.0.0.1:9, 127.0.0.1:10: Connection refused"
    assert hidden["verdict"] == "SKIP"
    assert {"topics", "peers", "dead letters", "projector"} <= set(skipped(hidden))
    assert skipped(of(found, "postgresql")[1]) == ["projection", "database user", "clock"]
    assert {one["check"] for one in found} == {
        *("settings", "data folder", "ports", "brokers", "postgresql"),
    }


async def test_a_schema_of_another_version_is_told(
    kafka: str, prefix: str, postgres_url: str
) -> None:
    env = environment(kafka, prefix, DATABASE_URL=postgres_url)
    _, found = await findings(env)
    assert of(found, "projection")[0]["verdict"] == "WARN"
    await migrate(postgres_url)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"UPDATE {VERSIONS_TABLE} SET version_num = 'of-the-future'")
    await connection.close()
    _, found = await findings(env)
    (told,) = of(found, "projection")
    assert told["verdict"] == "FAIL"
    assert "projector rebuild" in told["todo"]


def test_a_schema_that_waits_for_its_upgrade_is_told() -> None:
    behind = of_version("public", "0001", ["0002", "0001"])
    assert behind.verdict is Verdict.FAIL
    assert "upgrades the schema" in behind.action


def test_gaps_and_rejects_of_the_projection_are_named() -> None:
    gaps = [Gap("evt.x", 3, "trimmed", 5, 9), Gap("evt.x", 4, "replaced", 2, 9)]

    trimmed, replaced, rejects = of_content(gaps, 7)

    assert trimmed.verdict is rejects.verdict is Verdict.WARN
    assert replaced.verdict is Verdict.FAIL
    assert "evt.x[3] offsets 5 to 8 were deleted" in trimmed.message
    assert "projector accept 'evt.x[3]@5'" in trimmed.action
    assert "projector rebuild" in replaced.action
    assert "7 records fit into no table" in rejects.message
    assert list(of_content([], 0)) == []


async def test_it_warns_of_what_is_hardly_meant(kafka: str, prefix: str) -> None:
    secret = "the-same-secret-for-both-0123456789"
    env = environment(
        kafka,
        prefix,
        CLIENT_JWT_SECRET=secret,
        INTERNAL_JWT_SECRET=secret,
        BILLING_PARTITION="4",
        BILLING_DATA_DIR="/dev/null/nowhere",
    )
    code, output = await run(env, "doctor")
    assert code == 1
    assert "BILLING_PARTITION is not a setting\n      -> did you mean BILLING_PARTITIONS?" in output
    assert "clients can sign as operators" in output
    assert "FAIL  data folder: /dev/null is not a folder" in output
    assert secret not in output
    assert "\x1b" not in output


def test_clocks_that_are_apart_are_told() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert skew(now, now + timedelta(seconds=1)).verdict is Verdict.OK
    apart = skew(now, now + timedelta(seconds=90))
    assert (apart.verdict, "90.0 s behind" in apart.message) == (Verdict.WARN, True)
