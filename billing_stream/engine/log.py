"""What the engine asks of the log. Kafka and the simulated log obey one test suite."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from billing_stream.engine.partition_processor import ChangelogRows, Outgoing
from billing_stream.kafka.topic_logs import ChangelogIds

# Keys of the engine's own records in a changelog; no row has one that begins so.
RESERVED_PREFIX = b"\x00"
# How far a lane has read an input, by its name: the topic, `topic[partition]` where the partition
# was added later. So are the keys of the next three.
POSITION_PREFIX = RESERVED_PREFIX + b"position/"
# Which log the position is of, and the last record read, in JSON.
LOG_PREFIX = RESERVED_PREFIX + b"log/"
# Why an input is stopped, in JSON; null: it is not any more.
STOPPED_PREFIX = RESERVED_PREFIX + b"stopped/"
# That an operator has accepted a partition that was added to a topic; the reference of the command.
ACCEPTED_PREFIX = RESERVED_PREFIX + b"accepted/"
# Of the application's processor, beside its rows: the key goes on as it likes.
MARK_PREFIX = RESERVED_PREFIX + b"mark/"
# In each changelog: the ids of all changelogs, in JSON.
CHANGELOGS_KEY = RESERVED_PREFIX + b"changelogs"
# How many transactions have written in which order they took records, in JSON.
ORDER_KEY = RESERVED_PREFIX + b"order"
# Written where nothing else is, because only the owner can write.
OWNER_KEY = RESERVED_PREFIX + b"owner"

OnRows = Callable[[int, str, ChangelogRows], None]
"""Takes partition, table and rows of a changelog, in their order."""

OnTotal = Callable[[int], None]
"""Takes how many changelog records there are to read, at most."""


class Fenced(Exception):
    """Another worker owns the partition now: nothing of ours can be written any more."""


class Writer(Protocol):
    """Writes transactions for one partition, as its one owner."""

    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Write all records, or none, and return when that is certain.

        Raises Fenced when another owner took over; after any other error it is unknown
        whether they were written, and the process must end.
        """

    async def close(self) -> None:
        """Let go of connections; nothing is in flight when this is called."""


class Log(Protocol):
    """Where changelogs are read from and transactions are written to.

    `protocol` is the version of Kafka's transaction protocol that is spoken; 0 until that is known.
    `changelogs` maps each table to its changelog; `ids` are those topics' ids as of the last
    restore, None where the log has none.
    """

    protocol: int
    changelogs: Mapping[str, str]
    ids: ChangelogIds | None

    async def fence(self, partition: int) -> Writer:
        """Become the owner: whoever was it before can commit nothing from here on.

        An open transaction of the old owner has ended when this returns.
        """

    async def restore(
        self, partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        """Read all changelogs of these partitions to their ends; how many records it were.

        `on_total` is called before the first row, where that is known.
        To be called after `fence`: what the old owner committed until then is read. Rows of
        older releases come as if the present one had written them. Raises NewerState, and
        UnreadableRow for the first record that no release can have written.
        """
