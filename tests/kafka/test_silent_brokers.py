"""A broker that hangs is not asked again and again."""

import asyncio
from contextlib import suppress

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest

from billing_stream.kafka import silent_brokers
from billing_stream.kafka.silent_brokers import SLOW_SECONDS, SilentBrokers
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
