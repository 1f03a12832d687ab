"""Records on their way from the input to a lane."""

from collections.abc import Callable
from dataclasses import dataclass, field

from billing_stream.records.schemas import InputRecord

# A record of more than this counts as several where records wait.
RECORD_BYTES = 4096


def _nothing() -> None:
    """What is done where nobody waits."""


@dataclass(slots=True)
class Batch:
    """Records of one input partition, in order.

    `start` is the position from which they were read: a batch whose start lies beyond
    what the lane has seen would leave a gap. `epoch` counts seeks: what was delivered
    before the last seek is delivered again after it. `weight` is how many records wait with
    it, large ones counted several times. `name` is that of the input in its lane, see
    `input_names`: the topic, if it is not given.
    """

    topic: str
    records: list[InputRecord]
    start: int
    epoch: int
    done: Callable[[], object] = _nothing
    name: str = ""
    weight: int = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.name or self.topic
        size = sum(len(record.value or b"") for record in self.records)
        self.weight = max(len(self.records), size // RECORD_BYTES)

    @property
    def end(self) -> int:
        """The position after the last record."""
        return self.records[-1].offset + 1

    def acknowledge(self) -> None:
        """Say that nobody needs it any more, once."""
        # What is told holds the batch: a cycle, which the collector would find seconds later,
        # with all records of those seconds in it.
        done, self.done = self.done, _nothing
        done()
