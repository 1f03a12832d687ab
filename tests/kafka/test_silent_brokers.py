"""A broker that hangs is not asked again and again."""

import asyncio
import logging
import time
from contextlib import suppress
from itertools import pairwise

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest

from billing_stream.kafka import silent_brokers
from billing_stream.kafka.silent_brokers import SLOW_SECONDS, Backoff, SilentBrokers
from tests.support.stand_in import NODE, SILENT, stand_in


async def test_broker_without_an_answer_is_away_until_a_connection_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silent_brokers, "PROBE_SECONDS", 0.2)
    request = HeartbeatRequest("group", 1, "member")
    async with stand_in("topic") as broker:
        client = AIOKafkaClient(bootstrap_servers=broker.address, request_timeout_ms=200)
        SilentBrokers({"bootstrap_servers": broker.address}).avoided_by(client)
        await client.bootstrap()
        try:
            await client.send(NODE, request)
            broker.fail("Heartbeat", SILENT)
            with pytest.raises(RequestTimedOutError):
                await client.send(NODE, request)
            with pytest.raises(NodeNotReadyError):
                await client.send(NODE, request)
            assert broker.asked["Heartbeat"] == 2

            async with asyncio.timeout(20):
                while broker.asked["Heartbeat"] == 2:
                    with suppress(NodeNotReadyError):
                        await client.send(NODE, request)
        finally:
            await client.close()


async def test_client_starts_from_an_address_that_answers_and_asks_all_later() -> None:
    async with stand_in("topic") as first, stand_in("topic") as second:
        hangs = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        names = [f"127.0.0.1:{hangs.sockets[0].getsockname()[1]}", first.address, second.address]
        options = {"bootstrap_servers": ",".join(names)}
        client = AIOKafkaClient(**options, request_timeout_ms=1000)
        SilentBrokers(options).avoided_by(client)
        async with asyncio.timeout(SLOW_SECONDS):
            await client.bootstrap()
        try:
            for one, other in ((first, second), (second, first)):
                if client.cluster.broker_metadata(NODE).port == one.port:
                    await one.stop()
                    assert await client.force_metadata_update()
                    assert client.cluster.broker_metadata(NODE).port == other.port
                    break
        finally:
            await client.close()
            hangs.close()


async def test_broker_that_refuses_is_asked_with_pauses_that_grow() -> None:
    """Callers that repeat their requests at once do not connect at once."""
    async with stand_in("topic") as broker:
        options = {"bootstrap_servers": broker.address}
        silent, client = SilentBrokers(options), AIOKafkaClient(**options)
        silent.avoided_by(client)
        await client.bootstrap()
        host, port = broker.address.split(":")
    times: list[float] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())
        writer.close()

    async def insist() -> None:
        while True:
            await client.ready(NODE)

    callers = [asyncio.create_task(insist()) for _ in range(20)]
    try:
        async with await asyncio.start_server(accept, host, int(port)):
            await asyncio.sleep(4)
            assert silent.none_answers() is not None
    finally:
        for caller in callers:
            caller.cancel()
        await client.close()
    # One try of the node and one of the addresses, each after 50, 100, 200 ms ... up to 1 s.
    assert 4 <= len(times) <= 30
    assert max(later - at for at, later in pairwise(times)) > 0.25


def test_pauses_grow_to_the_longest_and_differ() -> None:
    backoffs = [Backoff() for _ in range(50)]
    for tries in range(12):
        now = time.monotonic()
        for one in backoffs:
            one.failed()
        pauses = [one.until - now for one in backoffs]
        longest = min(silent_brokers.PROBE_SECONDS, 0.05 * 2**tries)
        assert longest / 2 <= min(pauses) < max(pauses) <= longest + 0.1


async def test_absence_is_reported_when_no_broker_answers_and_not_before() -> None:
    async with stand_in("topic") as broker:
        options = {"bootstrap_servers": broker.address}
        silent, client = SilentBrokers(options), AIOKafkaClient(**options)
        silent.avoided_by(client)
        await client.bootstrap()
        assert silent.none_answers() is None
        address = broker.address
        await broker.stop()
        async with asyncio.timeout(10):
            while silent.none_answers() is None:
                await client.ready(NODE)
        found = silent.none_answers()
        await client.close()
    assert found is not None
    assert found.startswith("Kafka has not answered since ")
    assert f"({address}: Connection refused)" in found


async def test_one_of_two_brokers_away_is_named_and_kafka_is_not_said_to_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with stand_in("topic") as broker, stand_in("topic") as second:
        other = NODE + 1
        broker.others = {other: second.port}
        options = {"bootstrap_servers": broker.address}
        silent, client = SilentBrokers(options), AIOKafkaClient(**options)
        silent.avoided_by(client)
        caplog.set_level(logging.INFO, silent_brokers.__name__)
        address, port = second.address, second.port
        await client.bootstrap()
        try:
            assert await client.ready(other)
            await second.stop()
            async with asyncio.timeout(10):
                while not any(record.name == silent_brokers.__name__ for record in caplog.records):
                    assert await client.ready(NODE)
                    assert not await client.ready(other)
            assert silent.none_answers() is None
            await second.start(port)
            async with asyncio.timeout(10):
                while not await client.ready(other):
                    assert silent.none_answers() is None
        finally:
            await client.close()
    assert [
        record.getMessage() for record in caplog.records if record.name == silent_brokers.__name__
    ] == [
        f"broker {address} does not answer: Connection refused",
        f"broker {address} answers again",
    ]
