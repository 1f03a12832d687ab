"""Creates the topics of the registry, and reports problems of those that exist."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from tenacity import retry, retry_if_result, stop_after_delay, wait_exponential

from billing_stream.config.settings import Settings
from billing_stream.errors import TopicsError
from billing_stream.kafka.added_partitions import added, listed, partition_counts, require_lanes
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.consumers import administering
from billing_stream.kafka.error_classes import ACLS
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.records.topics import MESSAGE_BYTES, Topic, Topics

logger = logging.getLogger(__name__)


IN_SYNC = "min.insync.replicas"
# Setting, value, and why no other one.
ADVISED = (
    ("compression.type", "producer", "brokers compress compressed batches again"),
    (
        "unclean.leader.election.enable",
        "false",
        "a replica that lacks records can become the leader, and they are lost",
    ),
)
LISTED_SECONDS_MAX = 30.0


class TopicProblems(NamedTuple):
    """A line for each. With a `wrong` one no worker starts; `doubtful` is not as advised."""

    wrong: list[str]
    doubtful: list[str]


def config_of(topic: Topic, replication: int) -> dict[str, str]:
    """The settings that a topic with this number of replicas is made with.

    With three, two must have a record before it counts as written: else one broker alone can
    acknowledge it, and take it with it. With two, nothing could be written while one is away.
    """
    return {**topic.config, IN_SYNC: "2"} if replication >= 3 else dict(topic.config)


@asynccontextmanager
async def _admin(options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    async with administering(await answering(options), request_timeout_ms=20_000) as client:
        yield client


async def create_topics(
    options: Mapping[str, Any], topics: list[Topic], *, partitions: int, replication: int
) -> list[str]:
    """Create the missing ones; the names of those created. What exists is not changed.

    Raises TopicsError when the broker refuses one.
    """
    async with _admin(options) as client:
        existing = set(await client.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        if not missing:
            return []
        new = [
            NewTopic(
                topic.name, partitions, replication, topic_configs=config_of(topic, replication)
            )
            for topic in missing
        ]
        response = await client.create_topics(new, timeout_ms=20_000)
        refused = []
        for name, code, *message in response.topic_errors:
            error = for_code(code)
            # Another process that starts at the same time may have been faster.
            if code != 0 and error.__name__ != "TopicAlreadyExistsError":
                refused.append(f"  {name}: {error.__name__} {message[0] if message else ''}")
        if refused:
            raise TopicsError("the broker refused to create topics:\n" + "\n".join(refused))
        await _wait_until_listed(client, {topic.name for topic in missing})
        return [topic.name for topic in missing]


@retry(
    retry=retry_if_result(bool),
    stop=stop_after_delay(LISTED_SECONDS_MAX),
    wait=wait_exponential(0.01, max=0.5),
    retry_error_callback=lambda _: None,
)
async def _wait_until_listed(client: AIOKafkaAdminClient, names: set[str]) -> set[str]:
    """The names that a broker does not list yet: it learns of them after the controller."""
    return names - set(await client.list_topics())


async def check_topics(
    options: Mapping[str, Any], topics: list[Topic], *, partitions: int, replication: int
) -> TopicProblems:
    """The problems of these topics, and deviations from the advice."""
    async with _admin(options) as client:
        existing = set(await client.list_topics())
        wrong = [f"{t.name}: is missing" for t in topics if t.name not in existing]
        present = [topic for topic in topics if topic.name in existing]
        doubtful: list[str] = []
        if not present:
            return TopicProblems(wrong, doubtful)
        described = await client.describe_topics([topic.name for topic in present])
        by_name = {topic["topic"]: topic["partitions"] for topic in described}
        configs = await _configs(client, [topic.name for topic in present])
        for topic in present:
            wrong += _problems(
                topic, by_name[topic.name], configs[topic.name], partitions, replication
            )
            doubtful += _doubts(topic, configs[topic.name], replication)
        return TopicProblems(wrong, doubtful)


async def in_sync_needed(options: Mapping[str, Any], names: list[str]) -> dict[str, int]:
    """min.insync.replicas of each of these topics, which are there. Raises KafkaError."""
    if not names:
        return {}
    async with _admin(options) as client:
        configs = await _configs(client, names)
        return {name: int(configs[name].get(IN_SYNC, "1")) for name in names}


async def require_topics(settings: Settings, topics: list[Topic], deadline: StartDeadline) -> None:
    """Raise TopicsError with every problem, unless all topics match the settings.

    Raises KafkaNotReady at the deadline, and KafkaError when no broker answers.
    """
    wanted = {"partitions": settings.partitions, "replication": settings.replication_factor}
    check = partial(check_topics, client_options(settings), topics, **wanted)
    wrong, doubtful = await deadline.retry("the list of topics", check)
    for line in doubtful:
        logger.warning("%s (kafka-configs changes it)", line)
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong)
        hint = _what_to_do(wrong)
        if settings.kafka_security_protocol != "PLAINTEXT":
            hint += f"\nwhat this user may not see is missing, too: {ACLS}"
        raise TopicsError(f"the topics do not match the settings:\n{lines}\n{hint}")


async def check_before_start(settings: Settings, deadline: StartDeadline | None = None) -> None:
    """Refuse to start with topics that do not match the settings.

    Raises as `require_topics` and `require_lanes`. Partitions that were added are logged.
    """
    options = client_options(settings)
    topics = Topics(settings.app_id, settings.topic_prefix)
    deadline = deadline or StartDeadline.of(settings)
    await require_topics(settings, topics.all(), deadline)

    async def look() -> list[TopicPartition]:
        counts = await partition_counts(options, topics)
        await require_lanes(options, topics, counts, settings.partitions)
        return added(counts, settings.partitions)

    found = await deadline.retry("the partitions of the topics", look)
    if found:
        logger.warning(
            "partitions were added to topics: %s (`billing-stream docs scale`)", listed(found)
        )


def _what_to_do(wrong: list[str]) -> str:
    hints = []
    if any(line.endswith("is missing") for line in wrong):
        hints.append("missing topics are made by: billing-stream topics create")
    if any("partitions, must have" in line for line in wrong):
        hints.append("partitions cannot be changed: BILLING_PARTITIONS must say what there is")
    if not hints:
        hints.append(
            "correct them with kafka-configs or kafka-reassign-partitions "
            "(`billing-stream docs scale`)"
        )
    return "\n".join(hints)


async def _configs(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for response in await client.describe_configs(resources):
        for code, _message, _kind, name, entries in response.resources:
            if code:
                raise for_code(code)(f"{name} (DescribeConfigs)")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _problems(
    topic: Topic,
    placed: list[dict[str, Any]],
    config: dict[str, str],
    partitions: int,
    replication: int,
) -> list[str]:
    wrong = []
    # More were added later: see `kafka.added_partitions`.
    if len(placed) < partitions:
        wrong.append(f"{topic.name}: has {len(placed)} partitions, must have {partitions}")
    fewest = min((len(p["replicas"]) for p in placed), default=0)
    if fewest < replication:
        wrong.append(f"{topic.name}: has {fewest} replicas, must have {replication}")
    for name, value in topic.config.items():
        if name == MESSAGE_BYTES:
            if int(config.get(name, value)) < int(value):
                wrong.append(f"{topic.name}: {name} is {config[name]}, must be at least {value}")
        elif config.get(name) != value:
            wrong.append(f"{topic.name}: {name} is {config.get(name)}, must be {value}")
    return wrong


def _doubts(topic: Topic, config: dict[str, str], replication: int) -> list[str]:
    found = []
    if replication >= 3 and int(config.get(IN_SYNC, "1")) < 2:
        found.append(
            f"{topic.name}: {IN_SYNC} is {config.get(IN_SYNC)}, should be 2: one broker can "
            "acknowledge a record alone, and be lost with it"
        )
    for name, value, why in ADVISED:
        if config.get(name, value) != value:
            found.append(f"{topic.name}: {name} is {config[name]}, should be {value}: {why}")
    return found
