"""Logging of a process of ours."""

import logging

QUIET = (
    "faust",
    "mode",
    "aiokafka",
    "aiohttp",
    "alembic",
    "asyncio",
    # They would log whole addresses.
    "httpx",
    "httpcore",
    # Where mode logs the start and stop of services that we subclass.
    "billing_stream.engine.recovery",
    "billing_stream.engine.transport",
    "billing_stream.engine.tables",
)


def _matters(record: logging.LogRecord) -> bool:
    """The group's offsets are for display: that they could not be committed is no error."""
    return not str(record.msg).startswith("OffsetCommit failed")


class Sparing(logging.Filter):
    """Lets each message of the Kafka client through once in so many seconds.

    While a broker is away it says the same hundreds of times a second.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._told: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told; the number of those kept back goes with the next one."""
        if not record.name.startswith("aiokafka"):
            return True
        place = (record.pathname, record.lineno)
        told, kept_back = self._told.get(place, (-self._seconds, 0))
        if record.created - told < self._seconds:
            self._told[place] = (told, kept_back + 1)
            return False
        self._told[place] = (record.created, 0)
        if kept_back:
            record.msg = f"{record.msg} ({kept_back} more like it were not told)"
        return True


def set_up_logging(level: str) -> None:
    """Ours at `level`; the libraries' debug records cost time even when nobody reads them."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(Sparing())
    for ours in ("billing_stream", "agents", "tables", "web"):
        logging.getLogger(ours).setLevel(level)
    for theirs in QUIET:
        logging.getLogger(theirs).setLevel(logging.WARNING)
    coordinator = logging.getLogger("aiokafka.consumer.group_coordinator")
    coordinator.addFilter(_matters)
