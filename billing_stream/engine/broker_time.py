"""The brokers' time, and a clock of this worker that is never far ahead of it.

Kafka has no request for the time. But the coordinator of a transactional id notes by its own clock
when a transaction began, and DescribeTransactions says it, whatever the timestamp types of topics.
A worker begins one at each fence, and whenever it decides anything. Between two of them the
monotonic clock counts on: it does not jump when somebody sets the wall clock.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from billing_stream.records.timestamps import utc_now

# How far ahead timers and requests may be, as far as it can be measured.
AHEAD_MAX = timedelta(seconds=5)
# A transaction that took longer says too little, unless it is the first.
TOOK_SECONDS_MAX = 5.0
SAMPLE_SECONDS = 30.0
# Of a monotonic clock that NTP slews as fast as it may.
DRIFT = 0.0005


class BrokerTime:
    """Knows nothing before the first `note`; until then the clock is that of this machine."""

    def __init__(
        self,
        wall: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self.monotonic = monotonic
        # By the brokers, between these two moments of the monotonic clock.
        self._sample: tuple[datetime, float, float] | None = None

    @property
    def due(self) -> bool:
        """Whether the next transaction should be noted."""
        sample = self._sample
        return sample is None or self.monotonic() - sample[2] > SAMPLE_SECONDS

    def note(self, started_ms: int, since: float) -> None:
        """A transaction began then (ms since the epoch) by a broker; not before `since` here."""
        until = self.monotonic()
        if self._sample is None or until - since <= TOOK_SECONDS_MAX:
            self._sample = datetime.fromtimestamp(started_ms / 1000, UTC), since, until

    def now(self) -> datetime:
        """The time of this machine, but not more than AHEAD_MAX ahead of the brokers'."""
        wall, sample = self._wall(), self._sample
        if sample is None:
            return wall
        started, since, _ = sample
        passed = self.monotonic() - since
        return min(wall, started + timedelta(seconds=passed * (1 + DRIFT)) + AHEAD_MAX)

    @property
    def ahead(self) -> timedelta | None:
        """How far this machine is ahead at least; negative: behind. None where it is unknown."""
        if self._sample is None:
            return None
        started, since, until = self._sample
        wall, clock = self._wall(), self.monotonic()
        drift = (clock - since) * DRIFT
        most = wall - started - timedelta(seconds=clock - until - drift)
        least = wall - started - timedelta(seconds=clock - since + drift)
        return max(least, timedelta()) + min(most, timedelta())

    @property
    def wrong(self) -> str | None:
        """What to say of a clock that is off by more than AHEAD_MAX."""
        ahead = self.ahead
        if ahead is None or abs(ahead) <= AHEAD_MAX:
            return None
        seconds = ahead.total_seconds()
        if seconds > 0:
            return (
                f"the clock of this machine is {seconds:.0f} s ahead of the brokers': timers and "
                f"requests use the brokers' time plus {AHEAD_MAX.total_seconds():.0f} s"
            )
        return f"the clock of this machine is {-seconds:.0f} s behind the brokers': timers are late"
