"""Other apps on the cluster with overlapping names.

The rights of a worker hold for all transactional ids that begin with its group and a hyphen: with
`billing` and `billing-staging` on one cluster, workers of the one could fence those of the other.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from billing_stream.errors import SettingsError
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.consumers import administering
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics


def overlaps(group: str, found: Iterable[str]) -> Iterator[str]:
    """The groups, by the topics `found`, with transactional ids that overlap with those of `group`.

    >>> own = "-billing_records-changelog"
    >>> list(overlaps("billing", [f"billing{end}{own}" for end in ("", "-staging", "2")]))
    ['billing-staging']
    """
    ending = Topics("").changelog(names.BILLING_RECORDS)
    others = {topic.removesuffix(ending) for topic in found if topic.endswith(ending)} - {group}
    for other in sorted(others):
        if other.startswith(f"{group}-") or group.startswith(f"{other}-"):
            yield other


def problem(group: str, other: str) -> str:
    """The message about two groups that overlap."""
    short, long = sorted((group, other), key=len)
    return (
        f"the names of {group} overlap with those of {other}, which has topics on this cluster: "
        f"rights on {short}-* hold for the transactional ids of {long}, too"
    )


ACTION = (
    "give one of them another BILLING_APP_ID or BILLING_TOPIC_PREFIX before it has data, or a "
    "cluster of its own"
)


async def overlapping(options: Mapping[str, Any], group: str) -> list[str]:
    """Those on the cluster, as far as this user may see their topics. Raises KafkaError."""
    async with administering(await answering(options)) as client:
        return list(overlaps(group, await client.list_topics()))


async def require_apart(options: Mapping[str, Any], group: str) -> None:
    """Raise SettingsError when there is one. Raises KafkaError."""
    found = await overlapping(options, group)
    if found:
        lines = [problem(group, other) for other in found]
        raise SettingsError("\n".join([*lines, ACTION]))
