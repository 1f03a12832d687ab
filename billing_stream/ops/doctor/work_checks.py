"""Whether the work is done: workers that are not ready, lag, open dead letters, the projector."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError

from billing_stream.config.settings import Settings
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.kafka.consumers import administering
from billing_stream.kafka.group_members import describe_group
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.letter_follower import LetterFollower
from billing_stream.ops.dead_letters.open_letters import OpenDeadLetters
from billing_stream.ops.doctor.finding import Finding, ok, warn
from billing_stream.plain_text import shown
from billing_stream.records.topics import Topics
from billing_stream.web.health import READY_PATH

ASK = aiohttp.ClientTimeout(total=2.0)
# As many records wait in an input when an alert says so.
LAG_MAX = 10_000
READ_SECONDS_MAX = 8.0
NAMED_MAX = 3


async def check_ready(settings: Settings) -> AsyncIterator[Finding]:
    """Ask `/ready` of each worker that may be asked; workers with one problem are one finding."""
    options = await answering(client_options(settings))
    group = await describe_group(options, settings.topic_prefix + settings.app_id)
    urls = [member.url for member in group.members if member.url is not None]
    problems: dict[str, list[str]] = {}
    answered = 0
    async with aiohttp.ClientSession(timeout=ASK) as session:
        for url in sorted(url for url in urls if settings.peer_addresses.allow(url)):
            found = await _problems(session, url)
            answered += found is not None
            for problem in found or ():
                problems.setdefault(problem, []).append(url)
    for problem, where in problems.items():
        name = "worker" if len(where) == 1 else "workers"
        message = f"{len(where)} of {answered} {name} not ready ({', '.join(where)}): {problem}"
        yield warn("ready", shown(message), "`billing-stream docs runbooks BillingWorkerNotReady`")
    if answered and not problems:
        yield ok("ready", f"{answered} of {len(urls)} workers take requests")


async def _problems(session: aiohttp.ClientSession, url: str) -> list[str] | None:
    """What makes the worker not ready; None where it does not answer, which is of "peers"."""
    try:
        async with session.get(url.rstrip("/") + READY_PATH) as response:
            body = await response.json()
            ready = response.status == HTTPStatus.OK
        return [] if ready else [str(one) for one in body["error"]["details"]["problems"]]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError):
        return None


async def check_lag(settings: Settings) -> AsyncIterator[Finding]:
    """How many records of the inputs wait, by what workers show of their positions."""
    topics = Topics(settings.app_id, settings.topic_prefix)
    options = await answering(client_options(settings))
    async with administering(options) as client:
        shown_at = await client.list_consumer_group_offsets(topics.prefix + topics.app_id)
    async with CommittedLog(options) as log:
        tps = [tp for topic in topics.inputs() for tp in log.partitions(topic)]
        begins, ends = await log.begins(tps), await log.ends(tps, with_open=False)
    waiting = waiting_records(topics, shown_at, begins, ends)
    total = waiting.total()
    most = ", ".join(f"{count} of {topic}" for topic, count in waiting.most_common(NAMED_MAX))
    if total > LAG_MAX:
        action = "`billing-stream docs runbooks BillingLagGrows`"
        yield warn("lag", f"{total} records wait ({most})", action)
    else:
        yield ok("lag", f"{total} records wait" + (f" ({most})" if total else ""))


def waiting_records(
    topics: Topics,
    shown_at: Mapping[TopicPartition, Any],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> Counter[str]:
    """By topic without its prefix. `shown_at` has what was committed for the group."""
    found: Counter[str] = Counter()
    for tp, end in ends.items():
        at = shown_at[tp].offset if tp in shown_at else 0
        count = max(0, end - max(at, begins[tp]))
        if count:
            found[topics.base(tp.topic)] += count
    return found


async def check_letters(settings: Settings) -> AsyncIterator[Finding]:
    """How many dead letters are open, by reason."""
    cluster = Cluster.of(settings)
    letters = OpenDeadLetters(cluster)
    try:
        async with asyncio.timeout(READ_SECONDS_MAX):
            await LetterFollower(cluster, letters).look()
    except TimeoutError:
        message = f"there are more than can be read in {READ_SECONDS_MAX:g} s"
        yield warn("dead letters", message, "billing-stream dlq list")
        return
    found = Counter(letters.counts)
    total = found.total()
    if not total:
        yield ok("dead letters", "none is open")
        return
    kinds = [f"{n} {reason} of {topic}" for (topic, reason), n in found.most_common(NAMED_MAX)]
    more = ", ..." if len(+found) > NAMED_MAX else ""
    message = f"{total} open: {', '.join(kinds)}{more}"
    yield warn("dead letters", shown(message), "billing-stream dlq list")


async def check_projector(settings: Settings) -> AsyncIterator[Finding]:
    """Whether a projector is in its group, where there is a database."""
    check = "projector"
    if settings.database_url is None:
        return
    group = settings.projector_group or f"{settings.topic_prefix}{settings.app_id}-projector"
    try:
        found = await describe_group(await answering(client_options(settings)), group)
    except GroupAuthorizationFailedError:
        message = f"this user may not describe the group {group}"
        yield warn(check, message, "run doctor with the projector's settings")
        return
    if found.count:
        yield ok(check, f"{found.count} in the group {group}")
    else:
        yield warn(check, "none runs: history and reports get old", "billing-stream projector")
