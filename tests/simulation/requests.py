"""Requests of a transactional producer, and how a coordinator takes them, in both versions.

A transaction has parts, one per lane, and an id of its worker and generation. In version 1 a
producer adds partitions, and its epoch stays when a transaction ends; in version 2 (KIP-890) a
produce request adds its own, and each end gives the next transaction another epoch. A request may
arrive again, long after its repetition was answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from billing_stream.engine.log import Fenced
from billing_stream.engine.partition_processor import Outgoing

TopicPartition = tuple[str, int]
"""A topic's partition."""


class Refused(Exception):
    """The coordinator knows no such transaction: as INVALID_TXN_STATE."""


class NotMember(Exception):
    """The group has another generation, or not this member."""


class State(Enum):
    """What became of a transaction."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(slots=True, eq=False)
class Txn:
    """A lane's part of a transaction. It is known from the first record whose it is, and what it is
    to hold."""

    partition: int
    generation: int = 0
    who: str = ""
    # What it was made of, and all that it is to hold, in the order of the decisions.
    done: Sequence[Any] = ()
    wanted: Sequence[Outgoing] = ()
    state: State = State.OPEN
    # Among the committed.
    number: int = -1
    records: list[tuple[TopicPartition, Outgoing]] = field(default_factory=list)
    firsts: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A request of a producer."""

    id: str
    epoch: int | None

    @property
    def name(self) -> str:
        """Of its kind."""
        return type(self).__name__


@dataclass(frozen=True, slots=True, eq=False)
class InitProducerId(Request):
    """Take the id; with an epoch: only from this one on (KIP-360)."""


@dataclass(frozen=True, slots=True, eq=False)
class AddPartitions(Request):
    """Version 1: where the transaction will write."""

    tps: frozenset[TopicPartition]


@dataclass(frozen=True, slots=True, eq=False)
class Produce(Request):
    """Records for one place, each with its part as the producer means it."""

    tp: TopicPartition
    records: Sequence[tuple[Txn, Outgoing]]
    sequence: int


@dataclass(frozen=True, slots=True, eq=False)
class AddOffsets(Request):
    """Offsets of these partitions, as this member of the group in this generation."""

    member: str
    generation: int
    partitions: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class EndTxn(Request):
    """Commit, or abort."""

    commit: bool = True


@dataclass(slots=True, eq=False)
class Combined:
    """An open transaction: its parts by lane, and the partitions whose offsets were accepted."""

    id: str
    parts: dict[int, Txn] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Producer:
    """What the brokers know of a transactional id."""

    epoch: int = 0
    # The epoch whose owner asked for the present one.
    previous: int | None = None
    txn: Combined | None = None
    last: State | None = None
    added: set[TopicPartition] = field(default_factory=set)
    sequences: dict[TopicPartition, int] = field(default_factory=dict)

    def require(self, epoch: int | None) -> None:
        """Raise Fenced when this is not the present epoch."""
        if epoch != self.epoch:
            raise Fenced(f"epoch {epoch} is over, it is {self.epoch}")

    def next_epoch(self, previous: int | None = None) -> int:
        """Begin the next epoch, whose sequences start at 0, for the owner of `previous`."""
        self.epoch += 1
        self.previous = previous
        self.sequences = {}
        return self.epoch

    def close(self, state: State | None) -> None:
        """The transaction has ended, if there was one."""
        self.txn, self.last = None, state
        self.added = set()


def generation_of(id: str) -> int:
    """The generation that a transactional id names."""
    return int(id.partition(".")[0])
