"""The members of a consumer group, and which settings each has given with its subscription."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import for_code
from msgspec import Struct

from billing_stream.config.shared_settings import differing
from billing_stream.kafka.consumers import administering

# Of `describe_groups`: error code, group, state, type of protocol, protocol, members.
_ERROR, _STATE, _MEMBERS = 0, 2, 5
STABLE = "Stable"


class _Given(Struct):
    url: str
    settings: dict[str, str] | None = None


class Member(Struct, frozen=True):
    """A member. `settings` are hashes by variable, None where it has given none.

    `url` is the address at which others reach it, as it says.
    """

    name: str
    settings: Mapping[str, str] | None
    url: str | None = None


class Group(Struct, frozen=True):
    """A group, which describes its members only while its `state` is Stable."""

    state: str
    count: int
    members: list[Member]


async def describe_group(options: Mapping[str, Any], group: str) -> Group:
    """The group as its coordinator knows it. Raises KafkaError."""
    async with administering(options) as client:
        (answer,) = await client.describe_consumer_groups([group])
    (found,) = answer.groups
    if found[_ERROR]:
        raise for_code(found[_ERROR])(group)
    state, members = found[_STATE], found[_MEMBERS]
    known = [member_of(*one[1:4]) for one in members] if state == STABLE else []
    return Group(state, len(members), known)


def mismatches(own: Mapping[str, str], members: Iterable[Member]) -> list[str]:
    """A line for each member with other settings than these, or that has given none."""
    found = []
    for member in members:
        if member.settings is None:
            found.append(f"{member.name} has not given its settings: it is of another release")
        elif names := differing(own, member.settings):
            found.append(f"{member.name} has another value of {', '.join(names)}")
    return found


def member_of(client_id: str, host: str, metadata: bytes) -> Member:
    """A member by what it has given to the group; `metadata` is of the consumer protocol."""
    try:
        given = msgspec.json.decode(
            ConsumerProtocol.METADATA.decode(metadata).user_data, type=_Given
        )
    except (ValueError, TypeError):
        return Member(f"{client_id} at {host}", None)
    return Member(given.url, given.settings, given.url)
