"""What the engine asks of the log. Kafka and the simulated log obey one test suite."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from billing_stream.engine.partition_processor import ChangelogRows, Outgoing
from billing_stream.kafka.topic_logs import ChangelogIds
from billing_stream.kafka.transaction_offsets import Member

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
# Since it was written, only members of the group write. Workers of 0.5.1 do not start with it.
MEMBERS_KEY = RESERVED_PREFIX + b"members"

OnRows = Callable[[int, str, ChangelogRows], None]
"""Takes partition, table and rows of a changelog, in their order."""

OnTotal = Callable[[int], None]
"""Takes how many changelog records there are to read, at most."""


class Fenced(Exception):
    """Another worker owns the partition now: this one can write nothing any more."""


class Part(NamedTuple):
    """What one lane has in a transaction. `position` is for display: that of its first input."""

    partition: int
    records: Sequence[Outgoing]
    position: int = 0


class Writer(Protocol):
    """Writes transactions as one member of the group, in one of its generations."""

    async def commit(self, parts: Sequence[Part]) -> None:
        """Write all records of all lanes, or none, and return when that is certain.

        Raises Fenced when the group has given partitions to others; after any other error it is
        unknown whether they were written, and the process must end. May be called again before the
        last call has returned, with other lanes.
        """

    async def close(self) -> None:
        """Close the connections; nothing is in flight when this is called."""


class Log(Protocol):
    """Where changelogs are read from and transactions are written to.

    `protocol` is the version of Kafka's transaction protocol that is spoken; 0 until that is known.
    `changelogs` maps each table to its changelog; `ids` are those topics' ids as of the last
    restore, None where the log has none.
    """

    protocol: int
    changelogs: Mapping[str, str]
    ids: ChangelogIds | None

    async def join(self, member: Member, partitions: Collection[int]) -> Writer:
        """Begin to write these partitions, as a member of the group in its present generation.

        What members of earlier generations had open in them has ended when this returns, and none
        of them can commit anything from here on.
        """

    async def end_old_release(self, partition: int) -> None:
        """End and fence a worker of a release before 0.6.0, and keep others from starting.

        To be called when a restore found no MEMBERS_KEY: it is written. Raises Fenced when such a
        worker takes the partition at the same time.
        """

    async def restore(
        self, partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        """Read all changelogs of these partitions to their ends; how many records it were.

        `on_total` is called before the first row, where that is known.
        To be called after `join`: what the old owner committed until then is read. Rows of
        older releases come as if the present one had written them. Raises NewerState, and
        UnreadableRow for the first record that no release can have written.
        """
