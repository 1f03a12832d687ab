"""How a worker writes, and what brokers do: here promises are kept or broken."""

from collections.abc import Mapping
from itertools import chain, combinations
from types import MappingProxyType
from typing import Any

from tests.membership.joining import Joining
from tests.membership.states import (
    ABORT,
    COMMIT,
    END,
    FRESH,
    IDLE,
    LIVES,
    NONE,
    OFFSETS,
    STALE,
    WORKERS,
    Fault,
    Hidden,
    Id,
    Lane,
    Late,
    State,
    Steps,
    Worker,
    put,
)

READ_BEFORE = "are committed after a newer owner has read it"
NOT_ALL_ROWS = "are made from rows that lack a committed one"
NO_ROUND: Mapping[str, Any] = MappingProxyType(
    {"round": (), "sent": (), "accepted": False, "unclear": False, "repeated": False}
)


def _age(worker: Worker) -> tuple[int, bool]:
    """Less for an older owner: of an older generation, or a member that started again since."""
    return worker.generation, not worker.out


class Writing(Joining):
    """The steps of a worker that has its rows. It makes `rounds` transactions."""

    rounds = 1

    def _join_again(self, state: State, w: int) -> State:
        """Join under a fresh id, and make transactions as before."""
        fields = {"joined": False, "task": None, "rounds": 0}
        return self._worker(self._renew(state, w), w, **fields)

    def _renew(self, state: State, w: int) -> State:
        """Take a fresh id."""
        worker = state.workers[w]
        one = Id(w, worker.number + 1, worker.generation)
        after = self._worker(state, w, number=one.number, epoch=one.epoch)
        return after._replace(ids=tuple(sorted((*state.ids, one), key=lambda one: one.name)))

    # -- writing

    def _round_steps(self, state: State, w: int) -> Steps:
        worker, one = state.workers[w], self._own(state, w)
        if worker.unclear:
            yield from self._ask_again(state, w, one)
        elif one.epoch != worker.epoch:
            yield f"{w} is fenced", self._lose(state, w)
        elif not worker.round:
            if worker.rounds < self.rounds and not self._hides(state, w):
                fields = {"round": worker.wanted, "rounds": worker.rounds + 1}
                yield f"{w} begins {worker.wanted}", self._worker(state, w, **fields)
        elif self._offsets_are_due(worker) and not worker.accepted:
            yield from self._add_offsets(state, w, one)
        elif worker.sent != worker.round:
            sent = worker.round[: len(worker.sent) + 1]
            after = self._put_id(state, one._replace(open=(*one.open, sent[-1])))
            yield f"{w} sends {sent[-1]}", self._worker(after, w, sent=sent)
        elif one.open != worker.round:
            yield f"{w} has no transaction", self._lose(state, w)
        else:
            yield from self._end_round(state, w, one)

    def _hides(self, state: State, w: int) -> bool:
        # Decision 0016: the next transaction after lost markers, if aborted, would abort both.
        return any(
            hidden and hidden.name == (w, state.workers[w].number) for hidden in state.hidden
        )

    def _offsets_are_due(self, worker: Worker) -> bool:
        """When all records are in the log."""
        return worker.sent == worker.round

    def _is_accepted(self, state: State, w: int, generation: int) -> bool:
        return generation == state.generation and not state.workers[w].out

    def _add_offsets(self, state: State, w: int, one: Id) -> Steps:
        worker = state.workers[w]
        if not self._is_accepted(state, w, worker.generation):
            after = self._put_id(state, self._aborted(one))
            yield f"{w} is no member, and aborts", self._lose(after, w)
            return
        after = self._put_id(state, one._replace(pending=worker.round))
        after = self._worker(after, w, accepted=True)
        yield f"{w} is accepted", after
        if state.left.offsets:
            late = Late(OFFSETS, one.name, one.epoch, worker.generation, worker.round)
            left = state.left.less("offsets")
            repeated = self._worker(after, w, repeated=True)._replace(late=late, left=left)
            yield f"{w} is accepted, repeating TxnOffsetCommit", repeated

    def _end_round(self, state: State, w: int, one: Id) -> Steps:
        worker = state.workers[w]
        after = self._decide(state, one)
        yield f"{w} commits {worker.round}", self._done(after, w)
        if state.left.ends:
            late = Late(END, one.name, one.epoch, worker.generation, worker.round)
            repeated = self._worker(after, w, repeated=True)
            repeated = repeated._replace(late=late, left=state.left.less("ends"))
            yield f"{w} commits, repeating EndTxn", self._done(repeated, w)
        if state.left.answers:
            left = state.left.less("answers")
            rows = tuple(
                lane._replace(rows=STALE) if p in worker.round else lane
                for p, lane in enumerate(worker.lanes)
            )
            epoch = self._own(after, w).epoch
            unaware = self._worker(after, w, unclear=True, lanes=rows, epoch=epoch)
            unaware = unaware._replace(left=left)
            yield f"{w} commits unaware", unaware
        if state.left.markers:
            left = state.left.less("markers")
            places = (*worker.round, *self._more_places())
            for lost in chain.from_iterable(
                combinations(places, size + 1) for size in range(len(places))
            ):
                hidden = tuple(
                    Hidden(one.name) if p in lost else at for p, at in enumerate(after.hidden)
                )
                lacking = self._done(after._replace(hidden=hidden, left=left), w)
                yield f"{w} commits, markers are lost in {lost}", lacking

    def _more_places(self) -> tuple[int, ...]:
        """Where markers matter beside the partitions."""
        return ()

    def _ask_again(self, state: State, w: int, one: Id) -> Steps:
        """The EndTxn once more: it is answered, unless the id was taken since."""
        if one.epoch != state.workers[w].epoch:
            yield f"{w} is fenced, and does not know what was committed", self._lose(state, w)
            return
        worker = state.workers[w]
        rows = tuple(
            lane._replace(rows=FRESH) if p in worker.round else lane
            for p, lane in enumerate(worker.lanes)
        )
        after = self._worker(state, w, lanes=rows, repeated=True)
        yield f"{w} learns that it committed", self._done(after, w)

    def _done(self, state: State, w: int) -> State:
        """Its transaction is committed, and it knows. In version 1 it may come again."""
        repeated, epoch = state.workers[w].repeated, self._own(state, w).epoch
        after = self._worker(state, w, epoch=epoch, **NO_ROUND)
        again = repeated and self.version == 1
        return self._after_unclear_answer(after, w) if again else after

    def _after_unclear_answer(self, state: State, w: int) -> State:
        return self._renew(state, w)

    def _decide(self, state: State, one: Id) -> State:
        """The coordinator commits what is open under an id: here promises are kept or broken."""
        w, worker = one.worker, state.workers[one.worker]
        if worker.status == LIVES and worker.number == one.number and one.open != worker.round:
            raise Fault(f"a part of the round {worker.round} is committed: {one.open}")
        for p in one.open:
            assert isinstance(p, int)
            state = self._commit_of(state, w, p)
        epoch = one.epoch + (self.version > 1)
        return self._put_id(state, one._replace(epoch=epoch, open=(), pending=(), decided=COMMIT))

    def _commit_of(self, state: State, w: int, p: int) -> State:
        worker = state.workers[w]
        if worker.lanes[p].rows != FRESH:
            raise Fault(f"records of {p} {NOT_ALL_ROWS}")
        for other in WORKERS:
            lane = state.workers[other].lanes[p]
            if other == w or lane.rows == NONE:
                continue
            if _age(state.workers[other]) > _age(worker):
                raise Fault(f"records of {p} {READ_BEFORE}")
            state = self._lane(state, other, p, lane._replace(rows=STALE))
        return state

    def _lose(self, state: State, w: int) -> State:
        """Its transaction is void. A member joins once more; others are out."""
        worker = state.workers[w]
        if not self._is_member(state, w):
            return self._gone(state, w)
        lost = worker.round or worker.wanted
        lanes = tuple(
            self._lost(lane) if p in lost else lane for p, lane in enumerate(worker.lanes)
        )
        return self._restart(self._worker(state, w, lanes=lanes, **NO_ROUND), w)

    def _restart(self, state: State, w: int) -> State:
        return self._join_again(state, w)

    def _lost(self, lane: Lane) -> Lane:
        return IDLE

    # -- brokers

    def _broker_steps(self, state: State) -> Steps:
        for p, hidden in enumerate(state.hidden):
            if hidden and hidden.coming:
                after = state._replace(hidden=put(state.hidden, p, None))
                yield f"the marker of {p} is written", after
        if state.late is not None:
            yield f"a late request of {state.late.name} arrives", self._arrive(state, state.late)
        for one in state.ids:
            worker = state.workers[one.worker]
            if one.open and not one.marks and worker.number != one.number:
                yield f"{one.name} times out", self._put_id(state, self._voided(one))
            elif state.left.ids and not one.marks and (one.open or worker.number == one.number):
                left = state.left.less("ids")
                after = self._put_id(state, self._voided(one))._replace(left=left)
                yield f"{one.name} is fenced by nobody", after

    def _voided(self, one: Id) -> Id:
        decided = ABORT if one.open else one.decided
        return one._replace(epoch=one.epoch + 1, open=(), pending=(), decided=decided)

    def _arrive(self, state: State, late: Late) -> State:
        one = next((one for one in state.ids if one.name == late.name), None)
        after = state._replace(late=None)
        if one is None or one.epoch != late.epoch or not one.open or one.marks:
            return after
        if late.kind == END:
            return self._decide(after, one)
        if not self._is_accepted(state, one.worker, late.generation):
            return after
        return self._put_id(after, one._replace(pending=late.partitions))
