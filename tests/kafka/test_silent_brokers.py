"""A broker that hangs is not asked again and again."""

import asyncio
from contextlib import suppress

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest

from billing_stream.kafka import silent_brokers
from billing_stream.kafka.silent_brokers import SilentBrokers
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


async def test_client_whose_brokers_are_all_away_asks_its_addresses_again() -> None:
    async with stand_in("topic") as first, stand_in("topic") as second:
        options = {"bootstrap_servers": f"{first.address},{second.address}"}
        client = AIOKafkaClient(bootstrap_servers=first.address, request_timeout_ms=1000)
        SilentBrokers(options).avoided_by(client)
        await client.bootstrap()
        try:
            await first.stop()
            assert await client.force_metadata_update()
            broker = client.cluster.broker_metadata(NODE)
            assert broker is not None
            assert broker.port == second.port
        finally:
            await client.close()
