"""The ownership protocol of combined transactions, as a machine of states and steps.

A worker writes all its partitions in one transaction, under an id that belongs to the worker, not
to a partition. An ownership record per partition names the id under which it is written. This is
the protocol alone: three workers, two partitions, two generations of the consumer group, a
coordinator of transactions as Kafka has it. `explore.py` visits every order of its steps.

To take a partition p, a worker with a fresh id:

1. takes the lock of p (InitProducerId of p's own id), which fences every other taker;
2. reads the ownership record of p;
3. ends the id that it names. That is the task of whoever takes the first of the partitions that
   the record names (its home): it asks what became of the id's last transaction, fences the id,
   and marks that transaction again in all those partitions (decision 0016). The takers of the
   others wait until the home has another ownership record;
4. commits its own ownership record under the lock, that of its home first;
5. restores, unless the record was its own and it has the rows;
6. writes.

A step is one request at the broker together with its answer: a request that is slow is a step that
comes late, and a worker that was cut off is one that goes on in an old generation. Requests that
arrive twice, and those of a coordinator that gives up, are steps of their own:

- a second InitProducerId, the timeout of a transaction and the expiry of an id have one effect:
  what is open is aborted, and its producer fenced;
- a second EndTxn commits what is open, in version 1 of the transaction protocol; in version 2 its
  epoch is over. Second copies of all other requests are refused by their epoch or their sequence.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, combinations, product

from tests.ownership.states import (
    ABORT,
    AGAIN,
    ASKED,
    CLAIMED,
    COMMIT,
    ENDED,
    FENCED,
    GONE,
    IDLE,
    LIVES,
    LOCKED,
    LOCKS,
    MARKING,
    NOBODY,
    NONE,
    OWNED,
    OWNER,
    PARTITIONS,
    READ,
    START,
    STOPPED,
    WORKERS,
    Fault,
    Hidden,
    Id,
    Lane,
    Left,
    Record,
    Rows,
    State,
    Steps,
    Worker,
    names,
    put,
    renamed,
    renumbered,
)


class Protocol:
    """The steps that each worker, the group and the brokers can take next.

    `version` is that of the transaction protocol, `rounds` how many each worker commits per id.
    `parallel`: a worker takes its partitions at the same time, and writes those that it has; else
    it takes one after the other, and writes when it has all. `settled`: in the first generation all
    have been taken.
    """

    def __init__(
        self,
        left: Left,
        *,
        version: int = 2,
        rounds: int = 1,
        parallel: bool = False,
        settled: bool = False,
    ) -> None:
        self.left = left
        self.version = version
        self.rounds = rounds
        self.parallel = parallel
        self.settled = settled

    def __str__(self) -> str:
        """What may go wrong, and the options."""
        faults = [name for name, count in self.left._asdict().items() for _ in range(count)]
        options = [name for name in ("parallel", "settled") if getattr(self, name)]
        return "-".join([*faults, *options, f"v{self.version}", f"{self.rounds}-rounds"])

    # -- the beginning, and what is good in the end

    def starts(self) -> Iterator[State]:
        """One state per assignment of the first generation; all others are like one of these."""
        for assigned in ((0, 0), (0, 1)):
            workers = tuple(
                Worker(wanted=tuple(p for p in PARTITIONS if assigned[p] == w)) for w in WORKERS
            )
            nothing = tuple(None for _ in PARTITIONS)
            ids = tuple((Id(),) for _ in WORKERS)
            locks = tuple(NOBODY for _ in PARTITIONS)
            state = State(1, assigned, workers, ids, locks, nothing, nothing, self.left)
            for p in PARTITIONS if self.settled else ():
                state = self._commit_record(state, assigned[p], p)
                state = self._lane(state, assigned[p], p, Lane(OWNED, rows=Rows(1)))
            yield state

    def unowned(self, state: State) -> list[int]:
        """Partitions without an owner that can commit, though their worker lives."""
        excused: set[int] = set()
        found = []
        for p in PARTITIONS:
            w = state.assigned[p]
            worker = state.workers[w]
            lane = worker.lanes[p]
            if worker.status == GONE:
                excused.add(p)
            elif lane.at != OWNED or self._own(state, w).holder != OWNER:
                # The next generation, in which that partition has another worker, frees it.
                waits = {lane.found.partitions[0]} if lane.found else set()
                if excused & (waits | {worker.wanted[0]}):
                    excused.add(p)
                else:
                    found.append(p)
        return found

    # -- every step

    def steps(self, state: State) -> Steps:
        """All that can happen next. Raises Fault."""
        for label, after in self._steps(state):
            yield label, self._forget(after)

    def _forget(self, state: State) -> State:
        """Leave out what can have no effect any more, so that more states are the same."""
        used = [record[:2] for record in state.records if record is not None]
        used += [hidden[:2] for hidden in state.hidden if hidden is not None]
        used += [state.late] if state.late is not None else []
        used += [(len(WORKERS), p + 1) for p in PARTITIONS]
        for w, worker in enumerate(state.workers):
            if worker.status != GONE:
                used.append((w, worker.number))
                used += [lane.found[:2] for lane in worker.lanes if lane.found is not None]
        for p, lock in enumerate(state.locks):
            if lock != NOBODY and state.workers[lock].lanes[p].at not in LOCKS:
                state = state._replace(locks=put(state.locks, p, NOBODY))
        for w, ids in enumerate(state.ids):
            kept = [number for number in range(1, len(ids) + 1) if (w, number) in used]
            if len(kept) < len(ids):
                state = self._renumber(state, w, {old: new for new, old in enumerate(kept, 1)})
        return state

    def _renumber(self, state: State, w: int, new: dict[int, int]) -> State:
        """Number the ids of a worker that are still used from 1; 0 is one that is not."""
        number = {(w, old): new.get(old, 0) for old in range(len(state.ids[w]) + 1)}
        ids = tuple(one for old, one in enumerate(state.ids[w], 1) if old in new)
        workers = tuple(
            worker._replace(
                number=number.get((v, worker.number), worker.number),
                lanes=tuple(renumbered(lane, v, number) for lane in worker.lanes),
            )
            for v, worker in enumerate(state.workers)
        )
        return state._replace(
            ids=put(state.ids, w, ids),
            workers=workers,
            records=tuple(renamed(record, number) for record in state.records),
            hidden=tuple(renamed(hidden, number) for hidden in state.hidden),
            late=state.late and (state.late[0], number.get(state.late, state.late[1])),
        )

    def _steps(self, state: State) -> Steps:
        for w in WORKERS:
            worker = state.workers[w]
            if worker.status == GONE:
                continue
            if state.left.crashes:
                left = state.left.less("crashes")
                yield f"{w} crashes", self._gone(state, w)._replace(left=left)
            if worker.status == LIVES:
                for p in worker.wanted:
                    yield from self._lane_steps(state, w, p)
                    if worker.lanes[p].at < OWNED and not self.parallel:
                        break
                yield from self._round_steps(state, w)
        if state.generation == 1:
            yield from self._rebalance(state)
        yield from self._broker_steps(state)

    # -- the group

    def _rebalance(self, state: State) -> Steps:
        """Any workers that commit nothing right now are the members of the next generation.

        The others are cut off; one without a partition is like one that rests. Workers that never
        had a partition are alike: of assignments that differ in them only, one is followed.
        """
        free = [w for w in WORKERS if self._can_join(state.workers[w])]
        new = [w for w in free if self._is_like_others(state, w)]
        for assigned in product(free, repeat=len(PARTITIONS)):
            used = [w for w in dict.fromkeys(assigned) if w in new]
            if used != new[: len(used)]:
                continue
            members = {*(w for w in free if not state.workers[w].wanted), *assigned}
            label = f"generation 2 is {assigned} of {sorted(members)}"
            yield label, self._next(state, members, assigned)

    def _is_like_others(self, state: State, w: int) -> bool:
        return not state.workers[w].wanted

    def _can_join(self, worker: Worker) -> bool:
        return worker.status == LIVES and not worker.round

    def _next(self, state: State, members: Iterable[int], assigned: tuple[int, ...]) -> State:
        state = state._replace(generation=2, assigned=assigned)
        for w in members:
            state = self._assign(state, w, tuple(p for p in PARTITIONS if assigned[p] == w))
        return state

    def _assign(self, state: State, w: int, wanted: tuple[int, ...]) -> State:
        worker = state.workers[w]
        lanes = tuple(self._kept(worker.lanes[p]) if p in wanted else IDLE for p in PARTITIONS)
        state = self._worker(state, w, status=LIVES, generation=2, wanted=wanted, lanes=lanes)
        return self._fresh(state, w)

    def _fresh(self, state: State, w: int) -> State:
        """The id of a member in a new generation."""
        return self._renew(state, w)

    def _kept(self, lane: Lane) -> Lane:
        return Lane(START, rows=lane.rows) if lane.at == OWNED else IDLE

    def _renew(self, state: State, w: int) -> State:
        """Take a fresh id, before any ownership record names it."""
        worker = state.workers[w]
        ids = put(state.ids, w, (*state.ids[w], Id()))
        after = self._worker(state, w, number=worker.number + 1, rounds=0)
        return after._replace(ids=ids)

    # -- taking a partition

    def _lane_steps(self, state: State, w: int, p: int) -> Steps:
        lane = state.workers[w].lanes[p]
        if lane.at == START:
            after = self._lane(state, w, p, Lane(LOCKED, rows=lane.rows))
            yield f"{w} locks {p}", after._replace(locks=put(state.locks, p, w))
        elif lane.at == LOCKED:
            yield f"{w} reads {p}", self._read(state, w, p)
        elif lane.at == READ:
            yield from self._end_id(state, w, p)
        elif lane.at in (ASKED, FENCED, MARKING):
            yield from self._end_id_at_home(state, w, p)
        elif lane.at == ENDED:
            yield from self._claim(state, w, p)
        elif lane.at == CLAIMED:
            yield from self._restore(state, w, p)

    def _read(self, state: State, w: int, p: int) -> State:
        lane = state.workers[w].lanes[p]
        found = state.records[p]
        rows = lane.rows
        mine = found is not None and found.worker == w
        if rows is not None and not self._are_kept(w, rows, found):
            rows = None
        if found is None or (mine and found.number == state.workers[w].number):
            # Nothing to end, or the record is of an earlier attempt of this worker: its id is not
            # to be asked for again, which would make it valid after it was fenced.
            return self._lane(state, w, p, Lane(ENDED, rows=rows))
        return self._lane(state, w, p, Lane(READ, found, rows=rows))

    def _are_kept(self, w: int, rows: Rows, found: Record | None) -> bool:
        """Whether nobody else can have written since this worker did."""
        return found is not None and found[:2] == (w, rows.number)

    def _end_id(self, state: State, w: int, p: int) -> Steps:
        lane = state.workers[w].lanes[p]
        found = lane.found
        assert found is not None
        home = found.partitions[0]
        if p == home or self._everyone_ends():
            yield from self._ask(state, w, p)
        elif not names(state.records[home], found):
            yield from self._claim(self._ended(state, w, p), w, p)

    def _ask(self, state: State, w: int, p: int) -> Steps:
        lane = state.workers[w].lanes[p]
        assert lane.found is not None
        one = self._id(state, lane.found)
        if one.marks:
            # Another taker began to mark it again: the same end, by its epoch.
            label = f"{w} ends the marking of {lane.found.number} of {lane.found.worker}"
            yield label, self._lane(self._mark(state, lane.found, one.noted), w, p, lane)
            return
        outcome = one.noted or one.last
        if one.open:
            outcome = ABORT
        yield f"{w} asks for {p}", self._lane(state, w, p, lane._replace(at=ASKED, outcome=outcome))

    def _end_id_at_home(self, state: State, w: int, p: int) -> Steps:
        lane = state.workers[w].lanes[p]
        found = lane.found
        assert found is not None
        one = self._id(state, found)
        if lane.at == ASKED:
            if one.marks and self._is_old(state, w, one.holder):
                # Not in the milliseconds in which another generation marks: assumed, see 0016.
                again = lane._replace(at=READ, outcome=NONE)
                yield f"{w} has to ask for {p} again", self._lane(state, w, p, again)
                return
            if one.marks:
                state = self._mark(state, found, ABORT)
            self._require_survival(state, w, found)
            after = self._put_id(state, found, self._fenced(one, w, lane.outcome))
            lane = lane._replace(at=FENCED) if lane.outcome else Lane(ENDED, rows=lane.rows)
            yield f"{w} fences {found.number} of {found.worker}", self._lane(after, w, p, lane)
        elif one.holder != w:
            yield f"{w} is fenced at {p}", self._again(state, w, p)
        elif lane.at == FENCED:
            marking = one._replace(open=(AGAIN, *found.partitions))
            after = self._put_id(state, found, marking)
            yield f"{w} begins to mark {p}", self._lane(after, w, p, lane._replace(at=MARKING))
        else:
            after = self._mark(state, found, lane.outcome)
            yield f"{w} marks {p} again", self._ended(after, w, p)

    def _is_old(self, state: State, w: int, holder: int) -> bool:
        """Whether one of two takers is of an old generation."""
        both = (w, holder) if holder in WORKERS else (w,)
        return any(state.workers[one].generation != state.generation for one in both)

    def _fenced(self, one: Id, w: int, outcome: int) -> Id:
        """An id that `w` has asked for; with it stands what became of its last transaction."""
        return Id(holder=w, noted=outcome)

    def _mark(self, state: State, found: Record, outcome: int) -> State:
        one = self._id(state, found)
        if not one.marks:
            return state
        state = self._put_id(state, found, one._replace(open=(), last=outcome))
        for p, hidden in enumerate(state.hidden):
            if hidden and hidden[:2] == found[:2] and p in one.open:
                marked = put(state.hidden, p, hidden._replace(coming=outcome))
                state = state._replace(hidden=marked)
        return state

    def _ended(self, state: State, w: int, p: int) -> State:
        return self._lane(state, w, p, Lane(ENDED, rows=state.workers[w].lanes[p].rows))

    def _claim(self, state: State, w: int, p: int) -> Steps:
        worker = state.workers[w]
        if not self._may_claim(worker, p):
            return
        if not self._has_lock(state, w, p):
            yield f"{w} lost the lock of {p}", self._again(state, w, p)
            return
        lane = worker.lanes[p]
        after = self._commit_record(state, w, p)
        if lane.rows is None:
            lane = Lane(CLAIMED)
        else:
            lane = Lane(OWNED, rows=lane.rows._replace(number=worker.number))
        yield f"{w} owns {p}", self._lane(after, w, p, lane)
        if state.left.answers:
            # It is committed, and the answer does not arrive.
            left = state.left.less("answers")
            yield f"{w} owns {p} unaware", self._again(after._replace(left=left), w, p)

    def _has_lock(self, state: State, w: int, p: int) -> bool:
        return state.locks[p] == w

    def _everyone_ends(self) -> bool:
        return False

    def _may_claim(self, worker: Worker, p: int) -> bool:
        """That of the home comes first: who reads the others finds the home's."""
        home = worker.wanted[0]
        return p == home or worker.lanes[home].at in (CLAIMED, OWNED)

    def _commit_record(self, state: State, w: int, p: int) -> State:
        worker = state.workers[w]
        record = Record(w, worker.number, worker.wanted)
        return state._replace(records=put(state.records, p, record))

    def _restore(self, state: State, w: int, p: int) -> Steps:
        if state.hidden[p] is not None and not self._reads_before_the_end():
            record = state.records[p]
            mine = record is not None and record[:2] == (w, state.workers[w].number)
            if not mine and self._looks_again():
                # Who waits for the end of the log may wait for what a newer owner wrote.
                yield f"{w} waits no longer at {p}", self._again(state, w, p)
            return
        rows = Rows(state.workers[w].number, stale=state.hidden[p] is not None)
        yield f"{w} restores {p}", self._lane(state, w, p, Lane(OWNED, rows=rows))

    def _reads_before_the_end(self) -> bool:
        return False

    def _looks_again(self) -> bool:
        return True

    def _again(self, state: State, w: int, p: int) -> State:
        """Begin again with a partition, if the group confirms that it is this worker's."""
        rows = state.workers[w].lanes[p].rows
        member = state.workers[w].generation == state.generation
        return self._lane(state, w, p, Lane(START, rows=rows) if member else Lane(STOPPED))

    # -- writing

    def _round_steps(self, state: State, w: int) -> Steps:
        worker = state.workers[w]
        one = self._own(state, w)
        owned = tuple(p for p in worker.wanted if worker.lanes[p].at == OWNED)
        if worker.round:
            if one.holder != OWNER:
                yield f"{w} is fenced", self._lose(state, w)
            elif worker.sent != worker.round:
                sent = worker.round[: len(worker.sent) + 1]
                after = self._put_own(state, w, one._replace(open=sent))
                yield f"{w} sends {sent}", self._worker(after, w, sent=sent)
            elif one.open != worker.round:
                yield f"{w} has no transaction", self._lose(state, w)
            else:
                yield from self._end_round(state, w)
        elif owned and one.holder != OWNER:
            yield f"{w} finds itself fenced", self._lose(state, w)
        elif not self.parallel and any(worker.lanes[p].at < OWNED for p in worker.wanted):
            return
        elif owned and worker.rounds < self.rounds and not self._hides(state, w):
            sent = owned[:1]
            after = self._worker(state, w, round=owned, sent=sent, rounds=worker.rounds + 1)
            yield f"{w} begins {owned}", self._put_own(after, w, one._replace(open=sent))

    def _hides(self, state: State, w: int) -> bool:
        # Decision 0016: the next transaction after lost markers, if aborted, would abort both.
        number = state.workers[w].number
        return any(hidden and hidden[:2] == (w, number) for hidden in state.hidden)

    def _end_round(self, state: State, w: int) -> Steps:
        worker = state.workers[w]
        after = self._worker(self._decide(state, w, worker.number), w, round=(), sent=())
        yield f"{w} commits {worker.round}", after
        if state.left.ends:
            left = state.left.less("ends")
            late = after._replace(left=left, late=(w, worker.number))
            yield f"{w} commits, repeating EndTxn", self._after_unclear_answer(late, w)
        if state.left.markers:
            left = state.left.less("markers")
            for lost in chain.from_iterable(
                combinations(worker.round, size + 1) for size in range(len(worker.round))
            ):
                yield f"markers are lost in {lost}", self._hide(after, w, lost)._replace(left=left)

    def _after_unclear_answer(self, state: State, w: int) -> State:
        """In version 1 the id can no longer be used: its EndTxn may come again."""
        if self.version > 1:
            return state
        worker = state.workers[w]
        if worker.generation != state.generation:
            return self._gone(state, w)
        lanes = tuple(self._kept(lane) for lane in worker.lanes)
        return self._renew(self._worker(state, w, lanes=lanes), w)

    def _decide(self, state: State, w: int, number: int) -> State:
        """The coordinator commits what is open under an id: here promises are kept or broken."""
        one = state.ids[w][number - 1]
        worker = state.workers[w]
        if worker.number == number and one.open != worker.round:
            raise Fault(f"a part of the round {worker.round} is committed: {one.open}")
        for p in one.open:
            assert isinstance(p, int)
            record = state.records[p]
            if record is None or record[:2] != (w, number):
                raise Fault(f"records of {p} are committed after another ownership record")
            rows = worker.lanes[p].rows
            if rows is None or rows.stale:
                raise Fault(f"records of {p} are made from rows that lack a committed one")
            for other in WORKERS:
                lane = state.workers[other].lanes[p]
                if other != w and lane.rows is not None and not lane.rows.stale:
                    stale = lane._replace(rows=lane.rows._replace(stale=True))
                    state = self._lane(state, other, p, stale)
        return self._put_id_of(state, w, number, one._replace(open=(), last=COMMIT))

    def _hide(self, state: State, w: int, lost: tuple[int, ...]) -> State:
        """A broker stopped: markers are lost, and with the connections what takers asked for."""
        number = state.workers[w].number
        for p in lost:
            state = state._replace(hidden=put(state.hidden, p, Hidden(w, number)))
        for other, p in product(WORKERS, PARTITIONS):
            lane = state.workers[other].lanes[p]
            mine = lane.found is not None and lane.found[:2] == (w, number)
            if lane.at == ASKED and mine and self._asks_again():
                state = self._lane(state, other, p, lane._replace(at=READ, outcome=NONE))
        return state

    def _asks_again(self) -> bool:
        return True

    def _lose(self, state: State, w: int) -> State:
        """The id was taken. A member begins again with a fresh one; others are out."""
        worker = state.workers[w]
        if worker.generation != state.generation:
            return self._gone(state, w)
        lanes = tuple(IDLE for _ in PARTITIONS)
        return self._renew(self._worker(state, w, lanes=lanes, round=(), sent=()), w)

    def _require_survival(self, state: State, w: int, found: Record) -> None:
        """Who takes what it was assigned in this generation ends no id of a member's."""
        fenced = state.workers[found.worker]
        takes = state.workers[w].generation == state.generation
        if (
            takes
            and w != found.worker
            and fenced.status == LIVES
            and fenced.generation == state.generation
            and fenced.number == found.number
        ):
            raise Fault(f"{w} fences {found.worker}, which lives and is a member")

    # -- brokers

    def _broker_steps(self, state: State) -> Steps:
        for p, hidden in enumerate(state.hidden):
            if hidden and hidden.coming == ABORT:
                raise Fault(f"records of {p} that were committed are marked as aborted")
            if hidden and hidden.coming:
                after = state._replace(hidden=put(state.hidden, p, None))
                yield f"the marker of {p} is written", after
        if state.late is not None:
            w, number = state.late
            one = state.ids[w][number - 1]
            after = state._replace(late=None)
            if self.version == 1 and one.holder == OWNER and one.open:
                after = self._decide(after, w, number)
            yield f"a late EndTxn of {w} arrives", after
        if state.left.locks:
            yield from self._lock_steps(state._replace(left=state.left.less("locks")))
        if state.left.ids:
            yield from self._id_steps(state._replace(left=state.left.less("ids")))

    def _lock_steps(self, state: State) -> Steps:
        for p, lock in enumerate(state.locks):
            if lock != NOBODY:
                after = state._replace(locks=put(state.locks, p, NOBODY))
                yield f"the lock of {p} is lost", after

    def _id_steps(self, state: State) -> Steps:
        for w in WORKERS:
            for number, one in enumerate(state.ids[w], 1):
                if one.holder != NOBODY and not one.marks and self._matters(state, w, number):
                    after = self._put_id_of(state, w, number, self._voided(one))
                    yield f"{number} of {w} is fenced by nobody", after

    def _voided(self, one: Id) -> Id:
        return one._replace(holder=NOBODY, open=(), last=ABORT if one.open else one.last)

    def _matters(self, state: State, w: int, number: int) -> bool:
        worker = state.workers[w]
        if worker.status != GONE and worker.number == number and worker.wanted:
            return True
        return any(record and record[:2] == (w, number) for record in state.records)

    # -- parts of a state

    def _worker(self, state: State, w: int, **fields: object) -> State:
        worker = state.workers[w]._replace(**fields)  # type: ignore[arg-type]
        return state._replace(workers=put(state.workers, w, worker))

    def _gone(self, state: State, w: int) -> State:
        """It does nothing any more. What it left at the brokers stays."""
        gone = Worker(GONE, 0, 0)
        return state._replace(workers=put(state.workers, w, gone))

    def _lane(self, state: State, w: int, p: int, lane: Lane) -> State:
        return self._worker(state, w, lanes=put(state.workers[w].lanes, p, lane))

    def _id(self, state: State, record: Record) -> Id:
        return state.ids[record.worker][record.number - 1]

    def _own(self, state: State, w: int) -> Id:
        return state.ids[w][state.workers[w].number - 1]

    def _put_id(self, state: State, record: Record, one: Id) -> State:
        return self._put_id_of(state, record.worker, record.number, one)

    def _put_own(self, state: State, w: int, one: Id) -> State:
        return self._put_id_of(state, w, state.workers[w].number, one)

    def _put_id_of(self, state: State, w: int, number: int, one: Id) -> State:
        return state._replace(ids=put(state.ids, w, put(state.ids[w], number - 1, one)))
