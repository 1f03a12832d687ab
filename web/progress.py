"""Whether the lanes of this worker get on with their work."""

import asyncio
from collections.abc import Callable
from time import monotonic

from billing_stream.engine.lanes import Lanes

STUCK_SECONDS = 30.0
LOOK_SECONDS = 1.0


class Progress:
    """Notices a lane that has work waiting and commits nothing. `look` often enough."""

    def __init__(self, lanes: Lanes, clock: Callable[[], float] = monotonic) -> None:
        self.lanes = lanes
        self._clock = clock
        self._moved: dict[int, tuple[float, float]] = {}

    def look(self) -> dict[int, float]:
        """For each partition with work waiting: how many seconds nothing was committed."""
        now = self._clock()
        waiting = {}
        for partition, lane in self.lanes.items():
            commit = lane.stats.last_commit
            seen, since = self._moved.get(partition, (commit, now))
            if lane.is_idle or commit != seen:
                since = now
            self._moved[partition] = (commit, since)
            if not lane.is_idle:
                waiting[partition] = now - since
        for partition in self._moved.keys() - self.lanes.keys():
            del self._moved[partition]
        return waiting

    def problems(self) -> list[str]:
        """Why this worker should get no requests now; nothing when it should."""
        waiting = self.look()
        if not self.lanes.ready:
            return ["partitions are moving or recovering"]
        return [
            f"partition {partition} has had work waiting for {seconds:.0f} s"
            for partition, seconds in waiting.items()
            if seconds > STUCK_SECONDS
        ]

    async def watch(self) -> None:
        """Look once a second, for ever: asked seldom, `look` alone would notice late."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)
