"""How a worker joins a generation of the group: what is earlier ends, then it restores."""

from tests.membership.states import (
    ABORT,
    AGAIN,
    COMMIT,
    FRESH,
    GONE,
    GROUP,
    NONE,
    OWNED,
    PARTITIONS,
    STALE,
    START,
    TO_ADD,
    TO_COMPLETE,
    TO_END,
    TO_FENCE,
    TO_MARK,
    Fault,
    Id,
    Lane,
    State,
    Steps,
    Task,
    Worker,
    put,
)


class Joining:
    """The steps of a worker until it has its rows. `version` is that of Kafka's transactions."""

    version = 2

    # -- parts of a state

    def _worker(self, state: State, w: int, **fields: object) -> State:
        worker = state.workers[w]._replace(**fields)  # type: ignore[arg-type]
        return state._replace(workers=put(state.workers, w, worker))

    def _lane(self, state: State, w: int, p: int, lane: Lane) -> State:
        return self._worker(state, w, lanes=put(state.workers[w].lanes, p, lane))

    def _id(self, state: State, name: tuple[int, int]) -> Id:
        return next(one for one in state.ids if one.name == name)

    def _own(self, state: State, w: int) -> Id:
        return self._id(state, (w, state.workers[w].number))

    def _put_id(self, state: State, new: Id) -> State:
        ids = tuple(new if one.name == new.name else one for one in state.ids)
        return state._replace(ids=ids)

    def _gone(self, state: State, w: int) -> State:
        """It does nothing any more. What it left at the brokers stays."""
        return state._replace(workers=put(state.workers, w, Worker(GONE, 0, 0)))

    def _is_member(self, state: State, w: int) -> bool:
        return state.workers[w].generation == state.generation and not state.workers[w].out

    # -- what is earlier

    def _is_earlier(self, state: State, w: int, one: Id) -> bool:
        worker = state.workers[w]
        if one.worker == w:
            return one.number < worker.number
        if one.worker == worker.former and one.generation == worker.generation:
            return True
        return one.generation < worker.generation

    def _join_steps(self, state: State, w: int) -> Steps:
        task = state.workers[w].task
        if task is not None:
            yield from self._task_steps(state, w, task)
            return
        for one in state.ids:
            if not self._is_earlier(state, w, one):
                continue
            if one.open:
                kind = TO_COMPLETE if self._completes(one) else TO_END
                told = Task(kind, one.name, one.epoch, one.noted)
                yield f"{w} lists {one.name} as open", self._worker(state, w, task=told)
            else:
                yield from self._ask(state, w, one)
        if self._is_clear(state, w):
            yield f"{w} has joined", self._worker(state, w, joined=True)

    def _completes(self, one: Id) -> bool:
        """Whether what is open is a marking that somebody began, of what was committed."""
        return one.noted == COMMIT

    def _ask(self, state: State, w: int, one: Id) -> Steps:
        """Ask what became of a transaction without its markers, to mark it again."""
        lost = self._unmarked(state, one.name)
        outcome = one.noted or one.decided
        if lost and outcome and self._may_mark(state, w, lost):
            told = Task(TO_FENCE, one.name, one.epoch, outcome, (*lost, GROUP))
            yield f"{w} asks what became of {one.name}", self._worker(state, w, task=told)

    def _unmarked(self, state: State, name: tuple[int, int]) -> list[int]:
        hidden = state.hidden
        return [p for p in PARTITIONS if (at := hidden[p]) and at.name == name and not at.coming]

    def _may_mark(self, state: State, w: int, lost: list[int]) -> bool:
        """Only who owns the first of the partitions, or two would abort each other's marking."""
        return lost[0] in state.workers[w].wanted

    def _task_steps(self, state: State, w: int, task: Task) -> Steps:
        one, done = self._id(state, task.name), self._worker(state, w, task=None)
        if task.kind == TO_END:
            yield f"{w} ends {one.name}", self._end(done, w, one, task)
        elif task.kind == TO_COMPLETE:
            if one.epoch == task.epoch and one.marks:
                done = self._end_marking(done, one, task.outcome)
            yield f"{w} completes the marking of {one.name}", done
        elif task.kind == TO_FENCE and one.marks and not self._are_peers(state, w, one.taker):
            # Not in the milliseconds in which one of another generation marks: assumed.
            yield f"{w} has to ask for {one.name} again", done
        elif task.kind == TO_FENCE:
            fenced = self._fenced(one, task.outcome)._replace(taker=w)
            after = self._put_id(self._end_marking(state, one, ABORT), fenced)
            task = task._replace(kind=TO_ADD, epoch=fenced.epoch)
            yield f"{w} takes {one.name}", self._worker(after, w, task=task)
        elif one.epoch != task.epoch:
            # To a newer generation, where it has nothing to do any more; or it asks again.
            yield (
                f"{w} lost {one.name}",
                done if self._is_member(state, w) else self._gone(state, w),
            )
        elif task.kind == TO_ADD:
            after = self._put_id(state, one._replace(open=(AGAIN, *task.places)))
            task = task._replace(kind=TO_MARK)
            yield f"{w} begins to mark {one.name}", self._worker(after, w, task=task)
        else:
            yield f"{w} marks {one.name} again", self._end_marking(done, one, task.outcome)

    def _are_peers(self, state: State, w: int, other: int) -> bool:
        """Whether both are, or were, members of the same generation."""
        one, two = state.workers[w], state.workers[other]
        return one.generation == two.generation and not one.out and not two.out

    def _end(self, state: State, w: int, one: Id, task: Task) -> State:
        """End what is open, if it still is what was listed: the epoch says so."""
        if one.epoch != task.epoch or not one.open:
            return state
        self._require_survival(state, w, one)
        return self._put_id(self._end_marking(state, one, ABORT), self._aborted(one))

    def _aborted(self, one: Id) -> Id:
        epoch = one.epoch + (self.version > 1)
        return one._replace(epoch=epoch, open=(), pending=(), decided=ABORT)

    def _fenced(self, one: Id, outcome: int) -> Id:
        """An id that was asked for. With it stands what became of its last transaction."""
        epoch = one.epoch + 1
        return one._replace(epoch=epoch, open=(), pending=(), decided=NONE, noted=outcome)

    def _end_marking(self, state: State, one: Id, outcome: int) -> State:
        if not one.marks:
            return state
        hidden = state.hidden
        for p in one.open[1:]:
            assert isinstance(p, int)
            at = hidden[p]
            if at is None or at.name != one.name:
                continue
            if outcome == ABORT and p in PARTITIONS:
                raise Fault(f"records of {p} that were committed are marked as aborted")
            hidden = put(hidden, p, at._replace(coming=outcome))
        ended = one._replace(open=(), pending=(), decided=outcome)
        return self._put_id(state._replace(hidden=hidden), ended)

    def _require_survival(self, state: State, w: int, one: Id) -> None:
        """Who joins the present generation ends nothing of its members."""
        ended = state.workers[one.worker]
        if (
            w != one.worker
            and self._is_member(state, w)
            and ended.status != GONE
            and self._is_member(state, one.worker)
            and ended.number == one.number
        ):
            raise Fault(f"{w} ends {one.name}, whose worker lives and is a member")

    def _is_clear(self, state: State, w: int) -> bool:
        """Whether nothing earlier is open where this worker writes."""
        for p in state.workers[w].wanted:
            if self._waits_for_what_is_open() and any(
                one.is_in(p) and self._is_earlier(state, w, one) for one in state.ids
            ):
                return False
            hidden = state.hidden[p]
            if hidden and self._is_earlier(state, w, self._id(state, hidden.name)):
                return False
        return True

    def _waits_for_what_is_open(self) -> bool:
        return True

    # -- rows

    def _lane_steps(self, state: State, w: int, p: int) -> Steps:
        lane = state.workers[w].lanes[p]
        if lane.at == START and self._can_restore(state, p):
            yield f"{w} restores {p}", self._restored(state, w, p)

    def _can_restore(self, state: State, p: int) -> bool:
        """Whether the log of a partition is decided to its end."""
        if not self._waits_for_what_is_open():
            return True
        return state.hidden[p] is None and not any(one.is_in(p) for one in state.ids)

    def _restored(self, state: State, w: int, p: int) -> State:
        rows = STALE if state.hidden[p] is not None else FRESH
        return self._lane(state, w, p, Lane(OWNED, rows))
