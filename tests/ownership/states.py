"""What there is in the ownership protocol: ids, ownership records, workers and their lanes."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
N = TypeVar("N", bound=Any)

WORKERS = range(3)
PARTITIONS = (0, 1)
# Who asked last for an id: the worker that owns it, one that took it (its number), or nobody.
OWNER, NOBODY = -1, 9
NONE, COMMIT, ABORT = 0, 1, 2
# Of a transaction without records, which marks the last one again, before its partitions.
AGAIN = "again"


class Fault(Exception):
    """A promise is broken in this step."""


class Id(NamedTuple):
    """A transactional id at its coordinator.

    `holder` asked for it last. `open` has the partitions of its open transaction, `last` is the
    outcome of the one before. `noted` is the outcome that the one who fenced it wrote down with it.
    """

    holder: int = OWNER
    open: tuple[int | str, ...] = ()
    last: int = NONE
    noted: int = NONE

    @property
    def marks(self) -> bool:
        """Whether its open transaction marks the last one again."""
        return self.open[:1] == (AGAIN,)


class Record(NamedTuple):
    """An ownership record: worker and number of the id, and all partitions written under it."""

    worker: int
    number: int
    partitions: tuple[int, ...]


class Rows(NamedTuple):
    """What a worker has in memory of a partition, and under which of its ids it wrote it."""

    number: int
    stale: bool = False


START, LOCKED, READ, ASKED, FENCED, MARKING, ENDED, CLAIMED, OWNED, STOPPED = range(10)


class Lane(NamedTuple):
    """How far a worker is with a partition; `found` is the ownership record that it read."""

    at: int
    found: Record | None = None
    outcome: int = NONE
    rows: Rows | None = None


IDLE = Lane(START)
# In these the lock of the partition is still needed.
LOCKS = range(LOCKED, CLAIMED)

LIVES, GONE = range(2)


class Worker(NamedTuple):
    """A worker: its generation, the number of its present id, lanes, and its open round.

    `round` has the partitions of the round; `sent` those whose records are sent. `wanted` are the
    partitions that it was assigned.
    """

    status: int = LIVES
    generation: int = 1
    number: int = 1
    wanted: tuple[int, ...] = ()
    lanes: tuple[Lane, ...] = (IDLE, IDLE)
    round: tuple[int, ...] = ()
    sent: tuple[int, ...] = ()
    rounds: int = 0


class Hidden(NamedTuple):
    """Committed records whose markers a broker lost; `coming` is a marker on its way."""

    worker: int
    number: int
    coming: int = NONE


class Left(NamedTuple):
    """How much may still go wrong.

    Workers end (`crashes`); the InitProducerId of a lock comes twice (`locks`); that of another id
    comes twice, its transaction times out, or it expires (`ids`); the answer to an ownership record
    is lost (`answers`); an EndTxn comes twice (`ends`); a broker loses markers (`markers`).
    """

    crashes: int = 0
    locks: int = 0
    ids: int = 0
    answers: int = 0
    ends: int = 0
    markers: int = 0

    def less(self, field: str) -> "Left":
        """When one of these has happened."""
        return self._replace(**{field: getattr(self, field) - 1})


class State(NamedTuple):
    """Everything. `ids` per worker and number; `late` is an EndTxn that will arrive again."""

    generation: int
    assigned: tuple[int, ...]
    workers: tuple[Worker, ...]
    ids: tuple[tuple[Id, ...], ...]
    locks: tuple[int, ...]
    records: tuple[Record | None, ...]
    hidden: tuple[Hidden | None, ...]
    left: Left
    late: tuple[int, int] | None = None


Steps = Iterator[tuple[str, State]]


def put(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    """The same with another item at one place."""
    return (*items[:at], item, *items[at + 1 :])


def names(record: Record | None, other: Record) -> bool:
    """Whether an ownership record names the id that the other one names."""
    return record is not None and record[:2] == other[:2]


def renamed(named: N, number: dict[tuple[int, int], int]) -> N:
    """An ownership record, or lost markers, with another number of the id."""
    if named is None or named[:2] not in number:
        return named
    after: N = named._replace(number=number[named[:2]])
    return after


def renumbered(lane: Lane, w: int, number: dict[tuple[int, int], int]) -> Lane:
    """A lane of worker `w` with other numbers of ids."""
    rows = lane.rows
    if rows is not None and (w, rows.number) in number:
        rows = rows._replace(number=number[w, rows.number])
    return lane._replace(found=renamed(lane.found, number), rows=rows)
