"""Workers of 0.5.1 among workers that know ownership records, in an upgrade and on the way back.

An old worker writes each partition by itself, under two ids that belong to the partition. The
first is the lock of those that know ownership records. It asks for both, restores, and ends when
the changelog has an ownership record, which is of a newer version of the state.
"""

from collections.abc import Iterator

from tests.ownership.model import Protocol
from tests.ownership.states import (
    ABORT,
    CLAIMED,
    COMMIT,
    IDLE,
    LOCKED,
    NOBODY,
    OWNED,
    PARTITIONS,
    READ,
    START,
    WORKERS,
    Fault,
    Id,
    Lane,
    Left,
    Record,
    Rows,
    State,
    Steps,
    put,
)

# The second ids of the partitions stand behind those of the workers: number 1 is of partition 0.
OLD = len(WORKERS)


def second(p: int) -> Record:
    """What a partition without an ownership record is written under, beside its lock."""
    return Record(OLD, p + 1, (p,))


class WithOldRelease(Protocol):
    """`old` is the worker of 0.5.1. In its transactions it takes turns with both ids."""

    def __init__(self, left: Left, *, old: int, settled: bool = False) -> None:
        super().__init__(left, settled=settled)
        self.old = old

    def __str__(self) -> str:
        return f"{super().__str__()}-{self.old}-is-old"

    def starts(self) -> Iterator[State]:
        """As without old workers; what is settled is written by the old one."""
        for state in super().starts():
            state = state._replace(ids=(*state.ids, tuple(Id(NOBODY) for _ in PARTITIONS)))
            for p in PARTITIONS:
                if self.settled and state.assigned[p] == self.old:
                    state = state._replace(records=put(state.records, p, None))
                    state = state._replace(locks=put(state.locks, p, self.old))
                    state = self._put_id(state, second(p), Id(self.old))
            yield state

    def unowned(self, state: State) -> list[int]:
        """As without old workers; an old one needs both ids."""
        lost = [
            p
            for p in PARTITIONS
            if state.assigned[p] == self.old
            and state.workers[self.old].lanes[p].at == OWNED
            and not all(self._has(state, p, turn) for turn in (0, 1))
        ]
        return super().unowned(state) + lost

    def _is_like_others(self, state: State, w: int) -> bool:
        return w != self.old and super()._is_like_others(state, w)

    def _forget(self, state: State) -> State:
        after = super()._forget(state)
        for p in PARTITIONS:
            if state.locks[p] == self.old and state.workers[self.old].lanes[p] != IDLE:
                after = after._replace(locks=put(after.locks, p, self.old))
        return after

    # -- those who know ownership records

    def _read(self, state: State, w: int, p: int) -> State:
        if state.records[p] is not None:
            return super()._read(state, w, p)
        return self._lane(state, w, p, Lane(READ, second(p)))

    def _require_survival(self, state: State, w: int, found: Record) -> None:
        if found.worker != OLD:
            super()._require_survival(state, w, found)

    # -- the old worker

    def _has(self, state: State, p: int, turn: int) -> bool:
        """Whether the old worker has the first or the second id of a partition."""
        holder = self._id(state, second(p)).holder if turn else state.locks[p]
        return holder == self.old

    def _lane_steps(self, state: State, w: int, p: int) -> Steps:
        if w != self.old:
            yield from super()._lane_steps(state, w, p)
            return
        lane = state.workers[w].lanes[p]
        if lane.at == START:
            after = self._lane(state, w, p, Lane(LOCKED))
            yield f"old {w} asks for the first of {p}", after._replace(locks=put(state.locks, p, w))
        elif lane.at == LOCKED:
            one = self._id(state, second(p))
            fenced = Id(w, last=ABORT if one.open else one.last)
            after = self._lane(self._put_id(state, second(p), fenced), w, p, Lane(CLAIMED))
            yield f"old {w} asks for the second of {p}", after
        elif lane.at == CLAIMED and state.records[p] is not None:
            yield f"old {w} ends with 65", self._gone(state, w)
        elif lane.at == CLAIMED:
            yield f"old {w} restores {p}", self._lane(state, w, p, Lane(OWNED, rows=Rows(1)))

    def _round_steps(self, state: State, w: int) -> Steps:
        worker = state.workers[w]
        if w != self.old:
            yield from super()._round_steps(state, w)
        elif worker.round:
            p, turn = worker.round
            one = self._id(state, second(p))
            if not self._has(state, p, turn) or (turn and one.open != (p,)):
                yield f"old {w} is fenced", self._lose(state, w)
            else:
                yield f"old {w} commits {p}", self._decide_old(state, p, turn)
        else:
            for p in worker.wanted:
                if worker.lanes[p].at != OWNED:
                    continue
                if not all(self._has(state, p, turn) for turn in (0, 1)):
                    yield f"old {w} finds itself fenced", self._lose(state, w)
                elif worker.rounds < self.rounds:
                    for turn in (0, 1):
                        after = self._worker(state, w, round=(p, turn), rounds=worker.rounds + 1)
                        if turn:
                            opened = self._id(state, second(p))._replace(open=(p,))
                            after = self._put_id(after, second(p), opened)
                        yield f"old {w} begins {p} under {turn}", after

    def _decide_old(self, state: State, p: int, turn: int) -> State:
        rows = state.workers[self.old].lanes[p].rows
        if state.records[p] is not None:
            raise Fault(f"an old worker commits records of {p} after an ownership record")
        if rows is None or rows.stale:
            raise Fault(f"an old worker has not all rows of {p}")
        for other in WORKERS:
            lane = state.workers[other].lanes[p]
            if other != self.old and lane.rows is not None:
                stale = lane._replace(rows=lane.rows._replace(stale=True))
                state = self._lane(state, other, p, stale)
        if turn:
            ended = self._id(state, second(p))._replace(open=(), last=COMMIT)
            state = self._put_id(state, second(p), ended)
        return self._worker(state, self.old, round=())


class FirstOnly(WithOldRelease):
    """Fences the first of the two ids of an old release, which is the lock."""

    def _read(self, state: State, w: int, p: int) -> State:
        return Protocol._read(self, state, w, p)


class NoNewerVersion(WithOldRelease):
    """Writes ownership records that an old release passes over."""

    def _lane_steps(self, state: State, w: int, p: int) -> Steps:
        if w == self.old and state.workers[w].lanes[p].at == CLAIMED:
            yield f"old {w} restores {p}", self._lane(state, w, p, Lane(OWNED, rows=Rows(1)))
        else:
            yield from super()._lane_steps(state, w, p)


# Ways to upgrade that an old worker spoils.
SPOILED = (
    FirstOnly(Left(), old=0, settled=True),
    NoNewerVersion(Left(), old=2),
)
