"""When and how the processes of a seed are stopped."""

import random
import signal
from dataclasses import dataclass
from enum import StrEnum

SECONDS = 3.0
"""How long after a milestone a process is stopped at most."""


class Service(StrEnum):
    """What is stopped."""

    WORKER = "worker"
    PROJECTOR = "projector"


class Milestone(StrEnum):
    """What the moment of a stop is counted from."""

    LOADING = "loading"
    """Python has started and handles signals; most of what follows is imports."""
    STARTING = "starting"
    """A worker has logged that it starts: it joins the group, fences, restores."""
    READY = "ready"
    """`/ready` has said so."""


@dataclass(frozen=True)
class Stop:
    """One process, and the signal that it gets `seconds` after the milestone."""

    service: Service
    milestone: Milestone
    seconds: float
    signal: signal.Signals
    named: bool

    def __str__(self) -> str:
        kind = f"{self.service}{' named' if self.named else ''}"
        return f"{kind}, {self.signal.name} {self.seconds:.2f} s after {self.milestone}"


@dataclass(frozen=True)
class Plan:
    """The stops of a seed. `shared`: in a group in which another worker stays."""

    seed: int
    shared: bool
    stops: tuple[Stop, ...]


def plan_of(seed: int) -> Plan:
    """The same for a seed every time."""
    chance = random.Random(seed)
    shared = chance.random() < 0.6
    # Two at once move partitions while the other one starts.
    count = 2 if shared and chance.random() < 0.5 else 1
    return Plan(seed, shared, tuple(_stop(chance) for _ in range(count)))


def _stop(chance: random.Random) -> Stop:
    service = chance.choices(list(Service), [0.8, 0.2])[0]
    weights = [0.2, 0.4, 0.4] if service is Service.WORKER else [0.6, 0.0, 0.4]
    return Stop(
        service=service,
        milestone=chance.choices(list(Milestone), weights)[0],
        seconds=chance.uniform(0.0, SECONDS),
        signal=chance.choices([signal.SIGTERM, signal.SIGINT], [0.75, 0.25])[0],
        named=chance.random() < 0.25,
    )
