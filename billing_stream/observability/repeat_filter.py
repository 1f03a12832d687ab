"""Holds back what a log says over and over, and counts it."""

import logging
from collections import OrderedDict

SUPPRESSED = "suppressed"
AUDIT_LOGGER = "billing_stream.audit"
PLACES_MAX = 1_000


class RepeatFilter(logging.Filter):
    """Lets a message through once in so many seconds; the next one says how many it stands for.

    Of the Kafka client, whatever one place in its code says is one message: while a broker is
    away it says the same of every node, hundreds of times a second. Of ours, the same text is.
    What is critical is always told, and so is every act of an operator.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._reported: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told; with how many of its kind were not, as `suppressed`."""
        if record.levelno >= logging.CRITICAL or record.name == AUDIT_LOGGER:
            return True
        text = "" if record.name.startswith("aiokafka") else record.getMessage()
        origin = (record.pathname, record.lineno, text)
        reported, kept_back = self._reported.pop(origin, (record.created - self._seconds, 0))
        if record.created - reported < self._seconds:
            self._reported[origin] = (reported, kept_back + 1)
            return False
        self._reported[origin] = (record.created, 0)
        if len(self._reported) > PLACES_MAX:
            self._reported.popitem(last=False)
        if kept_back:
            setattr(record, SUPPRESSED, kept_back)
        return True
