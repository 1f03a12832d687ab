"""How often partitions are lost to another owner."""

import time
from collections.abc import Callable

# A partition that is lost more often within so long has another owner that takes it, too.
LOSSES_MAX = 3
LOSSES_SECONDS = 300.0


class Losses:
    """Recent losses per partition: a fault happens once, a second owner causes them repeatedly."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._times: dict[int, list[float]] = {}

    def too_many(self, partition: int) -> bool:
        """Count a loss of this partition; whether it happens again and again."""
        now = self.clock()
        recent = [at for at in self._times.get(partition, ()) if now - at < LOSSES_SECONDS]
        self._times[partition] = [*recent, now]
        return len(recent) >= LOSSES_MAX
