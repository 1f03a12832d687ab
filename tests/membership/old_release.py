"""Workers of 0.5.1 among workers that ask the group, in an upgrade and on the way back.

An old worker writes each partition by itself, under two ids that belong to the partition: whoever
asks for them last has them, and the group is not asked. It asks for both side by side, restores,
and ends when it finds a record that only members write, which is of a newer version of the state.

A worker that asks the group and restores a partition without that record fences both ids, writes
the record under each of them, and restores again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.membership.model import Protocol
from tests.membership.states import (
    BOTH_FENCED,
    FRESH,
    GONE,
    IDLE,
    KEY_WRITTEN,
    LIVES,
    OLD,
    OLD_FENCED,
    OWNED,
    PARTITIONS,
    START,
    Lane,
    Left,
    OldIds,
    State,
    Steps,
    put,
)

TURNS = (0, 1)


class WithOldRelease(Protocol):
    """`old` is the worker of 0.5.1. What is `settled` is so without the record of members."""

    def __init__(
        self, left: Left, *, old: int, settled: bool = False, generations: int = 2
    ) -> None:
        super().__init__(left, settled=settled, generations=generations)
        self.old = old

    def __str__(self) -> str:
        return f"{super().__str__()}-{self.old}-is-old"

    def starts(self) -> Iterator[State]:
        """As without old workers; what is settled there has the record, if a member has it."""
        for state in super().starts():
            members = tuple(self.settled and state.assigned[p] != self.old for p in PARTITIONS)
            has = OldIds((self.old, self.old)) if self.settled else OldIds()
            old = tuple(OldIds() if member else has for member in members)
            yield self._joined(state._replace(keys=members, old=old))

    def _joined(self, state: State) -> State:
        # It has nothing to end: what it restores is fenced by its ids.
        return state if state.workers[self.old].status == GONE else self._join_old(state)

    def _join_old(self, state: State) -> State:
        return self._worker(state, self.old, joined=True, task=None)

    def _next(self, state: State, members: object, assigned: tuple[int, ...]) -> State:
        return self._joined(super()._next(state, members, assigned))  # type: ignore[arg-type]

    def _is_like_others(self, state: State, w: int) -> bool:
        return w != self.old and super()._is_like_others(state, w)

    def _can_commit(self, state: State, w: int, p: int) -> bool:
        if w != self.old:
            return super()._can_commit(state, w, p)
        has_both = state.old[p].holders == (w, w)
        return state.workers[w].lanes[p].at == OWNED and has_both

    def _put_old(self, state: State, p: int, turn: int, holder: int, is_open: bool) -> State:
        holders, opened = state.old[p]
        new = OldIds(put(holders, turn, holder), put(opened, turn, is_open))  # type: ignore[arg-type]
        return state._replace(old=put(state.old, p, new))

    def _can_restore(self, state: State, p: int) -> bool:
        return super()._can_restore(state, p) and not any(state.old[p].open)

    # -- those who ask the group

    def _lane_steps(self, state: State, w: int, p: int) -> Steps:
        lane = state.workers[w].lanes[p]
        if w == self.old:
            yield from self._old_lane_steps(state, p, lane)
        elif lane.at == START:
            yield from super()._lane_steps(state, w, p)
            for turn in TURNS:
                if state.old[p].open[turn]:
                    after = self._put_old(state, p, turn, -1, False)
                    yield f"{w} ends what is open under {turn} of {p}", after
        elif lane.at in (OLD, OLD_FENCED):
            turn = lane.at - OLD
            fenced = self._put_old(state, p, turn, w, False)
            yield (
                f"{w} fences {turn} of {p}",
                self._lane(fenced, w, p, lane._replace(at=lane.at + 1)),
            )
        elif lane.at in (BOTH_FENCED, KEY_WRITTEN):
            yield from self._write_key(state, w, p, lane.at - BOTH_FENCED)

    def _restored(self, state: State, w: int, p: int) -> State:
        if state.keys[p]:
            return super()._restored(state, w, p)
        return self._lane(state, w, p, Lane(OLD))

    def _write_key(self, state: State, w: int, p: int, turn: int) -> Steps:
        if state.old[p].holders[turn] != w:
            member = self._is_member(state, w)
            after = self._lane(state, w, p, Lane(OLD)) if member else self._gone(state, w)
            yield f"{w} is fenced at {p}", after
            return
        written = state._replace(keys=put(state.keys, p, True))
        last = turn == self._last_turn()
        lane = self._with_key() if last else Lane(KEY_WRITTEN)
        yield f"{w} writes under {turn} of {p}", self._lane(written, w, p, lane)

    def _last_turn(self) -> int:
        return TURNS[-1]

    def _with_key(self) -> Lane:
        """It restores again: what was committed since the first time."""
        return IDLE

    # -- the old worker

    def _old_lane_steps(self, state: State, p: int, lane: Lane) -> Steps:
        w = self.old
        if lane.at in (START, OLD, OLD_FENCED):
            # Side by side: the one may be answered long before the other.
            for turn in TURNS:
                if lane.at == START or lane.at - OLD != turn:
                    after = self._put_old(state, p, turn, w, False)
                    at = OLD + turn if lane.at == START else BOTH_FENCED
                    yield f"old {w} asks for {turn} of {p}", self._lane(after, w, p, Lane(at))
        elif lane.at == BOTH_FENCED and self._can_restore(state, p):
            if state.keys[p] and self._minds_keys():
                yield f"old {w} ends with 65", self._gone(state, w)
            else:
                yield f"old {w} restores {p}", self._lane(state, w, p, Lane(OWNED, FRESH))

    def _minds_keys(self) -> bool:
        return True

    def _round_steps(self, state: State, w: int) -> Steps:
        worker = state.workers[w]
        if w != self.old:
            yield from super()._round_steps(state, w)
        elif worker.round:
            p, turn = worker.round
            if state.old[p].holders[turn] != w or not state.old[p].open[turn]:
                yield f"old {w} is fenced", self._lose_old(state, p)
            else:
                after = self._commit_of(self._put_old(state, p, turn, w, False), w, p)
                yield f"old {w} commits {p}", self._worker(after, w, round=())
        else:
            for p in worker.wanted:
                for turn in TURNS:
                    if state.old[p].holders[turn] != w:
                        yield f"old {w} finds itself fenced", self._lose_old(state, p)
                    elif worker.rounds < self.rounds:
                        after = self._put_old(state, p, turn, w, True)
                        fields = {"round": (p, turn), "rounds": worker.rounds + 1}
                        yield f"old {w} begins {p} under {turn}", self._worker(after, w, **fields)

    def _lose_old(self, state: State, p: int) -> State:
        w = self.old
        if not self._is_member(state, w):
            return self._gone(state, w)
        return self._lane(self._worker(state, w, round=()), w, p, IDLE)

    def _broker_steps(self, state: State) -> Steps:
        yield from super()._broker_steps(state)
        if state.workers[self.old].status == LIVES:
            return
        for p in PARTITIONS:
            for turn in TURNS:
                if state.old[p].open[turn]:
                    yield f"{turn} of {p} times out", self._put_old(state, p, turn, -1, False)


class NoKey(WithOldRelease):
    """Fences old workers, and lets others start."""

    def _minds_keys(self) -> bool:
        return False


class NoFencing(WithOldRelease):
    """Writes the record that only members write without fencing, under its own id."""

    def _restored(self, state: State, w: int, p: int) -> State:
        if not state.keys[p]:
            state = state._replace(keys=put(state.keys, p, True))
        return super()._restored(state, w, p)


class UnderItsOwnId(WithOldRelease):
    """Fences old workers, and writes the record under an id that none of them can take."""

    def _write_key(self, state: State, w: int, p: int, turn: int) -> Steps:
        written = state._replace(keys=put(state.keys, p, True))
        yield f"{w} writes in {p}", self._lane(written, w, p, self._with_key())


class UnderTheFirst(WithOldRelease):
    """Writes the record under one of the two ids."""

    def _last_turn(self) -> int:
        return 0


class FencesTheFirst(UnderTheFirst):
    """Fences one of the two ids."""

    def _restored(self, state: State, w: int, p: int) -> State:
        after = super()._restored(state, w, p)
        lane = after.workers[w].lanes[p]
        if lane.at != OLD:
            return after
        fenced = self._put_old(after, p, 0, w, False)
        return self._lane(fenced, w, p, lane._replace(at=BOTH_FENCED))


class RestoresOnce(WithOldRelease):
    """Keeps the rows that it had before it fenced old workers."""

    def _restored(self, state: State, w: int, p: int) -> State:
        after = super()._restored(state, w, p)
        lane = after.workers[w].lanes[p]
        return self._lane(after, w, p, lane._replace(rows=FRESH))

    def _with_key(self) -> Lane:
        return Lane(OWNED, FRESH)


@dataclass(frozen=True)
class Spoiled:
    """A way to upgrade that an old worker spoils: it goes on to write."""

    protocol: Callable[..., Protocol]
    settled: bool = False


SPOILED = (
    Spoiled(NoKey),
    Spoiled(NoFencing, settled=True),
    Spoiled(UnderItsOwnId),
    Spoiled(UnderTheFirst),
    Spoiled(FencesTheFirst, settled=True),
    Spoiled(RestoresOnce, settled=True),
)
