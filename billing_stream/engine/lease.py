"""Whether this worker can still believe that its partitions are its own.

The group gives a member's partitions away when it has heard nothing of it for a session.
A member that is cut off is not notified; but it can know: counted from when the last heartbeat
that was answered had been sent, a session cannot be over earlier here than there.
"""

from collections.abc import Callable
from math import inf
from time import monotonic


class Lease:
    """Renewed by heartbeats; asked for by everyone."""

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until = clock()
        # When the latest heartbeat that was answered had been sent.
        self.confirmed = -inf

    @property
    def held(self) -> bool:
        """Whether no other worker can own these partitions yet."""
        return self._clock() < self._until

    def now(self) -> float:
        """The moment before a heartbeat is sent, for `renew`."""
        return self._clock()

    def renew(self, sent: float) -> None:
        """A heartbeat sent then was answered."""
        self._until = max(self._until, sent + self._seconds)
        self.confirmed = max(self.confirmed, sent)
