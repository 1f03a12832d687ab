"""What each kind of process must be allowed to do at the brokers, and no more: one table."""

import shlex
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from billing_stream.records import topics as names
from billing_stream.records.topics import Role, Topics

DEAD_LETTER_OPERATOR = "dead-letters"
ENDPOINT_EVENTS = "endpoint-events"


class Process(StrEnum):
    """Who connects. Each can have a user of its own."""

    WORKER = "worker"
    PROJECTOR = "projector"
    DELIVER = "deliver"
    OPERATOR = "operator"
    TOPICS = "topics"


class Resource(StrEnum):
    """What a rule is about, as `kafka-acls` has it."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"
    CLUSTER = "cluster"


class Acl(Struct, frozen=True):
    """One rule: operations on a resource; `prefixed`: on all names that begin so."""

    resource: Resource
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False

    def command(self, user: str, servers: str, config: str) -> str:
        """The line for `kafka-acls` that allows it to a user (principal)."""
        words = ["kafka-acls.sh", "--bootstrap-server", servers, "--command-config", config]
        words += ["--add", "--allow-principal", user]
        for operation in self.operations:
            words += ["--operation", operation]
        words += [f"--{self.resource}"]
        if self.resource is not Resource.CLUSTER:
            words.append(self.name)
        if self.prefixed:
            words += ["--resource-pattern-type", "prefixed"]
        return shlex.join(words)


def acls(process: Process, topics: Topics, projector_group: str | None = None) -> list[Acl]:
    """All rules of a process, for the topics and groups of this app."""
    return {
        Process.WORKER: _worker,
        Process.PROJECTOR: lambda t: _projector(t, projector_group),
        Process.DELIVER: _deliver,
        Process.OPERATOR: _operator,
        Process.TOPICS: _topics,
    }[process](topics)


def _worker(topics: Topics) -> list[Acl]:
    group = topics.prefix + topics.app_id
    read = {*topics.inputs(), *(topics.changelog(table) for table in names.TABLES)}
    written = {topic for topic, _ in topics.written_by(0, 1)}
    # The webhooks that came over HTTP.
    written |= {topics.name(topic) for topic in names.WEBHOOKS}
    # Dead letters are looked at and sent again on the dashboard.
    read |= {topics.name(names.DEAD_LETTERS), topics.name(names.DEAD_LETTER_ACTIONS)}
    written |= {topics.name(names.DEAD_LETTER_ACTIONS)}
    # What one worker ends, all know.
    read |= {topics.name(names.ENDED_SESSIONS)}
    written |= {topics.name(names.ENDED_SESSIONS)}
    read |= {topics.name(names.CATALOGUE), topics.name(names.ENDPOINT_CHANGED)}
    written |= {topics.name(names.CATALOGUE)}
    every = [topic.name for topic in topics.all()]
    return [
        *_on_topics(every, read, written),
        Acl(Resource.GROUP, group, ("Read",)),
        # `<group>-w.<generation>.<worker>.<join>.<turn>`: workers end what is left open.
        # `<group>-<partition>-<turn>` are those of releases before 0.6.0.
        Acl(Resource.TRANSACTIONAL_ID, f"{group}-", ("Describe", "Write"), prefixed=True),
    ]


def _projector(topics: Topics, group: str | None) -> list[Acl]:
    read = [topic.name for topic in topics.all() if topic.role is Role.EVENT]
    read += [topics.changelog(names.BILLING_RECORDS), topics.changelog(names.CREDIT_PURCHASES)]
    read.append(topics.name(names.CATALOGUE))
    name = group or f"{topics.prefix}{topics.app_id}-projector"
    return [*_on_topics(read, set(read), set()), Acl(Resource.GROUP, name, ("Read",))]


def _deliver(topics: Topics) -> list[Acl]:
    read = [topic.name for topic in topics.all() if topic.role is Role.EVENT]
    written = topics.name(names.ENDPOINT_CHANGED)
    own = f"{topics.prefix}{topics.app_id}-{ENDPOINT_EVENTS}"
    return [
        *_on_topics([*read, written], set(read), {written}),
        Acl(Resource.TRANSACTIONAL_ID, own, ("Describe", "Write")),
    ]


def _operator(topics: Topics) -> list[Acl]:
    every = [topic.name for topic in topics.all()]
    written = {
        topics.name(topic)
        for topic in (names.COMMANDS, names.OPERATOR_COMMANDS, names.DEAD_LETTER_ACTIONS)
    }
    # What platforms answer to `billing-stream reconcile`.
    written |= {topics.name(topic) for topic in names.WEBHOOKS}
    group = topics.prefix + topics.app_id
    own = f"{group}-{DEAD_LETTER_OPERATOR}"
    return [
        *_on_topics(every, set(every), written),
        Acl(Resource.TRANSACTIONAL_ID, own, ("Describe", "Write"), prefixed=True),
    ]


def _topics(topics: Topics) -> list[Acl]:
    every = [topic.name for topic in topics.all()]
    return [Acl(Resource.TOPIC, name, ("Create", "Describe", "DescribeConfigs")) for name in every]


def _on_topics(every: Iterable[str], read: set[str], written: set[str]) -> list[Acl]:
    found = []
    for name in every:
        # A process checks before it starts that the topics are as they must be.
        operations = ["Describe", "DescribeConfigs"]
        operations += ["Read"] if name in read else []
        operations += ["Write"] if name in written else []
        found.append(Acl(Resource.TOPIC, name, tuple(operations)))
    return found
