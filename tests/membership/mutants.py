"""The protocol with a step left out, or in another way. Each breaks a promise."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.membership.model import Protocol
from tests.membership.states import (
    ABORT,
    GROUP,
    NONE,
    Id,
    Lane,
    Left,
    State,
    Task,
    Worker,
)
from tests.membership.writing import NOT_ALL_ROWS, READ_BEFORE


class NoOffsets(Protocol):
    """Commits without the group."""

    def _offsets_are_due(self, worker: Worker) -> bool:
        return False


class OffsetsFirst(Protocol):
    """Adds the offsets before the records are in the log."""

    def _offsets_are_due(self, worker: Worker) -> bool:
        return True


class AnyGeneration(Protocol):
    """The group accepts offsets of every generation."""

    def _is_accepted(self, state: State, w: int, generation: int) -> bool:
        return True


class AnyMember(Protocol):
    """The group accepts offsets of the process that a member was before it started again."""

    def _is_accepted(self, state: State, w: int, generation: int) -> bool:
        return generation == state.generation


class ForgetsItsFormerIds(Protocol):
    """Leaves what it began before it started again as the same member."""

    def _is_earlier(self, state: State, w: int, one: Id) -> bool:
        is_former = one.worker == state.workers[w].former
        return not is_former and super()._is_earlier(state, w, one)


class WaitsForNothing(Protocol):
    """Restores what is decided, and leaves what is open."""

    def _waits_for_what_is_open(self) -> bool:
        return False


class IdsThatStay(Protocol):
    """Goes on under the same id in the next generation."""

    def _fresh(self, state: State, w: int) -> State:
        return self._worker(state, w, joined=False, task=None, rounds=0)


class EndsItsGeneration(Protocol):
    """Ends what is open under all ids that are not its own."""

    def _is_earlier(self, state: State, w: int, one: Id) -> bool:
        return super()._is_earlier(state, w, one) or one.worker != w


class EveryoneMarks(Protocol):
    """Each worker marks again what it finds without its markers."""

    def _may_mark(self, state: State, w: int, lost: list[int]) -> bool:
        return True


class NobodyMarks(Protocol):
    """Waits for the markers that a broker lost."""

    def _may_mark(self, state: State, w: int, lost: list[int]) -> bool:
        return False


class OutcomeNotNoted(Protocol):
    """Keeps to itself what became of the transaction that it is to mark again."""

    def _fenced(self, one: Id, outcome: int) -> Id:
        return super()._fenced(one, NONE)


class AbortsMarkings(Protocol):
    """Takes a marking that somebody began for a transaction like any other."""

    def _completes(self, one: Id) -> bool:
        return False


class EndsByFencing(Protocol):
    """Ends what it listed as open by asking for its id, and notes that it is aborted."""

    def _end(self, state: State, w: int, one: Id, task: Task) -> State:
        self._require_survival(state, w, one)
        noted = one.noted if one.marks else ABORT
        return self._put_id(self._end_marking(state, one, ABORT), self._fenced(one, noted))


class WaitsForOffsets(Protocol):
    """Waits until the group knows what became of the offsets that it accepted."""

    def _more_places(self) -> tuple[int, ...]:
        return (GROUP,)

    def _is_clear(self, state: State, w: int) -> bool:
        hidden = state.hidden[GROUP]
        waits = hidden and self._is_earlier(state, w, self._id(state, hidden.name))
        return not waits and super()._is_clear(state, w)


class SameIdAgain(Protocol):
    """Asks for its own id again when it has lost a partition, and joins once more."""

    def _restart(self, state: State, w: int) -> State:
        fenced = self._fenced(self._own(state, w), NONE)
        after = self._worker(state, w, epoch=fenced.epoch, joined=False, rounds=0)
        return self._put_id(after, fenced)


class NewEpochOfItsId(Protocol):
    """In version 1, asks for its own id again after an unclear answer."""

    def _after_unclear_answer(self, state: State, w: int) -> State:
        fenced = self._fenced(self._own(state, w), NONE)
        return self._put_id(self._worker(state, w, epoch=fenced.epoch), fenced)


class GoesOnUnderItsId(Protocol):
    """In version 1, begins another transaction under an id whose EndTxn may come again."""

    def _after_unclear_answer(self, state: State, w: int) -> State:
        return state


class KeepsLostRows(Protocol):
    """Keeps the rows of a partition when its transaction is void."""

    def _lost(self, lane: Lane) -> Lane:
        return lane


class KeepsOldRows(Protocol):
    """Keeps the rows of a partition that it had before a generation that it missed."""

    def _was_there(self, state: State, worker: Worker) -> bool:
        return True


NOTHING = Left()


@dataclass(frozen=True)
class Mutant:
    """A broken protocol, what may go wrong with it, and the promise that it breaks."""

    protocol: Callable[..., Protocol]
    promise: str
    left: Left = NOTHING
    options: dict[str, Any] = field(default_factory=lambda: {"settled": True})


SURVIVES = "whose worker lives and is a member"
WRONG_MARKER = "that were committed are marked as aborted"
NO_OWNER = "have no owner"
A_PART = "a part of the round"
VERSION_1 = {"version": 1, "rounds": 2, "settled": True}
MUTANTS = (
    Mutant(NoOffsets, READ_BEFORE),
    Mutant(OffsetsFirst, READ_BEFORE),
    Mutant(AnyGeneration, READ_BEFORE),
    Mutant(AnyMember, READ_BEFORE, Left(restarts=1)),
    Mutant(ForgetsItsFormerIds, NO_OWNER, Left(markers=1, restarts=1)),
    Mutant(WaitsForNothing, READ_BEFORE),
    Mutant(IdsThatStay, SURVIVES),
    Mutant(EndsItsGeneration, SURVIVES),
    Mutant(EveryoneMarks, WRONG_MARKER, Left(markers=1)),
    Mutant(NobodyMarks, NO_OWNER, Left(markers=1)),
    Mutant(OutcomeNotNoted, NO_OWNER, Left(ids=1, markers=1)),
    Mutant(AbortsMarkings, WRONG_MARKER, Left(markers=1)),
    Mutant(EndsByFencing, WRONG_MARKER, Left(markers=1)),
    Mutant(WaitsForOffsets, NO_OWNER, Left(markers=1)),
    Mutant(SameIdAgain, NO_OWNER, Left(ids=1, markers=1)),
    Mutant(NewEpochOfItsId, NO_OWNER, Left(offsets=1, markers=1), VERSION_1),
    Mutant(GoesOnUnderItsId, A_PART, Left(ends=1), VERSION_1),
    Mutant(KeepsLostRows, NOT_ALL_ROWS, Left(answers=1, ids=1)),
    Mutant(KeepsOldRows, NOT_ALL_ROWS, options={"generations": 3, "settled": True}),
)
