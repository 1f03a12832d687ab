"""The protocol with a step left out, or in another order. Each breaks a promise."""

from dataclasses import dataclass, field
from typing import Any

from tests.ownership.model import Protocol
from tests.ownership.states import ASKED, READ, Id, Left, Record, Rows, State, Steps, Worker


class RecordBeforeFencing(Protocol):
    """Commits its ownership record as soon as it has the lock."""

    def _read(self, state: State, w: int, p: int) -> State:
        after = super()._read(state, w, p)
        return self._commit_record(after, w, p) if self._has_lock(state, w, p) else after


class NoLock(Protocol):
    """Commits its ownership record whoever took the partition meanwhile."""

    def _has_lock(self, state: State, w: int, p: int) -> bool:
        return True


class NoFencing(Protocol):
    """Commits its ownership record and leaves the old id as it is."""

    def _end_id(self, state: State, w: int, p: int) -> Steps:
        yield from self._claim(self._ended(state, w, p), w, p)


class IdsThatStay(Protocol):
    """Goes on under the same id in the next generation."""

    def _fresh(self, state: State, w: int) -> State:
        return state


class AsksForItsOwnId(Protocol):
    """Asks for its own id once more, after its ownership record."""

    def _restore(self, state: State, w: int, p: int) -> Steps:
        for label, after in super()._restore(state, w, p):
            yield label, self._put_own(after, w, Id())


class NotMarkedAgain(Protocol):
    """Does not mark the last transaction of the old id again."""

    def _end_id_at_home(self, state: State, w: int, p: int) -> Steps:
        for label, after in super()._end_id_at_home(state, w, p):
            yield label, self._ended(after, w, p) if self._at(state, w, p) == ASKED else after

    def _at(self, state: State, w: int, p: int) -> int:
        return state.workers[w].lanes[p].at


class EveryoneEnds(Protocol):
    """Each taker ends the old id by itself, and marks its own partition again."""

    def _everyone_ends(self) -> bool:
        return True

    def _read(self, state: State, w: int, p: int) -> State:
        after = super()._read(state, w, p)
        lane = after.workers[w].lanes[p]
        if lane.at != READ or lane.found is None:
            return after
        found = lane.found._replace(partitions=(p,))
        return self._lane(after, w, p, lane._replace(found=found))


class EveryoneMarksAll(Protocol):
    """Each taker ends the old id by itself, and marks all of its partitions again."""

    def _everyone_ends(self) -> bool:
        return True


class HomeInAnyOrder(Protocol):
    """Commits ownership records in any order."""

    def _may_claim(self, worker: Worker, p: int) -> bool:
        return True


class ReadsBeforeTheEnd(Protocol):
    """Restores up to the first record without a marker."""

    def _reads_before_the_end(self) -> bool:
        return True


class KeepsRows(Protocol):
    """Keeps the rows of a partition that stays, whatever the ownership record says."""

    def _are_kept(self, w: int, rows: Rows, found: Record | None) -> bool:
        return True


class GoesOnUnderItsId(Protocol):
    """In version 1, begins another transaction under an id whose EndTxn may come again."""

    def _after_unclear_answer(self, state: State, w: int) -> State:
        return state


class OutcomeNotNoted(Protocol):
    """Keeps to itself what became of the transaction that it is to mark again."""

    def _fenced(self, one: Id, w: int, outcome: int) -> Id:
        return Id(holder=w)


class AsksOnce(Protocol):
    """Fences with what it asked before the broker was stopped."""

    def _asks_again(self) -> bool:
        return False


class WaitsForEver(Protocol):
    """Waits for the end of the log, also when its ownership record is no longer the newest."""

    def _looks_again(self) -> bool:
        return False


NOTHING = Left()


@dataclass(frozen=True)
class Mutant:
    """A broken protocol, what may go wrong with it, and the promise that it breaks."""

    protocol: type[Protocol]
    promise: str
    left: Left = NOTHING
    options: dict[str, Any] = field(default_factory=dict)


OLD_RECORD = "after another ownership record"
WRONG_MARKER = "that were committed are marked as aborted"
NO_OWNER = "have no owner"
MUTANTS = (
    Mutant(RecordBeforeFencing, OLD_RECORD),
    Mutant(NoLock, OLD_RECORD),
    Mutant(NoFencing, OLD_RECORD),
    Mutant(IdsThatStay, "which lives and is a member"),
    Mutant(AsksForItsOwnId, OLD_RECORD),
    Mutant(NotMarkedAgain, NO_OWNER, Left(markers=1)),
    Mutant(EveryoneEnds, WRONG_MARKER, Left(markers=1)),
    Mutant(EveryoneMarksAll, WRONG_MARKER, Left(markers=1)),
    Mutant(HomeInAnyOrder, OLD_RECORD),
    Mutant(ReadsBeforeTheEnd, "lack a committed one", Left(markers=1)),
    Mutant(KeepsRows, "lack a committed one", Left(ends=1), {"version": 1}),
    Mutant(GoesOnUnderItsId, "a part of the round", Left(ends=1), {"version": 1, "rounds": 2}),
    Mutant(OutcomeNotNoted, NO_OWNER, Left(ids=1, markers=1)),
    Mutant(AsksOnce, WRONG_MARKER, Left(markers=1)),
    Mutant(WaitsForEver, NO_OWNER, Left(markers=1)),
)
