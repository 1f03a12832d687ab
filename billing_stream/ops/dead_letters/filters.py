"""Which dead letters are meant."""

import re
from datetime import datetime

from msgspec import Struct

from billing_stream.ops.dead_letters.action_log import State
from billing_stream.ops.dead_letters.entries import DeadLetterEntry


class Filters(Struct, frozen=True, kw_only=True):
    """All that is given must hold. `state` None: whatever was done with it.

    `topic` is that of the record, with or without the prefix; `reason` a regular expression, of
    whatever letter case; `since` and `until` are about when it became a dead letter.
    """

    topic: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    merchant: str | None = None
    partition: int | None = None
    state: State | None = State.OPEN

    def matches(self, letter: DeadLetterEntry, state: State, prefix: str) -> bool:
        """Whether the letter is one of them. Raises re.error when `reason` is none."""
        topic = letter.record.topic
        return (
            self.state in (None, state)
            and self.topic in (None, topic, topic.removeprefix(prefix))
            and self.partition in (None, letter.partition)
            and (self.merchant is None or self.merchant.lower() == letter.merchant)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (
                self.reason is None
                or re.search(self.reason, letter.record.reason, re.IGNORECASE) is not None
            )
        )
