"""How many webhooks wait for their charge, and how long the oldest has waited."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Self

from msgspec import Struct

from billing_stream.domain.charges import WaitingWebhook
from billing_stream.domain.model import Instant
from billing_stream.domain.reports import ParkedWebhook
from billing_stream.tables.rows import PartitionRows

CHARGES_SHOWN_MAX = 1_000
Waiting = Sequence[ParkedWebhook] | Sequence[WaitingWebhook]


class EarlyWebhooks(Struct, frozen=True):
    """Webhooks that wait for their charge; `oldest` is when the first of them arrived (UTC)."""

    count: int = 0
    oldest: Instant | None = None

    @classmethod
    def of(cls, waiting: Iterable[Waiting]) -> Self:
        """Those that wait, as each merchant or charge has them: oldest first, and none empty."""
        count, oldest = 0, None
        for parked in waiting:
            count += len(parked)
            oldest = parked[0].at if oldest is None else min(oldest, parked[0].at)
        return cls(count, oldest)

    @classmethod
    def in_partition(cls, rows: PartitionRows) -> Self:
        """Those of all merchants and charges of a partition."""
        unclaimed = (charge.waiting for charge in rows.unclaimed.values())
        return cls.of(chain(rows.early.values(), unclaimed))

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


def early_by_merchant(rows: PartitionRows) -> dict[str, EarlyWebhooks]:
    """Those that wait at a charge, by the merchant of their shop; of 1,000 charges at most."""
    found: dict[str, list[WaitingWebhook]] = {}
    for charge in islice(rows.unclaimed.values(), CHARGES_SHOWN_MAX):
        for webhook in charge.waiting:
            if webhook.merchant_id is not None:
                found.setdefault(webhook.merchant_id, []).append(webhook)
    return {
        merchant_id: EarlyWebhooks(len(waiting), min(one.at for one in waiting))
        for merchant_id, waiting in found.items()
    }
