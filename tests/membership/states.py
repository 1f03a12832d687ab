"""What there is in the protocol of combined transactions: ids, workers, lanes, lost markers."""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")

WORKERS = range(3)
PARTITIONS = (0, 1)
# A place that gets markers as partitions do: where the group keeps its offsets.
GROUP = 2
NONE, COMMIT, ABORT = 0, 1, 2
# Of a transaction without records, which marks the last one again, before its places.
AGAIN = "again"


class Fault(Exception):
    """A promise is broken in this step."""


class Id(NamedTuple):
    """A transactional id at its coordinator: the `number`th of a worker, in one generation.

    `open` has the partitions of its open transaction, `pending` those whose offsets the group has
    accepted in it. `decided` is what the coordinator says of the last transaction; `noted` what the
    timeout says that came with the last InitProducerId; `taker` is who sent that.
    """

    worker: int
    number: int
    generation: int
    epoch: int = 0
    open: tuple[int | str, ...] = ()
    pending: tuple[int, ...] = ()
    decided: int = NONE
    noted: int = NONE
    taker: int = NONE

    @property
    def name(self) -> tuple[int, int]:
        """Worker and number."""
        return self.worker, self.number

    @property
    def marks(self) -> bool:
        """Whether its open transaction marks the last one again."""
        return self.open[:1] == (AGAIN,)

    def is_in(self, p: int) -> bool:
        """Whether records of its open transaction are in a partition, which hold back readers."""
        return p in self.open and not self.marks


# Rows that lack nothing, and rows that lack something that was committed.
FRESH, STALE = 1, 2
# A lane has its rows; or it has found no record that only members write, fenced the old ids one
# after the other, and written that record under one of them.
START, OWNED, OLD, OLD_FENCED, BOTH_FENCED, KEY_WRITTEN = range(6)


class Lane(NamedTuple):
    """How far a worker is with a partition, and its rows in memory."""

    at: int = START
    rows: int = NONE


IDLE = Lane()

TO_END, TO_COMPLETE, TO_FENCE, TO_ADD, TO_MARK = range(5)


class Task(NamedTuple):
    """What a worker does about an earlier id, with what it has been told of it."""

    kind: int
    name: tuple[int, int]
    epoch: int
    outcome: int = NONE
    places: tuple[int, ...] = ()


LIVES, GONE = range(2)


class Worker(NamedTuple):
    """A worker: its generation, its id with the epoch that it knows, lanes, and its transaction.

    `joined`: what is earlier has ended. `round` has the partitions of the transaction, `sent` those
    whose records are in the log; `accepted`: the group has accepted its offsets; `unclear`: it is
    committed, and the answer was lost. `out`: another process is this member now; `former` is the
    worker that it was before.
    """

    status: int = LIVES
    generation: int = 1
    number: int = 1
    epoch: int = 0
    wanted: tuple[int, ...] = ()
    joined: bool = False
    task: Task | None = None
    lanes: tuple[Lane, ...] = (IDLE, IDLE)
    round: tuple[int, ...] = ()
    sent: tuple[int, ...] = ()
    accepted: bool = False
    unclear: bool = False
    repeated: bool = False
    rounds: int = 0
    out: bool = False
    former: int | None = None


class Hidden(NamedTuple):
    """Committed records whose marker a broker lost; `coming` is a marker on its way."""

    name: tuple[int, int]
    coming: int = NONE


END, OFFSETS = range(2)


class Late(NamedTuple):
    """A copy of an EndTxn (commit) or a TxnOffsetCommit that will arrive again."""

    kind: int
    name: tuple[int, int]
    epoch: int
    generation: int
    partitions: tuple[int, ...]


class Left(NamedTuple):
    """How much may still go wrong.

    Workers end (`crashes`), or start again as the same member, in the same generation, while the
    process of before may continue (`restarts`); a transaction times out, its id expires or is asked
    for twice (`ids`); the answer to an EndTxn is lost (`answers`); an EndTxn or a TxnOffsetCommit
    comes twice (`ends`, `offsets`); a broker loses markers (`markers`).
    """

    crashes: int = 0
    ids: int = 0
    answers: int = 0
    ends: int = 0
    offsets: int = 0
    markers: int = 0
    restarts: int = 0

    def less(self, field: str) -> "Left":
        """When one of these has happened."""
        return self._replace(**{field: getattr(self, field) - 1})


class OldIds(NamedTuple):
    """The two ids of a partition in release 0.5.1: who asked for each last, and what is open."""

    holders: tuple[int | None, int | None] = (None, None)
    open: tuple[bool, bool] = (False, False)


class State(NamedTuple):
    """Everything. `keys` are the partitions with the record that only members write."""

    generation: int
    assigned: tuple[int, ...]
    workers: tuple[Worker, ...]
    ids: tuple[Id, ...]
    hidden: tuple[Hidden | None, ...]
    left: Left
    late: Late | None = None
    keys: tuple[bool, ...] = (True, True)
    old: tuple[OldIds, ...] = (OldIds(), OldIds())


Steps = Iterator[tuple[str, State]]


def put(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    """The same with another item at one place."""
    return (*items[:at], item, *items[at + 1 :])


def compact(state: State) -> State:
    """Leave out what can have no effect any more, so that more states are the same."""
    tasks = [w.task for w in state.workers if w.task is not None]
    known = [(task.name, task.epoch) for task in tasks]
    known += [(state.late.name, state.late.epoch)] if state.late is not None else []
    known += [
        ((w, one.number), one.epoch) for w, one in enumerate(state.workers) if one.status != GONE
    ]
    hidden = {one.name for one in state.hidden if one is not None}
    used = {name for name, _ in known} | hidden
    kept = []
    for one in state.ids:
        if one.name in used or one.open:
            if not one.open and one.name not in hidden:
                one = one._replace(decided=NONE, noted=NONE, taker=NONE)
            kept.append(one)
    numbers: dict[tuple[int, int], int] = {}
    epochs: dict[tuple[tuple[int, int], int], int] = {}
    for one in kept:
        numbers[one.name] = 1 + sum(other.worker == one.worker for other in kept if other < one)
        told = {epoch for name, epoch in known if name == one.name}
        epochs |= {(one.name, e): i for i, e in enumerate(sorted({one.epoch, *told}))}
    return _renamed(state._replace(ids=tuple(kept)), numbers, epochs)


def _renamed(
    state: State,
    numbers: dict[tuple[int, int], int],
    epochs: dict[tuple[tuple[int, int], int], int],
) -> State:
    def new(named: T) -> T:
        fields: dict[str, object] = {}
        fields["name"] = named.name[0], numbers.get(named.name, 0)  # type: ignore[attr-defined]
        if hasattr(named, "epoch"):
            fields["epoch"] = epochs.get((named.name, named.epoch), 0)  # type: ignore[attr-defined]
        return named._replace(**fields)  # type: ignore[attr-defined, no-any-return]

    workers = []
    for w, one in enumerate(state.workers):
        if one.status != GONE:
            name = w, one.number
            one = one._replace(number=numbers[name], epoch=epochs[name, one.epoch])
        workers.append(one if one.task is None else one._replace(task=new(one.task)))
    ids = [
        one._replace(number=numbers[one.name], epoch=epochs[one.name, one.epoch])
        for one in state.ids
    ]
    return state._replace(
        workers=tuple(workers),
        ids=tuple(ids),
        hidden=tuple(one and new(one) for one in state.hidden),
        late=state.late and new(state.late),
    )
