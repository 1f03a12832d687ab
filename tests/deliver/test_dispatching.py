"""What is sent, in which order, and what follows from the answers. On a real PostgreSQL."""

import asyncio
import logging
from datetime import timedelta
from functools import partial

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from billing_stream.deliver import endpoints, event_store
from billing_stream.deliver.locks import written
from tests.support.delivery import (
    EXPIRED,
    MERCHANT,
    OTHER_MERCHANT,
    Delivered,
    delivered,
    event,
)
from tests.support.projection import until
from tests.support.receiver import Answer, Received, in_order, receiving

SECONDS_MAX = 30.0
SHORT = {"BILLING_DELIVER_RETRY_FOR": "1ms"}


def answering(status: int, **headers: str) -> Answer:
    """An answer with this status, always."""

    async def answer(_: Received) -> web.Response:
        return web.Response(status=status, headers=headers)

    return answer


async def test_a_merchants_events_come_in_order_though_read_in_another(postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        secret = await running.add("e", f"{receiver.url}/e")
        # Each topic has its own order, and a merchant's events are in several.
        await running.store([event(3), event(2, kind=EXPIRED)])
        await running.store([event(1, OTHER_MERCHANT)])
        await receiver.until(lambda: len(receiver.requests) == 1, SECONDS_MAX, "the other's")
        assert receiver.sequences("/e", MERCHANT) == []
        await running.store([event(1), *(event(n) for n in range(4, 40))])
        await receiver.until(lambda: len(receiver.requests) == 40, SECONDS_MAX, "all")

        assert receiver.sequences("/e", MERCHANT) == list(range(1, 40))
        for one in receiver.requests:
            assert Webhook(secret).verify(one.body, one.headers)["sequence"] == one.sequence


async def test_an_endpoint_gets_the_types_that_it_subscribes_to(postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        await running.add("all", f"{receiver.url}/all")
        await running.add("some", f"{receiver.url}/some", [EXPIRED])
        await running.store([event(1), event(2, kind=EXPIRED), event(3)])
        await receiver.until(lambda: len(receiver.requests) == 4, SECONDS_MAX, "all")

    assert receiver.sequences("/all") == [1, 2, 3]
    assert receiver.sequences("/some") == [2]


async def test_a_slow_endpoint_delays_no_other(postgres_url: str) -> None:
    released = asyncio.Event()

    async def slow(_: Received) -> web.Response:
        await released.wait()
        return web.Response()

    async with receiving() as receiver, delivered(postgres_url) as running:
        receiver.answers["/slow"] = slow
        await running.add("slow", f"{receiver.url}/slow")
        await running.add("quick", f"{receiver.url}/quick")
        merchants = [f"merchant-{n}" for n in range(60)]
        await running.store(event(1, merchant) for merchant in merchants)
        await receiver.until(lambda: len(receiver.sequences("/quick")) == 60, SECONDS_MAX, "quick")

        assert len(receiver.sequences("/slow")) <= running.settings.deliver_concurrency
        released.set()
        await receiver.until(lambda: len(receiver.sequences("/slow")) == 60, SECONDS_MAX, "slow")


async def test_a_failing_event_holds_up_its_own_merchant_only(postgres_url: str) -> None:
    async def answer(received: Received) -> web.Response:
        return web.Response(status=500 if received.merchant == MERCHANT else 200)

    async with receiving() as receiver, delivered(postgres_url) as running:
        receiver.answers["/e"] = answer
        await running.add("e", f"{receiver.url}/e")
        await running.store([event(1), event(2)])
        await running.store(event(n, OTHER_MERCHANT) for n in range(1, 4))
        await receiver.until(
            lambda: receiver.sequences("/e", OTHER_MERCHANT) == [1, 2, 3], SECONDS_MAX, "others"
        )
        assert set(receiver.sequences("/e", MERCHANT)) == {1}
        # Once the endpoint takes it, it comes before the next one; enabling does not wait.
        receiver.answers.clear()
        async with running.lock:
            await endpoints.enable(running.connection, "e")
        await receiver.until(
            lambda: receiver.sequences("/e", MERCHANT)[-1] == 2, SECONDS_MAX, "the rest"
        )
    assert in_order(receiver.sequences("/e", MERCHANT), 2)


@pytest.mark.logs_errors
async def test_gone_disables_at_once_and_enabling_loses_nothing(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        receiver.answers["/e"] = answering(410)
        await running.add("e", f"{receiver.url}/e")
        await running.store([event(1), event(2)])
        await receiver.until(lambda: bool(running.dispatcher.disabled()), SECONDS_MAX, "disabled")
        await running.store([event(3)])
        assert (await running.endpoint("e")).disabled_because == "it answered 410 Gone"
        assert "endpoint e was disabled" in caplog.text
        assert receiver.sequences("/e") == [1]

        receiver.answers.clear()
        async with running.lock:
            await endpoints.enable(running.connection, "e")
        await receiver.until(
            lambda: receiver.sequences("/e")[-1] == 3, SECONDS_MAX, "what was kept"
        )
    assert receiver.sequences("/e") == [1, 1, 2, 3]


@pytest.mark.logs_errors
async def test_an_endpoint_without_a_success_for_too_long_is_disabled(postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url, **SHORT) as running:
        receiver.answers["/e"] = answering(503)
        await running.add("e", f"{receiver.url}/e")
        await running.store([event(1), event(1, OTHER_MERCHANT)])
        # The first round of failures begins the time, the next one ends it.
        await receiver.until(lambda: len(receiver.requests) == 2, SECONDS_MAX, "both failed")
        await due_now(running)
        await receiver.until(lambda: bool(running.dispatcher.disabled()), SECONDS_MAX, "disabled")
        found = await running.endpoint("e")
    assert found.state == "disabled"
    assert str(found.disabled_because).startswith("without a success since 20")
    assert found.last_error == "it answered 503"


@pytest.mark.logs_errors
async def test_an_event_that_fails_too_long_where_others_do_not_is_given_up(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(received: Received) -> web.Response:
        return web.Response(status=500 if received.event["type"] == EXPIRED else 200)

    async with receiving() as receiver, delivered(postgres_url, **SHORT) as running:
        receiver.answers["/e"] = answer
        await running.add("e", f"{receiver.url}/e")
        await running.store([event(1), event(2, kind=EXPIRED), event(3)])
        await receiver.until(lambda: 2 in receiver.sequences("/e"), SECONDS_MAX, "it fails")
        # The endpoint takes an event of another merchant after that.
        await running.store([event(1, OTHER_MERCHANT)])
        await receiver.until(
            lambda: receiver.sequences("/e", OTHER_MERCHANT) == [1], SECONDS_MAX, "another's"
        )
        await until(partial(has_error, running, None), SECONDS_MAX, "it works")
        await due_now(running)
        await receiver.until(lambda: 3 in receiver.sequences("/e"), SECONDS_MAX, "the next one")
        assert (await running.endpoint("e")).state == "enabled"
    assert "was given up at endpoint e (it answered 500)" in caplog.text
    assert in_order(receiver.sequences("/e", MERCHANT), 3)


async def due_now(running: Delivered) -> None:
    """Make what failed due, as time does."""
    async with running.lock:
        await running.connection.execute("UPDATE webhook_queues SET due_at = now()")
    running.dispatcher.queued.set()


async def has_error(running: Delivered, error: str | None) -> bool:
    """Whether this is the last error of the endpoint; None: it works."""
    return (await running.endpoint("e")).last_error == error


async def test_what_asks_to_wait_gets_nothing_until_then(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with receiving() as receiver, delivered(postgres_url) as running:
        receiver.answers["/e"] = answering(429, **{"Retry-After": "600"})
        await running.add("e", f"{receiver.url}/e")
        await running.store([event(1)])
        await receiver.until(lambda: "next try in 600 s" in caplog.text, SECONDS_MAX, "it failed")
        # Another merchant's event waits, too; another endpoint's does not.
        await running.add("other", f"{receiver.url}/other")
        await running.store([event(1, OTHER_MERCHANT)])
        await receiver.until(lambda: receiver.sequences("/other") == [1], SECONDS_MAX, "the other")
    assert receiver.sequences("/e") == [1]


async def test_redirects_are_failures_and_are_not_followed(postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        receiver.answers["/e"] = answering(307, Location=f"{receiver.url}/elsewhere")
        await running.add("e", f"{receiver.url}/e")
        await running.store([event(1)])
        await until(partial(has_error, running, "it answered 307"), SECONDS_MAX, "it failed")
    assert {one.path for one in receiver.requests} == {"/e"}


async def test_what_is_not_http_is_a_failure_that_names_no_address(postgres_url: str) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-server\r\n")
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, delivered(postgres_url) as running:
        await running.add("e", f"http://127.0.0.1:{port}/e?key=sesame")
        await running.store([event(1)])
        error = "its response is not HTTP"
        await until(partial(has_error, running, error), SECONDS_MAX, "it failed")


async def test_a_request_without_an_answer_fails_after_the_timeout(postgres_url: str) -> None:
    never = asyncio.Event()

    async def silent(_: Received) -> web.Response:
        await never.wait()
        return web.Response()

    async with receiving() as receiver:
        receiver.answers["/e"] = silent
        async with delivered(postgres_url, BILLING_DELIVER_TIMEOUT="200ms") as running:
            await running.add("e", f"{receiver.url}/e")
            await running.store([event(1)])
            error = "no complete response in time"
            await until(partial(has_error, running, error), SECONDS_MAX, "it failed")
        never.set()


async def test_during_a_rotation_both_secrets_verify(postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        old = await running.add("e", f"{receiver.url}/e")
        async with running.lock:
            new = await endpoints.rotate_secret(running.connection, "e", timedelta(hours=1))
        await running.store([event(1)])
        await receiver.until(lambda: len(receiver.requests) == 1, SECONDS_MAX, "with both")
        async with running.lock:
            last = await endpoints.rotate_secret(running.connection, "e", timedelta(0))
        await running.store([event(2)])
        await receiver.until(lambda: len(receiver.requests) == 2, SECONDS_MAX, "with one")

    first, second = receiver.requests
    assert len({old, new, last}) == 3
    for secret in (old, new):
        Webhook(secret).verify(first.body, first.headers)
    Webhook(last).verify(second.body, second.headers)
    assert len(second.headers["webhook-signature"].split()) == 1


async def test_redelivery_by_id_and_by_time_keeps_the_order(postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        await running.add("e", f"{receiver.url}/e")
        events = [event(n) for n in range(1, 6)]
        await running.store(events)
        await receiver.until(lambda: len(receiver.requests) == 5, SECONDS_MAX, "all")
        async with running.lock, written(running.connection):
            ids = [events[3].event_id, events[1].event_id]
            assert await event_store.queue_ids(running.connection, "e", ids) == 2
            assert await event_store.unknown_ids(running.connection, [*ids, "none"]) == ["none"]
        await receiver.until(lambda: len(receiver.requests) == 7, SECONDS_MAX, "two of them")
        async with running.lock, written(running.connection):
            begin, end = events[2].at, events[4].at
            assert await event_store.queue_times(running.connection, "e", begin, end) == 2
        await receiver.until(lambda: len(receiver.requests) == 9, SECONDS_MAX, "two by time")

    assert receiver.sequences("/e") == [1, 2, 3, 4, 5, 2, 4, 3, 4]
    assert len({one.headers["webhook-id"] for one in receiver.requests}) == 5


async def test_events_are_kept_as_long_as_they_may_be_needed(postgres_url: str) -> None:
    async with receiving() as receiver, delivered(postgres_url) as running:
        await running.add("e", f"{receiver.url}/e")
        await running.add("off", f"{receiver.url}/off")
        async with running.lock:
            await endpoints.disable(running.connection, "off")
        receiver.answers["/e"] = answering(500)
        await running.store([event(1), event(2), event(1, OTHER_MERCHANT), event(3, "gap")])
        async with running.lock, written(running.connection):
            lost, deleted = await event_store.prune(running.connection, timedelta(0), 100)
            left = await running.connection.fetchval("SELECT count(*) FROM webhook_events")
    # What an enabled endpoint waits for is kept, and what waits for an earlier event.
    assert (lost, deleted, left) == ({"off": 3}, 0, 4)
