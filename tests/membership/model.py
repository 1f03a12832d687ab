"""The protocol of combined transactions, as a machine of states and steps.

A worker writes all its partitions in one transaction, under ids that belong to the worker and name
the generation of the group. What fences it is the group: offsets are added to the transaction after
all of its records, and are accepted of a member of the present generation only. Who is in a later
generation ends what is open under ids of earlier ones, waits until nothing of them is open in its
partitions, marks again what a broker left unmarked, and then restores.

This is the protocol alone: three workers, two partitions, a group, a coordinator of transactions
as Kafka has it. `explore.py` visits every order of its steps. A step is one request at a broker
together with its answer: a request that is slow is a step that comes late, and a worker that was
cut off is one that goes on in an old generation. Requests that arrive twice, lost answers and what
brokers do of themselves are steps of their own:

- the timeout of a transaction, the expiry of an id and a second InitProducerId have one effect:
  what is open is aborted, and its producer fenced;
- a second EndTxn commits what is open, in version 1 of the transaction protocol; in version 2 its
  epoch is over. A second TxnOffsetCommit is accepted in the same generation, in version 1.
"""

from collections.abc import Iterable, Iterator
from itertools import product

from tests.membership.states import (
    FRESH,
    GONE,
    GROUP,
    IDLE,
    LIVES,
    OWNED,
    PARTITIONS,
    WORKERS,
    Id,
    Lane,
    Left,
    State,
    Steps,
    Worker,
    compact,
)
from tests.membership.writing import Writing


class Protocol(Writing):
    """The steps that each worker, the group and the brokers can take next.

    `version` is that of the transaction protocol, `rounds` how many transactions each worker makes
    per generation, `generations` how many there are. `settled`: in the first one, all partitions
    are restored.
    """

    def __init__(
        self,
        left: Left,
        *,
        version: int = 2,
        rounds: int = 1,
        generations: int = 2,
        settled: bool = False,
    ) -> None:
        self.left = left
        self.version = version
        self.rounds = rounds
        self.generations = generations
        self.settled = settled

    def __str__(self) -> str:
        """What may go wrong, and the options."""
        faults = [name for name, count in self.left._asdict().items() for _ in range(count)]
        options = ["settled"] if self.settled else []
        options += [f"{self.generations}-generations"] if self.generations > 2 else []
        return "-".join([*faults, *options, f"v{self.version}", f"{self.rounds}-rounds"])

    # -- the beginning, and what is good in the end

    def starts(self) -> Iterator[State]:
        """One state per assignment of the first generation; all others are like one of these."""
        lane = Lane(OWNED, FRESH) if self.settled else IDLE
        for assigned in ((0, 0), (0, 1)):
            workers = []
            for w in WORKERS:
                wanted = tuple(p for p in PARTITIONS if assigned[p] == w)
                lanes = tuple(lane if p in wanted else IDLE for p in PARTITIONS)
                workers.append(Worker(wanted=wanted, lanes=lanes, joined=self.settled))
            ids = tuple(Id(w, 1, 1) for w in WORKERS)
            hidden = tuple(None for _ in (*PARTITIONS, GROUP))
            yield State(1, assigned, tuple(workers), ids, hidden, self.left)

    def unowned(self, state: State) -> list[int]:
        """Partitions without an owner that can commit, though their worker lives."""
        gone = {p for p in PARTITIONS if state.workers[state.assigned[p]].status == GONE}
        waits = {
            p
            for p in PARTITIONS
            if (hidden := state.hidden[p])
            and self._unmarked(state, hidden.name)[:1] in ([g] for g in gone)
        }
        found = []
        for p in PARTITIONS:
            w = state.assigned[p]
            worker = state.workers[w]
            if p in gone or waits.intersection(worker.wanted):
                # The next generation, in which those partitions have another worker, frees it.
                continue
            if not self._can_commit(state, w, p):
                found.append(p)
        return found

    def _can_commit(self, state: State, w: int, p: int) -> bool:
        worker = state.workers[w]
        owned = worker.joined and worker.lanes[p].at == OWNED and not worker.round
        return owned and self._own(state, w).epoch == worker.epoch

    # -- every step

    def steps(self, state: State) -> Steps:
        """All that can happen next. Raises Fault."""
        for label, after in self._steps(state):
            yield label, compact(after)

    def _steps(self, state: State) -> Steps:
        for w in WORKERS:
            worker = state.workers[w]
            if worker.status == GONE:
                continue
            if state.left.crashes:
                left = state.left.less("crashes")
                yield f"{w} crashes", self._gone(state, w)._replace(left=left)
            if not worker.wanted:
                continue
            if not worker.joined:
                yield from self._join_steps(state, w)
                continue
            for p in worker.wanted:
                yield from self._lane_steps(state, w, p)
            if all(worker.lanes[p].at == OWNED for p in worker.wanted):
                yield from self._round_steps(state, w)
        if state.generation < self.generations:
            yield from self._rebalance(state)
        if state.left.restarts:
            yield from self._restarts(state)
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
            number = state.generation + 1
            label = f"generation {number} is {assigned} of {sorted(members)}"
            yield label, self._next(state, members, assigned)

    def _is_like_others(self, state: State, w: int) -> bool:
        return not state.workers[w].wanted

    def _can_join(self, worker: Worker) -> bool:
        return worker.status == LIVES and not worker.round and not worker.out

    def _restarts(self, state: State) -> Steps:
        """A static member starts again: as a worker that had no partition yet."""
        left = state.left.less("restarts")
        for w, worker in enumerate(state.workers):
            new = [v for v in WORKERS if v != w and self._is_new(state.workers[v])]
            if not new or not worker.wanted or not self._is_member(state, w):
                continue
            v, assigned = new[0], tuple(new[0] if at == w else at for at in state.assigned)
            after = self._worker(state, w, out=True)._replace(assigned=assigned, left=left)
            fields = {"wanted": worker.wanted, "generation": state.generation, "former": w}
            after = self._join_again(self._worker(after, v, **fields), v)
            yield f"{w} starts again as {v}", after

    def _is_new(self, worker: Worker) -> bool:
        return worker.status == LIVES and not worker.wanted

    def _next(self, state: State, members: Iterable[int], assigned: tuple[int, ...]) -> State:
        state = state._replace(generation=state.generation + 1, assigned=assigned)
        for w in sorted(members):
            worker, wanted = state.workers[w], tuple(p for p in PARTITIONS if assigned[p] == w)
            kept = wanted if self._was_there(state, worker) else ()
            lanes = tuple(
                lane if p in kept and lane.at == OWNED else IDLE
                for p, lane in enumerate(worker.lanes)
            )
            fields = {"wanted": wanted, "lanes": lanes, "generation": state.generation}
            state = self._fresh(self._worker(state, w, former=None, **fields), w)
        return state

    def _was_there(self, state: State, worker: Worker) -> bool:
        """Whether nobody else can have had its partitions since it had them."""
        return worker.generation == state.generation - 1

    def _fresh(self, state: State, w: int) -> State:
        """The id of a member in a new generation."""
        return self._join_again(state, w)
