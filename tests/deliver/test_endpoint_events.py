"""Changes of endpoints as events: on a real Kafka and PostgreSQL, by the commands."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from billing_stream.deliver.delivery import SCHEMA_SUFFIX, VERSIONS, migrate_webhooks
from billing_stream.deliver.endpoint_events import EndpointEvents
from billing_stream.projector.database import Database
from billing_stream.projector.migrate import migrate
from billing_stream.records.endpoint_changes import EndpointEvent, decode_endpoint_event
from billing_stream.records.topics import ENDPOINT_CHANGED, Topics
from tests.support.audit import read_committed
from tests.support.delivery import (
    add_endpoint,
    deliver_environment,
    delivered,
    delivering,
    event,
)
from tests.support.projection import committed_log, create_topics, execute, fetch, until
from tests.support.receiver import Received, receiving
from tests.support.worker import run

pytestmark = pytest.mark.timeout(180)
# Others may use the machine.
SECONDS_MAX = 90.0
CHANGES = "public_webhooks.webhook_endpoint_changes"


async def gone(_: Received) -> web.Response:
    """What an endpoint answers that is to be disabled."""
    return web.Response(status=410)


async def events(kafka: str, prefix: str) -> list[EndpointEvent]:
    """The events about endpoints, in their order."""
    records = await read_committed(kafka, [f"{prefix}{ENDPOINT_CHANGED}"])
    assert all(b"sesame" not in record.value for record in records)
    found = [decode_endpoint_event(record.value) for record in records]
    assert [one.data.endpoint_id.encode() for one in found] == [one.key for one in records]
    return found


async def published(kafka: str, prefix: str, done: Callable[[list[EndpointEvent]], bool]) -> bool:
    """Whether the events are as they are waited for."""
    return done(await events(kafka, prefix))


async def changed(env: dict[str, str], action: str) -> None:
    """An action of an operator on the endpoint."""
    code, output = await run(env, "deliver", "endpoints", action, "e")
    assert code == 0, output


async def test_what_becomes_of_an_endpoint_is_published_in_order_without_secrets(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    env = deliver_environment(kafka, prefix, postgres_url)
    async with receiving() as receiver:
        receiver.answers["/sesame"] = gone
        await add_endpoint(env, "e", f"{receiver.url}/sesame?key=sesame", "--since", "2020-01-01")
        await committed_log(kafka, prefix, 1).write(3)
        async with delivering(env, folder):
            seen = partial(published, kafka, prefix, lambda found: len(found) == 2)
            await until(seen, SECONDS_MAX, "it is disabled")
            receiver.answers.clear()
            # The second time nothing changes.
            await changed(env, "enable")
            await changed(env, "enable")
            await changed(env, "remove")
            seen = partial(
                published, kafka, prefix, lambda found: found[-1].data.state == "removed"
            )
            await until(seen, SECONDS_MAX, "it is removed")
            assert await fetch(postgres_url, f"SELECT * FROM {CHANGES}") == []

    found = await events(kafka, prefix)
    states = ["enabled", "disabled", "enabled", "removed"]
    assert [one.data.state for one in found] == states
    assert {one.data.url for one in found} == {receiver.url}
    disabled = found[1]
    assert (disabled.data.reason, disabled.data.last_error, disabled.data.queued) == (
        "it answered 410 Gone",
        "it answered 410",
        3,
    )
    assert len({one.event_id for one in found}) == 4
    assert sorted(found, key=lambda one: one.timestamp) == found


async def test_a_kill_repeats_an_event_and_skips_none(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    env = deliver_environment(kafka, prefix, postgres_url)
    await add_endpoint(env, "e", "http://127.0.0.1:9/e")
    for action in ("disable", "enable", "disable"):
        await changed(env, action)
    async with undeletable(postgres_url), delivering(env, folder) as process:
        # Kafka has it, PostgreSQL does not know yet.
        await until(
            partial(published, kafka, prefix, lambda found: len(found) == 1), SECONDS_MAX, "the one"
        )
        await process.kill()
    async with delivering(env, folder):
        await until(
            partial(published, kafka, prefix, lambda found: len(found) == 5),
            SECONDS_MAX,
            "the rest",
        )

    found = await events(kafka, prefix)
    states = ["enabled", "enabled", "disabled", "enabled", "disabled"]
    assert [one.data.state for one in found] == states
    assert found[0] == found[1]
    assert len({one.event_id for one in found}) == 4


async def test_a_process_that_hung_publishes_nothing_behind_its_successor(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    env = deliver_environment(kafka, prefix, postgres_url)
    await add_endpoint(env, "e", "http://127.0.0.1:9/e")
    await changed(env, "disable")
    first = partial(published, kafka, prefix, lambda found: len(found) == 1)
    rest = partial(published, kafka, prefix, lambda found: len(found) == 3)
    last = partial(published, kafka, prefix, lambda found: found[-1].data.state == "removed")
    async with delivering(env, folder) as hung, delivering(env, folder) as other:
        async with undeletable(postgres_url):
            await until(first, SECONDS_MAX, "the first of two")
            leads = await hung.metrics()
            paused = hung if leads["billing_deliver_active"] else other
            paused.pause()
        await until(rest, SECONDS_MAX, "both, by its successor")
        paused.resume()
        await changed(env, "remove")
        await until(last, SECONDS_MAX, "the removal")
        await paused.logged("on standby")

    states = [one.data.state for one in await events(kafka, prefix)]
    assert states == ["enabled", "enabled", "disabled", "removed"]


@asynccontextmanager
async def undeletable(database_url: str) -> AsyncIterator[None]:
    """No change can be deleted during this, nor by who waits for it at the end."""
    connection: Any = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {CHANGES} IN SHARE MODE")
            yield
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks "
                f"WHERE relation = '{CHANGES}'::regclass AND NOT granted"
            )
    finally:
        await connection.close()


async def test_without_kafka_changes_wait_and_deliveries_do_not(postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        changes = EndpointEvents(running.settings, Topics("billing-stream", "t."))
        publishing = asyncio.create_task(changes.run(running.connection, running.lock))
        try:
            await running.add("e", f"{receiver.url}/e")
            await until(partial(troubled, changes), SECONDS_MAX, "Kafka is missing")
            await running.store([event(1)])
            await receiver.until(lambda: len(receiver.requests) == 1, SECONDS_MAX, "delivered")
            (waiting,) = await fetch(postgres_url, f"SELECT state FROM {CHANGES}")
        finally:
            publishing.cancel()
            with suppress(asyncio.CancelledError):
                await publishing

    assert waiting == {"state": "enabled"}
    assert "changes of endpoints are not published" in changes.trouble


async def troubled(changes: EndpointEvents) -> bool:
    """Whether changes wait for Kafka."""
    return bool(changes.trouble)


async def test_endpoints_from_before_are_published_after_an_upgrade(
    postgres_url: str, tmp_path: Path
) -> None:
    database = Database(postgres_url, "public").beside(SCHEMA_SUFFIX)
    name = "v0001_webhooks.py"
    (tmp_path / name).write_text((VERSIONS / name).read_text())
    await migrate(database.url, database.schema, versions=tmp_path)
    await execute(
        postgres_url,
        "INSERT INTO public_webhooks.webhook_endpoints "
        "(id, url, begins_at, secret, disabled_at, disabled_because) VALUES "
        "('on', 'https://a.example', now(), 's', NULL, NULL), "
        "('off', 'https://b.example', now(), 's', now(), 'by an operator')",
    )

    await migrate_webhooks(database)

    query = f"SELECT endpoint_id, state, reason FROM {CHANGES} ORDER BY number"
    found = [tuple(row.values()) for row in await fetch(postgres_url, query)]
    assert found == [("off", "disabled", "by an operator"), ("on", "enabled", None)]
