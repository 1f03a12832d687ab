"""The newest dead letters, with what became of them: read on from where the last look ended.

Memory and work are bounded: the newest few of each partition are kept, and of the ledger
only lines about them. Nothing is read while no page is open.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from billing_stream.domain.model import Instant
from billing_stream.ops.dead_letters import Cluster, DeadLetterEntry, State
from billing_stream.ops.dead_letters.dead_letter_reader import read
from billing_stream.ops.dead_letters.entries import kind_of, letter_of
from billing_stream.records.dead_letters import decode_action
from billing_stream.records.invalid_fields import readable
from billing_stream.records.record_ref import RecordRef

# Of each partition, in offsets: those of markers count.
NEWEST = 1_000
PREVIEW = 160


class DeadLetterSummary(Struct, frozen=True):
    """A dead letter as a list shows it; `kind` is its reason without what only this one has."""

    partition: int
    offset: int
    at: Instant
    merchant: str | None
    source: str
    topic: str
    reason: str
    kind: str
    state: State

    @property
    def name(self) -> str:
        """Its place in short: `3@17`."""
        return f"{self.partition}@{self.offset}"


class DeadLetterSummaries(Struct, frozen=True):
    """The newest letters, newest first. `older`: there are some that were not looked at."""

    letters: list[DeadLetterSummary]
    older: bool

    @property
    def open(self) -> int:
        """How many of them are open."""
        return sum(letter.state is State.OPEN for letter in self.letters)

    def by_reason(self) -> list[tuple[str, str, int]]:
        """The open ones by topic and reason, most frequent first."""
        counts = Counter((x.topic, x.kind) for x in self.letters if x.state is State.OPEN)
        return [(topic, kind, count) for (topic, kind), count in counts.most_common()]


class Letters:
    """Reads them. Not to be used twice at once."""

    def __init__(self, cluster: Cluster, newest: int = NEWEST) -> None:
        self._cluster = cluster
        self._newest = newest
        self._letters: dict[int, dict[int, DeadLetterSummary]] = {}
        self._acts: dict[int, dict[int, str]] = {}
        self._read_to: dict[str, dict[int, int]] = {cluster.letters: {}, cluster.ledger: {}}

    async def look(self) -> DeadLetterSummaries:
        """The newest of all partitions. Raises DeadLettersError, KafkaError."""
        cluster = self._cluster
        since = self._read_to[cluster.letters]
        async for records in read(cluster, cluster.letters, since=since, newest=self._newest):
            for record in records:
                since[record.partition] = record.offset + 1
                seen = _seen(letter_of(record), cluster)
                self._letters.setdefault(record.partition, {})[record.offset] = seen
        self._forget_older()
        since = self._read_to[cluster.ledger]
        async for records in read(cluster, cluster.ledger, since=since):
            for record in records:
                since[record.partition] = record.offset + 1
                self._note(record.value)
        return self._all()

    def _forget_older(self) -> None:
        for partition, letters in self._letters.items():
            oldest = max(letters) - self._newest + 1
            for offset in [offset for offset in letters if offset < oldest]:
                del letters[offset]
            acts = self._acts.get(partition, {})
            for offset in [offset for offset in acts if offset < oldest]:
                del acts[offset]

    def _note(self, value: bytes | None) -> None:
        try:
            action = decode_action(value or b"")
            _, partition, offset = RecordRef.parse(action.letter)
        except (msgspec.DecodeError, ValueError):
            # `billing-stream dlq` says so in its log.
            return
        # Also of a letter that came after we read the letters, and not of those long forgotten.
        if offset > max(self._letters.get(partition, (0,))) - self._newest:
            self._acts.setdefault(partition, {})[offset] = action.action

    def _all(self) -> DeadLetterSummaries:
        found = [
            _with_state(letter, self._acts.get(partition, {}))
            for partition, letters in self._letters.items()
            for letter in letters.values()
        ]
        found.sort(key=lambda one: (one.at, one.partition, one.offset), reverse=True)
        older = any(max(letters) >= self._newest for letters in self._letters.values())
        return DeadLetterSummaries(found, older)


def _seen(letter: DeadLetterEntry, cluster: Cluster) -> DeadLetterSummary:
    record = letter.record
    return DeadLetterSummary(
        partition=letter.partition,
        offset=letter.offset,
        at=letter.at,
        merchant=letter.merchant,
        source=letter.source,
        topic=cluster.topics.base(record.topic),
        reason=readable(record.reason)[:PREVIEW],
        kind=kind_of(record.reason),
        state=State.OPEN,
    )


def _with_state(letter: DeadLetterSummary, acts: Mapping[int, str]) -> DeadLetterSummary:
    act = acts.get(letter.offset)
    return letter if act is None else msgspec.structs.replace(letter, state=State(act))
