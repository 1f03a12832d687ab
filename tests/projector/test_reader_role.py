"""Workers read the projection with a role that can do nothing else, and the doctor knows it."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from billing_stream.config.settings import Settings
from billing_stream.ops.doctor.database_checks import of_reader
from billing_stream.projector.migrate import migrate
from billing_stream.projector.reader_role import RELATIONS, ReaderRights
from tests.projector.test_rebuild import do_swap
from tests.support.nodes import cluster
from tests.support.projection import (
    all_there,
    committed_log,
    create_topics,
    execute,
    fetch,
    projector,
    projector_environment,
    until,
)
from tests.support.worker import environment, run
from tests.web.conftest import M1

PASSWORD = "a-password-of-this-test"
_RELATIONS = (
    "SELECT c.relname AS name FROM pg_class c WHERE c.relkind IN ('r', 'v') "
    "AND c.relnamespace = 'public'::regnamespace ORDER BY 1"
)


class Reader(NamedTuple):
    """A role that may log in, and nothing else yet."""

    role: str
    url: str


@pytest_asyncio.fixture
async def reader(postgres_url: str) -> AsyncIterator[Reader]:
    parts = urlsplit(postgres_url)
    role = f"{parts.path[1:]}_reader"
    await execute(postgres_url, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    netloc = f"{role}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"
    yield Reader(role, parts._replace(netloc=netloc).geturl())
    await execute(postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def require_reads_only(reader: Reader) -> None:
    """Fails unless the role reads every relation, and can change none."""
    for name in RELATIONS:
        await execute(reader.url, f"SELECT * FROM {name} LIMIT 1")
    views = ("billing_history", "billing_revenue_daily", "billing_trial_conversion")
    changes = [f"DELETE FROM {name}" for name in RELATIONS if name not in views]
    changes += [
        "TRUNCATE billing_events",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
    ]
    changes += [
        "UPDATE billing_records SET total_credits_purchased = 1",
        "DROP TABLE billing_events",
    ]
    for change in changes:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(reader.url, change)


async def test_the_projector_lets_the_role_read_and_nothing_else(
    postgres_url: str, reader: Reader
) -> None:
    await migrate(postgres_url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(reader.url, "SELECT * FROM billing_events")
    await execute(postgres_url, "CREATE TABLE of_others (id int)")

    for _ in range(2):
        assert await migrate(postgres_url, reader=reader.role) == []

    await require_reads_only(reader)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(reader.url, "SELECT * FROM of_others")
    await execute(postgres_url, "DROP TABLE of_others")
    assert [row["name"] for row in await fetch(postgres_url, _RELATIONS)] == sorted(RELATIONS)


async def test_the_role_reads_on_after_a_rebuild(postgres_url: str, reader: Reader) -> None:
    await migrate(postgres_url, reader=reader.role)
    await migrate(postgres_url, "public_next", reader.role)

    await do_swap(postgres_url)

    await require_reads_only(reader)


async def test_history_is_read_with_the_role(
    postgres_url: str, reader: Reader, tmp_path: Path
) -> None:
    await migrate(postgres_url, reader=reader.role)
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, DATABASE_URL=reader.url) as found:
        await found.create(M1, "one.example")

        reply = await found.nodes[0].get("/api/billing/history", "one.example")

    assert reply.data == []


@pytest.mark.timeout(120)
async def test_a_projector_grants_and_says_when_there_is_no_such_role(
    kafka: str, prefix: str, folder: Path, postgres_url: str, reader: Reader
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 5)
    await log.write(20)
    env = projector_environment(kafka, prefix, postgres_url)
    secrets = ("CLIENT_JWT_SECRET", "INTERNAL_JWT_SECRET")
    env = {name: value for name, value in env.items() if name not in secrets}

    code, output = await run({**env, "BILLING_READER_ROLE": "nobody_here"}, "projector")
    assert code == 2
    assert "PostgreSQL has no role nobody_here" in output
    async with projector({**env, "BILLING_READER_ROLE": reader.role}, folder):
        await until(partial(all_there, postgres_url, log), 60, "all is there")

    await require_reads_only(reader)


async def doctor(url: str, **settings: str) -> list[dict[str, Any]]:
    env = environment("127.0.0.1:1", "", DATABASE_URL=url, **settings)
    _, output = await run(env, "doctor", "--json", "--timeout", "5")
    return [one for one in json.loads(output) if one["check"] == "database user"]


async def test_the_doctor_checks_the_role(postgres_url: str, reader: Reader) -> None:
    named = {"BILLING_READER_ROLE": reader.role}
    await migrate(postgres_url)
    (unreadable,) = await doctor(postgres_url, **named)
    assert unreadable["verdict"] == "FAIL"
    assert unreadable["said"].endswith(f"may not read {', '.join(RELATIONS)}")

    await migrate(postgres_url, reader=reader.role)
    for url in (postgres_url, reader.url):
        (good,) = await doctor(url, **named)
        assert (good["verdict"], good["todo"]) == ("OK", "")

    await execute(postgres_url, f"GRANT UPDATE (amount) ON credit_purchases TO {reader.role}")
    (writes,) = await doctor(reader.url, **named)
    assert writes["verdict"] == "WARN"
    assert "may write: credit_purchases;" in writes["said"]

    (missing,) = await doctor(postgres_url, BILLING_READER_ROLE="nobody_here")
    assert (missing["verdict"], "CREATE ROLE nobody_here" in missing["todo"]) == ("FAIL", True)
    # Development needs no second role.
    assert await doctor(postgres_url) == []


NOTHING = ReaderRights([], [], may_create=False)
ALL = ReaderRights([], ["billing_events"], may_create=True)


@pytest.mark.parametrize(
    ("named", "user", "found", "verdicts"),
    [
        (None, "owner", ALL, ["WARN"]),
        (None, "reader", NOTHING, []),
        ("reader", "owner", NOTHING, ["WARN"]),
        ("reader", "reader", NOTHING, ["OK"]),
        ("reader", "reader", ALL, ["WARN"]),
    ],
)
def test_in_production_a_worker_must_not_be_able_to_write(
    named: str | None, user: str, found: ReaderRights, verdicts: list[str]
) -> None:
    settings = Settings.model_construct(app_env="production", reader_role=named)
    assert [one.verdict for one in of_reader(named or user, user, found, settings)] == verdicts
