"""The topics, what this user may do, and the group of the workers."""

from collections.abc import AsyncIterator, Iterable

from billing_stream.config.settings import Settings
from billing_stream.config.shared_settings import shared_settings
from billing_stream.engine.kafka_log import some_ids
from billing_stream.errors import AuthorizationError, KafkaNotReady, TopicsError
from billing_stream.kafka.added_partitions import added, listed, partition_counts, require_lanes
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.group_members import STABLE, Group, describe_group, mismatches
from billing_stream.kafka.lost_changelogs import require_no_lost_changelog
from billing_stream.kafka.overlapping_apps import ACTION, overlapping, problem
from billing_stream.kafka.required_access import require_rights
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import check_topics
from billing_stream.ops.doctor.finding import Finding, fail, ok, warn
from billing_stream.ops.inputs.input_states import accepted_partitions
from billing_stream.records.topics import Topics

WAIT_SECONDS = 3.0
NAMED_MAX = 3
NONE_RUN = "none runs: records wait"


async def check_every_topic(settings: Settings) -> AsyncIterator[Finding]:
    """Each one exists with the right partitions, replicas and settings."""
    wanted = Topics(settings.app_id, settings.topic_prefix).all()
    wrong, doubtful = await check_topics(
        client_options(settings),
        wanted,
        partitions=settings.partitions,
        replication=settings.replication_factor,
    )
    for line in grouped(wrong):
        action = (
            "billing-stream topics create"
            if "is missing" in line
            else "BILLING_PARTITIONS must be the number with which the topics were created"
            if "partitions, must have" in line
            else "fix it with kafka-configs or kafka-reassign-partitions"
        )
        yield fail("topics", line, action)
    if not wrong:
        yield ok("topics", f"all {len(wanted)} are configured correctly")
    try:
        await require_no_lost_changelog(
            client_options(settings), Topics(settings.app_id, settings.topic_prefix)
        )
    except TopicsError as error:
        yield fail("topics", str(error).partition("\n")[0], "see `billing-stream docs restore`")
    for finding in await _added_partitions(settings):
        yield finding
    for line in grouped(doubtful):
        yield warn("topics", line, "set it with kafka-configs: see `billing-stream docs restore`")


def grouped(lines: Iterable[str]) -> list[str]:
    """Lines `topic: fault`, those of the same fault together.

    >>> grouped(["a: is missing", "b: is missing", "c: has 1 replicas"])
    ['is missing: 2 topics (a, b)', 'c: has 1 replicas']
    """
    topics: dict[str, list[str]] = {}
    for line in lines:
        topic, _, what = line.partition(": ")
        topics.setdefault(what, []).append(topic)
    return [
        f"{some[0]}: {what}" if len(some) == 1 else f"{what}: {len(some)} topics ({_named(some)})"
        for what, some in topics.items()
    ]


def _named(topics: list[str]) -> str:
    return ", ".join(topics[:NAMED_MAX]) + (", ..." if len(topics) > NAMED_MAX else "")


async def _added_partitions(settings: Settings) -> list[Finding]:
    options, topics = client_options(settings), Topics(settings.app_id, settings.topic_prefix)
    counts = await partition_counts(options, topics)
    try:
        await require_lanes(options, topics, counts, settings.partitions)
    except TopicsError as error:
        return [fail("topics", str(error).replace("\n", ". "), "see `billing-stream docs restore`")]
    found = added(counts, settings.partitions)
    accepted = await accepted_partitions(options, topics) if found else set()
    left = [tp for tp in found if tp not in accepted]
    if not left:
        return []
    return [
        warn(
            "topics",
            f"partitions were added: {listed(left)}; workers forward their records",
            'billing-stream inputs accept --reason "..." '
            "(`billing-stream docs scale` says what it means)",
        )
    ]


async def check_rights(settings: Settings) -> AsyncIterator[Finding]:
    """Whether this user may use the group and transactional ids, and no other app has them.

    A new cluster has no coordinators yet: they are waited for, WAIT_SECONDS at most.
    """
    group = settings.topic_prefix + settings.app_id
    try:
        await require_rights(
            client_options(settings), group, some_ids(group), deadline=StartDeadline(WAIT_SECONDS)
        )
    except AuthorizationError as error:
        yield fail("rights", str(error), "billing-stream topics acls worker --user ... | sh")
    except KafkaNotReady as error:
        yield _not_yet("rights", error)
    else:
        others = await overlapping(client_options(settings), group)
        for other in others:
            yield fail("rights", problem(group, other), ACTION)
        if not others:
            yield ok("rights", f"the group {group} and its transactional ids may be used")


async def check_workers(settings: Settings) -> AsyncIterator[Finding]:
    """How many workers are in the group, and whether their settings are those of here."""
    group = settings.topic_prefix + settings.app_id

    async def ask() -> Group:
        return await describe_group(await answering(client_options(settings)), group)

    try:
        found = await StartDeadline(WAIT_SECONDS).retry(f"the coordinator of group {group}", ask)
    except KafkaNotReady as error:
        yield _not_yet("workers", error)
        return
    if not found.count:
        yield warn("workers", NONE_RUN, "billing-stream worker")
    elif found.state != STABLE:
        message = f"{found.count}, partitions move ({found.state})"
        yield warn("workers", message, "ask again in a minute")
    else:
        yield ok("workers", f"{found.count} in the group {group}")
        for line in mismatches(shared_settings(settings), found.members):
            yield warn(
                "workers", line, "restart it with the settings of all workers, and of this shell"
            )


def _not_yet(check: str, error: KafkaNotReady) -> Finding:
    return fail(
        check,
        f"coordinator not available yet: {error.awaited} ({error.reason})",
        "run it again in a moment: a new cluster creates its coordinators on first use, and "
        "workers wait BILLING_START_DEADLINE for them. If it stays so, see the brokers' logs: "
        "__consumer_offsets and __transaction_state need as many brokers as they have replicas",
    )
