"""Which fault comes next. The same seed, the same plan."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

SINGLES = (
    "kill",
    "term",
    "stop",
    "join",
    "leave",
    "broker-kill",
    "broker-bounce",
    "net-blackhole",
    "net-reset",
    "net-delay",
    "net-throttle",
    "net-half-open",
)
SPECIALS = ("outage", "kill-storm", "churn-storm")
KINDS = SINGLES + SPECIALS
# Of three brokers: one is away, or slow, or what it does moves to others.
OF_ONE_BROKER = (
    "kill-leader",
    "kill-txn",
    "kill-group",
    "kill-controller",
    "freeze-leader",
    "freeze-txn",
    "freeze-group",
    "freeze-controller",
    "stop-leader",
    "cut-off",
    "slow",
    "rolling",
    "reassign",
    "elect",
    "join-without",
)
TWO_AWAY = "two-away"
KINDS_OF_THREE = (*OF_ONE_BROKER, TWO_AWAY)


def kinds_with(brokers: int) -> tuple[str, ...]:
    """The faults that can be made with so many brokers."""
    return KINDS if brokers == 1 else KINDS_OF_THREE


OUTAGE_SECONDS = 300.0
OUTAGE_MINUTES_MIN = 20.0
# The first ones of each, as a share of the run; storms again after so many seconds.
SPECIALS_BEGIN = {"outage": 0.3, "kill-storm": 0.1, "churn-storm": 0.6}
STORM_EVERY_SECONDS = 420.0


@dataclass(frozen=True)
class Step:
    """A fault. `strength` (0 to 1) says how long or how much, within the fault's bounds."""

    number: int
    kind: str
    strength: float
    seed: int

    def between(self, least: float, most: float) -> float:
        """The value at this strength."""
        return least + (most - least) * self.strength


class Plan:
    """Single faults, evenly over the kinds: each once, in a random order, and again.

    The outage and the storms come at their times; with three brokers there are none.
    """

    def __init__(
        self, seed: int, seconds: float, only: Sequence[str] = (), brokers: int = 1
    ) -> None:
        kinds = kinds_with(brokers)
        unknown = set(only) - set(kinds)
        if unknown:
            raise ValueError(f"no such faults: {', '.join(sorted(unknown))}")
        self._seconds = seconds
        self._random = random.Random(seed)
        self._special_random = random.Random(seed + 1)
        singles = SINGLES if brokers == 1 else KINDS_OF_THREE
        self._singles = [kind for kind in singles if not only or kind in only]
        self._round: list[str] = []
        self._due = {
            kind: share * seconds
            for kind, share in SPECIALS_BEGIN.items()
            if kind in kinds and (not only or kind in only)
        }
        self._number = 0

    @property
    def outage_seconds(self) -> float:
        """Five minutes; a fifth of a run that is shorter than 20."""
        whole = self._seconds >= OUTAGE_MINUTES_MIN * 60
        return OUTAGE_SECONDS if whole else self._seconds / 5

    def next(self, elapsed: float) -> Step | None:
        """The next fault, or None when there is none but those whose time is yet to come."""
        for kind, due in self._due.items():
            if elapsed >= due:
                if kind == "outage":
                    del self._due[kind]
                else:
                    self._due[kind] = due + STORM_EVERY_SECONDS
                return self._step(kind, self._special_random)
        if not self._singles:
            return None
        if not self._round:
            self._round = self._random.sample(self._singles, len(self._singles))
        return self._step(self._round.pop(), self._random)

    def _step(self, kind: str, source: random.Random) -> Step:
        self._number += 1
        return Step(self._number, kind, source.random(), source.getrandbits(32))
