"""Dead letters that match, each with what was done with it."""

import re
from datetime import datetime

from msgspec import Struct

from billing_stream.errors import DeadLettersError
from billing_stream.kafka.committed_log import Progress
from billing_stream.ops.dead_letters.action_log import ActionLog, State, read_ledger
from billing_stream.ops.dead_letters.dead_letter_reader import read, read_one
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.entries import DeadLetterEntry, letter_of, parse_name
from billing_stream.records.dead_letters import DeadLetterAction
from billing_stream.records.record_ref import RecordRef


class Filters(Struct, frozen=True, kw_only=True):
    """All that is given must hold. `state` None: whatever was done with it.

    `topic` is that of the record, with or without the prefix; `reason` a regular expression, of
    whatever letter case; `since` and `until` are about when it became a dead letter.
    """

    topic: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    merchant: str | None = None
    partition: int | None = None
    state: State | None = State.OPEN

    def matches(self, letter: DeadLetterEntry, state: State, prefix: str) -> bool:
        """Whether the letter is one of them. Raises re.error when `reason` is not a pattern."""
        topic = letter.record.topic
        return (
            self.state in (None, state)
            and self.topic in (None, topic, topic.removeprefix(prefix))
            and self.partition in (None, letter.partition)
            and (self.merchant is None or self.merchant.lower() == letter.merchant)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (
                self.reason is None
                or re.search(self.reason, letter.record.reason, re.IGNORECASE) is not None
            )
        )


class DeadLetterHistory(Struct, frozen=True):
    """A letter, what became of it, and what was done with it (oldest first).

    `came_of` is the action that sent the record that is dead here: a copy of an earlier letter.
    """

    letter: DeadLetterEntry
    state: State
    history: tuple[DeadLetterAction, ...]
    came_of: DeadLetterAction | None


async def find(
    cluster: Cluster, filters: Filters | None = None, *, progress: Progress | None = None
) -> list[DeadLetterHistory]:
    """All letters that match, by the time at which they became dead letters.

    Raises DeadLettersError when they cannot be read, re.error on a wrong `reason`.
    """
    wanted = filters or Filters()
    ledger = await read_ledger(cluster)
    partitions = None if wanted.partition is None else [wanted.partition]
    found = []
    async for records in read(cluster, cluster.letters, partitions=partitions, progress=progress):
        for record in records:
            letter = letter_of(record)
            if wanted.matches(letter, ledger.state(letter.ref), cluster.topics.prefix):
                found.append(_found(letter, ledger))
    found.sort(key=lambda one: (one.letter.at, one.letter.partition, one.letter.offset))
    return found


async def find_one(cluster: Cluster, name: str) -> DeadLetterHistory:
    """The dead letter of a reference. Raises DeadLettersError when it does not exist."""
    try:
        partition, offset = parse_name(cluster, name)
    except ValueError:
        raise DeadLettersError(
            f"{name!r} is not a dead letter like 3@17; `billing-stream dlq list` shows them"
        ) from None
    record = await read_one(cluster, cluster.letters, partition, offset)
    if record is None:
        ref = str(RecordRef(cluster.letters, partition, offset))
        raise DeadLettersError(
            f"there is no dead letter {ref}; `billing-stream dlq list --state all` shows all"
        )
    return _found(letter_of(record), await read_ledger(cluster))


async def find_next(cluster: Cluster, found: DeadLetterHistory) -> list[DeadLetterEntry]:
    """Letters of the copies that were sent of this one: those that were bad or refused again."""
    targets = {action.target for action in found.history if action.target is not None}
    if not targets:
        return []
    # The lane that reads a copy writes its dead letter beside it.
    partitions = {RecordRef.parse(target)[1] for target in targets}
    following = []
    async for records in read(cluster, cluster.letters, partitions=sorted(partitions)):
        following += [one for one in map(letter_of, records) if one.source in targets]
    return following


def _found(letter: DeadLetterEntry, ledger: ActionLog) -> DeadLetterHistory:
    return DeadLetterHistory(
        letter, ledger.state(letter.ref), ledger.history(letter.ref), ledger.sent_as(letter.source)
    )
