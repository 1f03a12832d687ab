"""In which order a merchant's commands were decided, as far as it is written down.

Written down: the order within each topic; where the entries of the journal stand among the
records (their `positions`); by `sequence` and `cause`, the order of the records that told
something; by the offsets of dead letters, that of those that were refused. Not written down:
where another record stands among those of other topics between two entries. Such records are
taken by their timestamps, unless the recording says that another order is right: a record must
do what is recorded of it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from msgspec.json import encode

from .compare import Result, differences
from .evidence import Evidence
from .merchant_run import GIVEN_UP, Command, Effect, Run
from .records import Difference, Recorded

# Orders that are followed at once, when the likeliest one does not lead to what is recorded.
ORDERS_MAX = 48
STEPS_MAX = 60_000
# Of those, none that contradicts the recording so much more than another.
EXTRA_MISMATCHES_MAX = 3
# And then an order is searched for that does exactly what is recorded.
SEARCH_STEPS = 5_000
SEARCH_STEPS_PER_COMMAND = 30

Indices = tuple[int, ...]


class Order:
    """What may come next."""

    def __init__(self, recorded: Recorded, queues: list[list[Command]], entries: list[Command]):
        self.queues = [queue for queue in queues if queue]
        self.entries = entries
        self.count = sum(map(len, self.queues)) + len(entries)
        sequences: dict[str, int] = {}
        for event in recorded.events:
            sequences.setdefault(event.cause, event.sequence)
        refused: dict[str, int] = {}
        for ref, letters in recorded.letters.items():
            for letter in letters:
                if not letter.reason.startswith(GIVEN_UP):
                    refused.setdefault(ref, letter.offset)
        for queue in self.queues:
            _note_marks(queue, sequences, refused)

    def choices(self, indices: Indices) -> list[Command]:
        """Those that may come next, the earliest first; empty at the end."""
        *refs, entry = indices
        heads = [
            queue[index]
            for queue, index in zip(self.queues, refs, strict=True)
            if index < len(queue)
        ]
        fence = min((head.fence for head in heads), default=None)
        if entry < len(self.entries) and (fence is None or self.entries[entry].fence < fence):
            return [self.entries[entry]]
        heads = [head for head in heads if head.fence == fence]
        if len(heads) < 2:
            return heads
        allowed = [head for head in heads if _is_next(head, heads)]
        return sorted(allowed or heads, key=lambda head: head.now)

    def after(self, indices: Indices, taken: Command) -> Indices:
        """The indices when this one is done."""
        *refs, entry = indices
        if taken.is_entry:
            return (*refs, entry + 1)
        return (
            *(
                index + (index < len(queue) and queue[index] is taken)
                for queue, index in zip(self.queues, refs, strict=True)
            ),
            entry,
        )

    @property
    def start(self) -> Indices:
        """Where nothing is done."""
        return (0,) * (len(self.queues) + 1)


def _is_next(head: Command, heads: Sequence[Command]) -> bool:
    """Whether nothing stands before it, among what told something or was refused."""
    for kind, mark in enumerate(head.marks):
        if mark is not None:
            others = (other.ahead[kind] for other in heads)
            if any(other is not None and other < mark for other in others):
                return False
    return True


def _note_marks(
    queue: Sequence[Command], sequences: Mapping[str, int], refused: Mapping[str, int]
) -> None:
    following: Command | None = None
    for command in reversed(queue):
        command.marks = (sequences.get(command.name), refused.get(command.name))
        command.ahead = command.marks
        if following is not None and following.fence == command.fence:
            first, second = zip(command.marks, following.ahead, strict=True)
            command.ahead = (_lowest(first), _lowest(second))
        following = command


def _lowest(marks: Iterable[int | None]) -> int | None:
    return min((mark for mark in marks if mark is not None), default=None)


@dataclass
class Path:
    """One order, as far as it is followed. `mismatches` counts what differs from the record."""

    run: Run
    indices: Indices
    result: Result = field(default_factory=Result)
    done: list[tuple[Command, Effect]] = field(default_factory=list)
    mismatches: int = 0
    late_us: int = 0
    chosen: bool = False

    def take(self, order: Order, command: Command, effect: Effect, mismatches: int) -> None:
        """Go one step on."""
        self.run.apply(effect)
        self.mismatches += mismatches
        if self.done:
            back = self.done[-1][0].now - command.now
            self.late_us += max(0, int(back.total_seconds() * 1_000_000))
        self.done.append((command, effect))
        self.indices = order.after(self.indices, command)
        self.result.events += effect.events
        if effect.refused is not None:
            self.result.refused[command.name] = effect.refused
        self.result.given_up.update(effect.given_up)

    def copy(self) -> "Path":
        """Another path with the same beginning."""
        result = Result()
        result.events = list(self.result.events)
        result.refused = dict(self.result.refused)
        result.given_up = set(self.result.given_up)
        return Path(
            self.run.copy(),
            self.indices,
            result,
            list(self.done),
            self.mismatches,
            self.late_us,
            True,
        )

    def differences(self, recorded: Recorded) -> list[Difference]:
        """What is otherwise at its end."""
        self.result.tables = self.run.tables()
        return differences(recorded, self.result)


@dataclass(frozen=True)
class Found:
    """The order that was found; `certain` as in `Outcome`."""

    path: Path
    differences: list[Difference]
    certain: bool


def find(
    recorded: Recorded, start: Run, queues: list[list[Command]], entries: list[Command]
) -> Found:
    """The order that leads to what is recorded, or comes nearest to it."""
    order, evidence = Order(recorded, queues, entries), Evidence(recorded)
    if recorded.order:
        path = _given(order, recorded, Path(start, order.start), [*queues, entries])
        return Found(path, path.differences(recorded), certain=True)
    path = _likeliest(order, evidence, Path(start.copy(), order.start))
    found = path.differences(recorded)
    if not found or not path.chosen:
        return Found(path, found, certain=True)
    paths, cut = _followed(order, evidence, Path(start.copy(), order.start))
    ends = [(path, path.differences(recorded)) for path in [*paths, path]]
    best, least = min(ends, key=lambda end: (*_distance(end[1]), end[0].late_us))
    if least and cut is not Cut.NOTHING:
        exact = _searched(order, evidence, Path(start.copy(), order.start), recorded)
        if exact is not None:
            return Found(exact, [], certain=True)
    others = [other for _, other in ends if _distance(other) == _distance(least)]
    same = all(_same(other, least) for other in others)
    return Found(best, least, certain=not least or (same and cut is not Cut.AS_LIKELY))


def _given(
    order: Order, recorded: Recorded, path: Path, queues: Sequence[Sequence[Command]]
) -> Path:
    commands = {command.name: command for queue in queues for command in queue}
    for name in recorded.order:
        path.take(order, commands[name], path.run.effect(commands[name]), 0)
    return path


def _distance(found: list[Difference]) -> tuple[int, int]:
    """How far from the recording; other causes count first, as in `Evidence`."""
    return sum(1 for difference in found if difference.field == "cause"), len(found)


def _likeliest(order: Order, evidence: Evidence, path: Path) -> Path:
    """By time; but of several the first that does what is recorded of it."""
    while choices := order.choices(path.indices):
        path.chosen = path.chosen or len(choices) > 1
        best: tuple[int, Command, Effect] | None = None
        for command in choices:
            effect = path.run.effect(command)
            mismatches = evidence.against(command, effect)
            if best is None or mismatches < best[0]:
                best = (mismatches, command, effect)
            if not mismatches:
                break
        if best is not None:
            path.take(order, best[1], best[2], best[0])
    return path


class Cut(Enum):
    """Which orders were not followed to their end: none, unlikelier ones, or as likely ones."""

    NOTHING = 0
    UNLIKELIER = 1
    AS_LIKELY = 2


def _followed(order: Order, evidence: Evidence, first: Path) -> tuple[list[Path], Cut]:
    """Many orders side by side, and whether there were more."""
    most = max(2, min(ORDERS_MAX, STEPS_MAX // max(1, order.count)))
    paths, cut = [first], Cut.NOTHING
    for _ in range(order.count):
        found = list(_steps(order, evidence, paths))
        found.sort(key=lambda step: step[:2])
        kept: dict[Any, Path] = {}
        for mismatches, _, path, command, effect in found:
            if len(kept) >= most or mismatches > found[0][0] + EXTRA_MISMATCHES_MAX:
                # What is odd of them all counts for none.
                likely = mismatches <= found[0][0]
                cut = Cut.AS_LIKELY if likely or cut is Cut.AS_LIKELY else Cut.UNLIKELIER
                break
            # Where nothing was chosen, the path itself goes on.
            following = path if len(paths) == len(found) else path.copy()
            following.take(order, command, effect, mismatches - path.mismatches)
            kept.setdefault(_identity(following), following)
        paths = list(kept.values())
    return paths, cut


def _steps(
    order: Order, evidence: Evidence, paths: list[Path]
) -> Iterator[tuple[int, int, Path, Command, Effect]]:
    for path in paths:
        for command in order.choices(path.indices):
            effect = path.run.effect(command)
            mismatches = path.mismatches + evidence.against(command, effect)
            yield mismatches, path.late_us, path, command, effect


def _searched(order: Order, evidence: Evidence, first: Path, recorded: Recorded) -> Path | None:
    """An order that leads exactly to what is recorded, if one is found in reasonable time."""
    stack, seen = [first], set()
    steps = SEARCH_STEPS + SEARCH_STEPS_PER_COMMAND * order.count
    while stack and steps > 0:
        path = stack.pop()
        choices = order.choices(path.indices)
        if not choices and not path.differences(recorded):
            return path
        following = []
        for command in choices:
            steps -= 1
            effect = path.run.effect(command)
            if not evidence.against(command, effect):
                ahead = path.copy()
                ahead.take(order, command, effect, 0)
                identity = hash(_identity(ahead))
                if identity not in seen:
                    seen.add(identity)
                    following.append(ahead)
        stack += reversed(following)
    return None


def _identity(path: Path) -> tuple[Any, ...]:
    return (path.indices, encode(sorted(path.run.tables().items())), len(path.result.events))


def _same(one: list[Difference], other: list[Difference]) -> bool:
    return sorted(map(encode, one)) == sorted(map(encode, other))
