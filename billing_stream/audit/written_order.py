"""The order of one partition's decisions, as its journal says it.

A `transaction_order` names the ranges of input records that one transaction took, one after the
other; the entries that follow it were decided after them. So the journal, read in its order, is
the order of all decisions. Releases up to 0.5.1 wrote the entries alone, with the positions of the
inputs: their records stand before the first entry that is beyond them, and several topics between
two entries have no order there. Such records are taken by their time, and counted as not proved.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

KIND = "transaction_order"
_UNORDERED, _ORDERED, _ENTRY = range(3)
_LAST = 1 << 63

Place = tuple[int, int, int, str, int]
"""Where a decision stands among the others of its partition; places compare."""


class OrderMark(NamedTuple):
    """The number of the last order, and what all positions added up to, by the changelog."""

    number: int = 0
    read: int = 0


class WrittenOrder:
    """Takes a partition of the journal; then it knows the place of each record.

    `mark` is the one in the changelog before. `faults` are those of the orders themselves: what,
    and the offset in the journal.
    """

    def __init__(self, mark: OrderMark) -> None:
        self._mark = mark
        self.faults: list[tuple[str, int]] = []
        self.number = 0
        self._index = 0
        self._offset = 0
        self._reached: dict[str, int] = {}
        # What was reached by the order that the mark names.
        self._marked: dict[str, int] | None = None if mark.number else {}
        # Positions of entries that no order has led to.
        self._ahead: dict[str, int] = {}
        # By input: from, to, which record of the journal, and which range of it.
        self._ranges: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
        # By input: positions, and the first record of the journal that has one so high.
        self._fences: dict[str, list[tuple[int, int]]] = defaultdict(list)
        # From which record of the journal on orders have which version of the rules.
        self._rules: list[tuple[int, int]] = [(0, 1)]

    def take(self, value: Mapping[str, Any], offset: int) -> Place:
        """The next record of the journal; the place of what it decided. Raises KeyError."""
        self._index += 1
        self._offset = offset
        if value.get("kind") == KIND:
            self._take_order(value)
        else:
            self._take_entry(value["positions"])
        return self._index, _ENTRY, 0, "", 0

    def places(self, topic: str, records: Iterable[tuple[int, int]]) -> Iterator[Place]:
        """The places of records of a topic, of which offset and time are given in their order."""
        ranges, fences, latest = self._ranges[topic], self._fences[topic], 0
        for offset, time in records:
            latest = max(latest, time)
            number = bisect_right(ranges, (offset, _LAST)) - 1
            if number >= 0 and offset < ranges[number][1]:
                _, _, index, count = ranges[number]
                yield index, _ORDERED, count, topic, offset
            else:
                fence = bisect_right(fences, (offset, _LAST))
                index = fences[fence][1] if fence < len(fences) else self._index + 1
                yield index, _UNORDERED, latest, topic, offset

    def rules_of(self, place: Place) -> int:
        """The version of the rules by which a record was decided; 1 before there were orders."""
        index, kind, *_ = place
        if kind == _UNORDERED:
            return 1
        return self._rules[bisect_right(self._rules, (index, _LAST)) - 1][1]

    def finish(self, positions: Mapping[str, int], *, more: bool) -> None:
        """Compare with the positions by the changelog; with `more`, orders may be later."""
        mark, reached = self._mark, self._marked
        if reached is None or (self.number > mark.number and not more):
            self._fault(f"the last order is {self.number}, by the changelog {mark.number}")
        elif sum(reached.values()) != mark.read:
            self._fault(f"the ranges up to order {mark.number} end elsewhere than the positions")
        elif sum(positions.values()) == mark.read:
            if self._ahead and not more:
                self._fault(f"an entry has {self._ahead}, to which no order leads")
            if reached != {name: end for name, end in positions.items() if end}:
                self._fault(f"the orders lead to {reached}, the positions are {dict(positions)}")

    def _take_order(self, value: Mapping[str, Any]) -> None:
        if value["number"] != self.number + 1:
            self._fault(f"order {value['number']} follows {self.number}")
        self.number = value["number"]
        rules = value.get("rules", 1)
        if rules != self._rules[-1][1]:
            self._rules.append((self._index, rules))
        unordered = value.get("unordered_until", {})
        if self._ahead and not unordered:
            self._fault(f"the entries before it have {self._ahead}, to which no order leads")
        self._ahead = {}
        for name, position in unordered.items():
            self._fence(name, position)
            if position < self._reached.get(name, 0):
                self._fault(f"the position in {name} went back to {position}")
            self._reached[name] = position
        for count, taken in enumerate(value["ranges"]):
            self._take_range(count, taken["topic"], taken["from"], taken["to"], taken.get("moved"))
        if self.number == self._mark.number:
            self._marked = {name: end for name, end in self._reached.items() if end}

    def _take_range(self, count: int, name: str, start: int, end: int, moved: object) -> None:
        reached = self._reached.get(name, 0)
        if start != reached:
            self._fault(f"order {self.number} takes {name} from {start}, reached was {reached}")
        if end <= start and not moved:
            self._fault(f"order {self.number} takes {name} from {start} to {end}")
        self._reached[name] = end
        self._fence(name, start)
        if not moved:
            self._ranges[name].append((start, end, self._index, count))
        elif end < start:
            # The offsets are those of another log from here on.
            self._ranges[name].clear()
            self._fences[name].clear()

    def _take_entry(self, positions: Mapping[str, int]) -> None:
        for name, position in positions.items():
            self._fence(name, position)
            reached = self._ahead.get(name) or self._reached.get(name, 0)
            if position > reached:
                self._ahead[name] = position
            elif position < reached:
                self._fault(f"its position in {name} is {position}, after {reached}")

    def _fence(self, name: str, position: int) -> None:
        fences = self._fences[name]
        if not fences or fences[-1][0] < position:
            fences.append((position, self._index))

    def _fault(self, what: str) -> None:
        self.faults.append((what, self._offset))


def unproved(places: Iterable[Place]) -> int:
    """How many records of a merchant have no order among each other that is written or follows."""
    topics: dict[int, Counter[str]] = defaultdict(Counter)
    for index, kind, _, topic, _ in places:
        if kind == _UNORDERED:
            topics[index][topic] += 1
    return sum(found.total() for found in topics.values() if len(found) > 1)
