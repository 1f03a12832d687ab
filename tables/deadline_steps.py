"""How many overdue purchases fit into one transaction, and in which steps they expire.

A merchant may have very many purchases that expire at once. They expire in steps of one decision
each, soonest first, so that no transaction is larger than two steps; its commands wait until the
rest fits into their own decision.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import chain, islice
from typing import Any

from billing_stream.domain.commands import AdvanceTime
from billing_stream.engine.partition_processor import Request, RequestFailed
from billing_stream.records import schemas
from billing_stream.tables.deadlines import Deadlines
from billing_stream.tables.rows import StagedRows

TIMER = "timer"
# Due merchants in one transaction; the rest follows in the next.
DUE_PER_COMMIT_MAX = 1_000

Decide = Callable[[Request, datetime], Any]
"""Decides a command at a time; RequestFailed where a rule failed."""


class DeadlineSteps:
    """The overdue purchases that one transaction lets expire, `per_step` in one decision."""

    def __init__(self, rows: StagedRows, per_step: int) -> None:
        self._rows = rows
        self._per_step = per_step
        self.expired = 0
        self.partial = 0

    def fits(self, merchant_id: str, now: datetime) -> bool:
        """Whether a command of the merchant may be decided at `now` in this transaction."""
        overdue = self._overdue(merchant_id, now)
        if not overdue:
            return True
        if overdue > self._per_step or self.expired + overdue > 2 * self._per_step:
            return False
        self.expired += overdue
        return True

    def expire(
        self,
        decide: Decide,
        deadlines: Deadlines,
        behind: dict[str, datetime],
        processed: set[str],
        now: datetime,
    ) -> bool:
        """Let time pass for merchants in which something fell due; whether more has by now.

        `behind` are merchants with commands that wait, with the time at which the first of them is
        decided; time passes to that. Merchants are added to `processed`, and left out where they
        are in it.
        """
        failed: dict[str, datetime] = {}
        more = False
        for merchant_id in chain(deadlines.take(now, DUE_PER_COMMIT_MAX), behind):
            if merchant_id in processed or merchant_id in failed:
                continue
            moment = behind.get(merchant_id, now)
            if isinstance(decide(self._next(merchant_id, moment), moment), RequestFailed):
                failed[merchant_id] = deadlines.failed(merchant_id, now)
            else:
                processed.add(merchant_id)
                deadlines.succeeded(merchant_id)
            more = self.expired >= self._per_step
            if more:
                break
        # The other merchants need not wait for these.
        for merchant_id, at in failed.items():
            deadlines.set(merchant_id, at)
        return more

    def _next(self, merchant_id: str, now: datetime) -> Request:
        """The merchant's next command of a timer: for all that is overdue, or for a step."""
        overdue = self._overdue(merchant_id, now)
        self.expired += min(overdue, self._per_step)
        command_id = f"timer/{merchant_id}/{now.isoformat()}"
        if overdue <= self._per_step:
            return _request(AdvanceTime(merchant_id, command_id))
        self.partial += 1
        # Several steps may be made at one time of a clock.
        merchant = self._rows.merchant(merchant_id)
        command_id += f"/{merchant.version if merchant else 0}"
        return _request(AdvanceTime(merchant_id, command_id, self._per_step))

    def _overdue(self, merchant_id: str, now: datetime) -> int:
        """How many purchases are overdue; of more than a step, one more than that."""
        merchant = self._rows.merchant(merchant_id)
        if merchant is None:
            return 0
        due = self._rows.pending_until(merchant_id, merchant.time(now))
        return sum(1 for _ in islice(due, self._per_step + 1))


def _request(command: AdvanceTime) -> Request:
    return Request(command, TIMER, schemas.correlation_of(command.command_id))
