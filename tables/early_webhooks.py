"""How many webhooks wait for their charge, and how long the oldest has waited."""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

from msgspec import Struct

from billing_stream.domain.model import Instant
from billing_stream.domain.reports import ParkedWebhook


class EarlyWebhooks(Struct, frozen=True):
    """Webhooks that wait for their charge; `oldest` is when the first of them arrived (UTC)."""

    count: int = 0
    oldest: Instant | None = None

    @classmethod
    def of(cls, waiting: Iterable[tuple[ParkedWebhook, ...]]) -> Self:
        """Those that wait, as each merchant has them: oldest first, and none empty."""
        count, oldest = 0, None
        for parked in waiting:
            count += len(parked)
            oldest = parked[0].at if oldest is None else min(oldest, parked[0].at)
        return cls(count, oldest)

    @classmethod
    def together(cls, parts: Iterable["EarlyWebhooks"]) -> Self:
        """Those of several partitions."""
        found = [part for part in parts if part.oldest is not None]
        oldest = min((part.oldest for part in found if part.oldest), default=None)
        return cls(sum(part.count for part in found), oldest)

    def age(self, now: datetime) -> float:
        """For how many seconds the oldest has waited; 0 where none waits."""
        # The clock of a merchant may have been moved ahead.
        return 0.0 if self.oldest is None else max(0.0, (now - self.oldest).total_seconds())
