"""A real worker on a real Kafka, seen from outside."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.nodes import get
from tests.support.projection import until
from tests.support.tokens import client_headers, operator_headers
from tests.support.worker import Worker, create_topics, environment, run, worker

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"
PARTITIONS = 4


class Outside:
    """Upstream and consumers of one worker."""

    def __init__(self, kafka: str, prefix: str, running: Worker) -> None:
        self.worker = running
        self.audit = Audit(kafka, Topics("billing-stream", prefix))
        self._prefix = prefix
        self._producer = AIOKafkaProducer(bootstrap_servers=kafka)

    async def start(self) -> None:
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    async def send(self, topic: str, value: Any, *, key: str = M1) -> None:
        raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        partition = partition_of(key, PARTITIONS)
        await self._producer.send_and_wait(
            self._prefix + topic, raw, key=key.encode(), partition=partition
        )

    async def create(self, merchant: str = M1, *, key: str | None = None) -> None:
        payload = {
            "merchant_id": merchant,
            "platform_name": "shopify",
            "domain": f"{merchant[:4]}.example",
        }
        await self.send(names.MERCHANT_CREATED, {"data": payload}, key=key or merchant)

    async def event(self, kind: str, seconds: float = 15.0) -> dict[str, Any]:
        """The one event of a kind, once it is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = (await self.audit.events())[kind]
            if found:
                (event,) = found
                return event
            await asyncio.sleep(0.1)
        raise AssertionError(f"no {kind} in {seconds} s\n{self.worker.tail()}")

    async def status(self, merchant: str = M1) -> dict[str, Any]:
        """The billing status over HTTP, once the merchant is there."""
        url = f"{self.worker.url}/api/billing"
        async with aiohttp.ClientSession() as session:
            for _ in range(100):
                headers = client_headers(f"{merchant[:4]}.example")
                async with session.get(url, headers=headers) as response:
                    body: dict[str, Any] = await response.json()
                if response.status == 200:
                    data: dict[str, Any] = body["data"]
                    return data
                await asyncio.sleep(0.1)
        raise AssertionError(body)


@asynccontextmanager
async def outside(kafka: str, prefix: str, folder: Path, **env: str) -> AsyncIterator[Outside]:
    env = environment(kafka, prefix, **env)
    await create_topics(env)
    async with worker(env, folder) as running:
        found = Outside(kafka, prefix, running)
        await found.start()
        try:
            yield found
        finally:
            await found.stop()


async def test_records_of_every_codec_of_kafka_are_processed(
    kafka: str, prefix: str, folder: Path
) -> None:
    codecs = ("gzip", "snappy", "lz4", "zstd")
    async with outside(kafka, prefix, folder) as found:
        for number, codec in enumerate(codecs):
            merchant = f"{number}{M1[1:]}"
            payload = {
                "merchant_id": merchant,
                "platform_name": "shopify",
                "domain": f"{merchant[:4]}.example",
            }
            async with AIOKafkaProducer(bootstrap_servers=kafka, compression_type=codec) as one:
                await one.send_and_wait(
                    prefix + names.MERCHANT_CREATED,
                    json.dumps({"data": payload, "padding": " " * 1000}).encode(),
                    partition=partition_of(merchant, PARTITIONS),
                )
            assert (await found.status(merchant))["credits_purchased"] == 0


async def test_bad_records_are_diverted_and_the_good_ones_beside_them_processed(
    kafka: str, prefix: str, folder: Path
) -> None:
    bad: list[Any] = [
        None,
        b"\xff\xfe",
        {"merchant_id": 5, "charge_id": "c", "status": "active"},
        {"merchant_id": M1},
        b"x" * 300_000,
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
    ]
    async with outside(kafka, prefix, folder) as found:
        await found.create()
        for value in bad:
            await found.send(names.PURCHASE_UPDATED, value)
        unknown = {"command": "start_trial", "merchant_id": M2}
        await found.send(names.COMMANDS, unknown, key=M2)
        await found.status()
        await found.send(names.COMMANDS, {"command": "start_trial", "merchant_id": M1})

        await found.event("trial.started")
        letters = await found.audit.dead_letters()
        assert found.worker.running

    refs = {(x["topic"].removeprefix(prefix), x["partition"], x["offset"]) for x in letters}
    mine = partition_of(M1, PARTITIONS)
    assert refs == {
        *((names.PURCHASE_UPDATED, mine, offset) for offset in range(len(bad))),
        (names.COMMANDS, partition_of(M2, PARTITIONS), 0),
    }
    assert len(letters) == len(bad) + 1
    reasons = " ".join(x["reason"] for x in letters)
    for part in ("null", "UTF-16", "`str`", "300000 bytes", "too deep", "MERCHANT_NOT_FOUND"):
        assert part in reasons


async def test_a_record_on_a_wrong_partition_is_forwarded_under_its_right_key(
    kafka: str, prefix: str, folder: Path
) -> None:
    wrong = next(
        key
        for key in map(str, range(100))
        if partition_of(key, PARTITIONS) != partition_of(M1, PARTITIONS)
    )
    async with outside(kafka, prefix, folder) as found:
        await found.create(key=wrong)
        status = await found.status()
        rows = await found.audit.table(names.BILLING_RECORDS)

    assert status["credits_purchased"] == 0
    assert list(rows) == [M1]


async def test_the_end_of_a_trial_is_told_within_two_seconds(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with outside(kafka, prefix, folder, TRIAL_DURATION="3s") as found:
        await found.create()
        await found.status()
        await found.send(names.COMMANDS, {"command": "start_trial", "merchant_id": M1})
        event = await found.event("trial.expired")

    told, due = event["timestamp"], event["data"]["expired_at"]
    assert 0 <= seconds(told) - seconds(due) < 2


async def test_the_end_of_a_trial_is_announced_within_two_seconds(
    kafka: str, prefix: str, folder: Path
) -> None:
    times = {"TRIAL_DURATION": "1h", "TRIAL_REMINDER": "3597s"}
    async with outside(kafka, prefix, folder, **times) as found:
        await found.create()
        await found.status()
        await found.send(names.COMMANDS, {"command": "start_trial", "merchant_id": M1})
        event = await found.event("trial.ending")
        assert (await found.audit.events())["trial.expired"] == []

    told, ends = seconds(event["timestamp"]), seconds(event["data"]["ends_at"])
    assert 0 <= told - (ends - 3597) < 2


async def test_a_trial_that_ended_is_extended_and_ends_once_more(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with outside(kafka, prefix, folder, TRIAL_DURATION="1s") as found:
        await found.create()
        await found.status()
        await found.send(names.COMMANDS, {"command": "start_trial", "merchant_id": M1})
        await found.event("trial.expired")
        ends_at = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
        asked = {"merchant_id": M1, "ends_at": ends_at, "reason": "a sick week"}
        answer = await get(
            found.worker.url,
            "/internal/trial-extensions",
            operator_headers("olga"),
            method="POST",
            json={**asked, "merchant_note": "five seconds more", "idempotency_key": "k"},
        )
        extended = await found.event("trial.extended")

        async def ended_twice() -> bool:
            return len((await found.audit.events())["trial.expired"]) == 2

        await until(ended_twice, 20, "the second end")
        events = await found.audit.events()

    assert answer.status == 201
    assert answer.body["data"]["ends_at"] == extended["data"]["ends_at"]
    first, second = sorted(events["trial.expired"], key=lambda event: str(event["timestamp"]))
    assert first["event_id"] != second["event_id"]
    assert 0 <= seconds(second["timestamp"]) - seconds(second["data"]["expired_at"]) < 2
    assert seconds(second["data"]["expired_at"]) == seconds(ends_at)
    assert "a sick week" not in json.dumps(events)


async def test_shop_is_found_by_any_form_of_its_name_and_an_operator_sets_one(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with outside(kafka, prefix, folder) as found:
        url = found.worker.url

        async def served(domain: str) -> bool:
            return (await get(url, "/api/billing", client_headers(domain))).status == 200

        for merchant, domain in ((M1, "HTTPS://Müller.Example:443/admin"), (M2, "me@one.example")):
            payload = {"merchant_id": merchant, "platform_name": " Shopify ", "domain": domain}
            await found.send(names.MERCHANT_CREATED, payload, key=merchant)
        await until(lambda: served("xn--mller-kva.example"), 20, "the shop")
        assert await served("müller.example.")
        (letter,) = await found.audit.dead_letters()
        body = {"merchant_id": M2, "platform": "shopify", "domain": "one.example/"}
        answer = await get(
            url,
            "/internal/shops",
            operator_headers("olga"),
            method="POST",
            json={**body, "reason": "ticket 4714", "idempotency_key": "k"},
        )
        await until(lambda: served("one.example"), 20, "the shop that was set")
        code, said = await run(environment(kafka, prefix), "verify", "--allow-lag")

    assert letter["reason"].startswith("INVALID_SHOP: domain 'me@one.example': it has an @")
    assert (answer.status, answer.data["domain"]) == (201, "one.example")
    assert code == 0, said


async def test_what_fell_due_while_no_worker_ran_is_told_by_the_next_one(
    kafka: str, prefix: str, folder: Path
) -> None:
    # Long enough for a slow machine to notice the start and kill the worker.
    async with outside(kafka, prefix, folder, TRIAL_DURATION="10s") as found:
        await found.create()
        await found.status()
        await found.send(names.COMMANDS, {"command": "start_trial", "merchant_id": M1})
        await found.event("trial.started")
        await found.worker.kill()
        await asyncio.sleep(10)
        assert (await found.audit.events())["trial.expired"] == []
        await found.worker.start()

        await found.event("trial.expired", 30)


async def test_a_worker_refuses_topics_that_are_not_as_they_must_be(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_DATA_DIR=str(folder))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    topics = [NewTopic(prefix + names.COMMANDS, 3, 1)]
    topics += [NewTopic(prefix + names.MERCHANT_CREATED, PARTITIONS, 1)]
    await admin.create_topics(topics)
    async with asyncio.timeout(60):
        missing = {topic.name for topic in topics}
        while missing:
            missing -= set(await admin.list_topics())
    await admin.close()

    code, output = await run(env, "worker")
    checked, _ = await run(env, "topics", "check")

    assert (code, checked) == (2, 2)
    assert f"{names.COMMANDS}: has 3 partitions, must have 4" in output
    assert "message.timestamp.type is CreateTime, must be LogAppendTime" in output
    assert f"{names.SHOPS}: is missing" in output
    assert "Traceback" not in output


async def test_topics_are_created_once_and_then_left_alone(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)

    first, said = await run(env, "topics", "create")
    second, again = await run(env, "topics", "create")

    assert (first, second) == (0, 0)
    count = len(Topics("billing-stream", prefix).all())
    assert f"{count} created, 0 were there" in said
    assert f"0 created, {count} were there" in again


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"CLIENT_JWT_SECRET": ""}, "CLIENT_JWT_SECRET"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "nonsense"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"TRIAL_DURATION": "two weeks"}, "TRIAL_DURATION"),
        ({"BILLING_PARTITIONS": "0"}, "BILLING_PARTITIONS"),
        ({"APP_ENV": "production"}, "SHOPIFY_API_KEY"),
    ],
)
async def test_a_wrong_setting_names_itself_and_shows_no_value(
    change: dict[str, str], named: str
) -> None:
    env = {**environment("127.0.0.1:1", "p."), **change}

    code, output = await run(env, "worker")

    assert code == 2
    assert named in output
    assert env["INTERNAL_JWT_SECRET"] not in output
    assert "Traceback" not in output


async def test_no_broker_is_one_clear_line() -> None:
    code, output = await run(environment("127.0.0.1:1", "p."), "topics", "check")

    assert code == 2
    assert "no Kafka broker answers" in output
    assert "Traceback" not in output


async def test_a_named_worker_that_returns_under_another_url_gets_ready(
    kafka: str, prefix: str, folder: Path
) -> None:
    named = {"BILLING_WORKER_NAME": "named"}
    async with outside(kafka, prefix, folder, **named) as found:
        assert await found.worker.stop() == 0

        async with worker(environment(kafka, prefix, **named), folder) as other:
            assert other.port != found.worker.port


async def test_a_worker_ends_with_0_when_asked_to(kafka: str, prefix: str, folder: Path) -> None:
    async with outside(kafka, prefix, folder) as found:
        assert await found.worker.stop() == 0
        # Before, the client may have met topics whose leaders were not known yet.
        assert "ERROR" not in found.worker.tail().rpartition("stopping: ")[2]


def seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
