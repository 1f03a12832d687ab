"""Visits every state that a protocol can reach, and gives the way to a broken promise."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.membership.model import Protocol
from tests.membership.states import Fault, State

STATES_MAX = 1_500_000
CIRCLE = "workers fence one another without end"


@dataclass(frozen=True)
class Explored:
    """How many states were visited, and what is wrong: None, or a fault and the steps to it."""

    states: int
    fault: str | None = None
    way: tuple[str, ...] = ()


@dataclass
class Visit:
    """A state on the way. It is an end if nothing happens there but what might go wrong."""

    label: str
    state: State
    steps: Iterator[tuple[str, State]]
    is_end: bool = True


def explore(protocol: Protocol, fault: str = "") -> Explored:
    """All states, depth first, until a fault whose text has `fault` in it.

    A fault is a broken promise, an end in which a living worker does not have its partition, and
    a circle: steps that workers could repeat for ever. Without circles every way has an end.
    Raises OverflowError where there are too many states for the memory of this machine.
    """
    done: set[State] = set()
    for start in protocol.starts():
        way = [Visit("", start, protocol.steps(start))]
        on_way = {start}
        while way:
            visit = way[-1]
            found = step = None
            try:
                step = next(visit.steps, None)
            except Fault as broken:
                found, visit.is_end = str(broken), False
            if step is not None:
                visit.is_end = visit.is_end and step[1].left != visit.state.left
                found = CIRCLE if step[1] in on_way else None
            elif visit.is_end and (left := protocol.unowned(visit.state)):
                found = f"partitions {left} have no owner"
            if found is not None and fault in found:
                return Explored(len(done), found, tuple(one.label for one in way[1:]))
            if step is None:
                done.add(visit.state)
                on_way.remove(visit.state)
                way.pop()
                if len(done) > STATES_MAX:
                    raise OverflowError(f"more than {STATES_MAX} states")
            elif step[1] not in done and step[1] not in on_way:
                way.append(Visit(*step, protocol.steps(step[1])))
                on_way.add(step[1])
    return Explored(len(done))
