"""Rules of the test clock: one merchant's time is moved forward, and no other's."""

from datetime import UTC, timedelta

from billing_stream.domain.commands import AdvanceClock
from billing_stream.domain.draft import Draft
from billing_stream.domain.outcomes import ClockMoved, ErrorCode, Rejected, Reply

AHEAD_MAX = timedelta(days=3653)


def move(draft: Draft, command: AdvanceClock) -> None:
    """Make it `to` for the merchant from now on; a clock that is later already stays."""
    if command.to > draft.now and _refusal(draft, command) is None:
        draft.now = command.to.astimezone(UTC)
        draft.change()


def moved(draft: Draft, command: AdvanceClock) -> Reply:
    """The answer: what time it is, or why it was not moved.

    That is where there is no test clock, and more than ten years beyond the record's time.
    """
    return _refusal(draft, command) or ClockMoved(draft.now)


def _refusal(draft: Draft, command: AdvanceClock) -> Rejected | None:
    if not draft.policy.test_clock:
        message = "clocks are moved in development and test only"
        return Rejected(ErrorCode.CLOCK_REFUSED, message)
    if command.to - draft.asked_at > AHEAD_MAX:
        return Rejected(ErrorCode.CLOCK_REFUSED, "`to` must be within ten years from now")
    return draft.unknown()
