"""How many dead letters are open, by topic and reason, as the log has it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from billing_stream.ops.dead_letters.action_log import State
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.entries import DeadLetterEntry
from billing_stream.processor import NOT_UNDERSTOOD
from billing_stream.records import topics as names
from billing_stream.records.dead_letters import NO_ROOM, DeadLetter
from billing_stream.records.http_dead_letters import PLACE
from billing_stream.tables.charges import UNCLAIMED

# Codes of reasons are few; whoever else writes to the topic may choose others.
KINDS_MAX = 200
OTHER = "other"

_CODE = re.compile(r"([A-Z][A-Z_]{2,39}): ")


class OpenDeadLetters:
    """The open dead letters of an app: a letter is open until it is redriven or discarded.

    Memory grows with the open letters alone. `counts` are those by input topic (without its
    prefix) and reason, None until a first look has read both topics to their ends.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._read_to: dict[int, int] = {}
        self._open: dict[tuple[int, int], tuple[str, str]] = {}
        # Letters that were closed before they were added.
        self._closed: set[tuple[int, int]] = set()
        # A kind that has no open letters any more counts 0, so that its gauge says so.
        self._kinds: set[tuple[str, str]] = set()
        self.counts: Mapping[tuple[str, str], int] | None = None

    def add(self, letters: Sequence[DeadLetterEntry]) -> None:
        """As `LetterView`."""
        for letter in letters:
            self._read_to[letter.partition] = letter.offset + 1
            self._add(letter)

    def act(self, partition: int, offset: int, action: State) -> None:
        """As `LetterView`."""
        at = partition, offset
        if self._open.pop(at, None) is None and offset >= self._read_to.get(partition, 0):
            self._closed.add(at)

    def looked(self) -> None:
        """As `LetterView`."""
        found = Counter(self._open.values())
        self.counts = {kind: found[kind] for kind in self._kinds}

    def _add(self, letter: DeadLetterEntry) -> None:
        at = letter.partition, letter.offset
        if at in self._closed:
            self._closed.discard(at)
            return
        kind = topic_of(letter.record, self._cluster), reason_code(letter.record.reason)
        if kind not in self._kinds and len(self._kinds) >= KINDS_MAX:
            kind = OTHER, OTHER
        self._kinds.add(kind)
        self._open[at] = kind


def topic_of(letter: DeadLetter, cluster: Cluster) -> str:
    """The input topic of its record, without prefix; `http:PLATFORM` of a webhook over HTTP."""
    topic = cluster.topics.base(letter.topic)
    return topic if topic in names.INPUTS or topic.startswith(PLACE) else OTHER


def reason_code(reason: str) -> str:
    """The code of a reason, as `billing_dead_letters_total` has it.

    >>> reason_code("CHARGE_TAKEN: purchase 1 has it"), reason_code("`charge_id` is missing")
    ('CHARGE_TAKEN', 'NOT_UNDERSTOOD')
    """
    code = _CODE.match(reason)
    if code is not None:
        return code[1]
    if reason.startswith("no purchase claimed the charge"):
        return NO_ROOM if reason.endswith(f"({NO_ROOM})") else UNCLAIMED
    return NOT_UNDERSTOOD
