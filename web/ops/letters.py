"""The newest dead letters, with what became of them.

Memory is bounded: the newest few of each partition are kept, and of the ledger only lines about
them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from billing_stream.domain.model import Instant
from billing_stream.ops.dead_letters import Cluster, DeadLetterEntry, State
from billing_stream.ops.dead_letters.entries import kind_of
from billing_stream.records.invalid_fields import readable

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
    """The newest letters, as `LetterView`; none is added while they are read."""

    def __init__(self, cluster: Cluster, newest: int = NEWEST) -> None:
        self._cluster = cluster
        self._newest = newest
        self._letters: dict[int, dict[int, DeadLetterSummary]] = {}
        self._acts: dict[int, dict[int, State]] = {}

    def add(self, letters: Sequence[DeadLetterEntry]) -> None:
        """As `LetterView`."""
        partition = letters[0].partition
        kept = self._letters.setdefault(partition, {})
        # What would be forgotten at once is not summed up.
        kept.update((one.offset, _seen(one, self._cluster)) for one in letters[-self._newest :])
        oldest = max(kept) - self._newest + 1
        for offset in [offset for offset in kept if offset < oldest]:
            del kept[offset]
        acts = self._acts.get(partition, {})
        for offset in [offset for offset in acts if offset < oldest]:
            del acts[offset]

    def act(self, partition: int, offset: int, action: State) -> None:
        """As `LetterView`."""
        # Also of a letter that came after we read the letters, and not of those long forgotten.
        if offset > max(self._letters.get(partition, (0,))) - self._newest:
            self._acts.setdefault(partition, {})[offset] = action

    def looked(self) -> None:
        """As `LetterView`."""

    def summaries(self) -> DeadLetterSummaries:
        """The newest of all partitions, with what became of them."""
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


def _with_state(letter: DeadLetterSummary, acts: Mapping[int, State]) -> DeadLetterSummary:
    act = acts.get(letter.offset)
    return letter if act is None else msgspec.structs.replace(letter, state=act)
