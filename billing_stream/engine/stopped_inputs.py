"""The stopped inputs of a worker, for /ready, metrics, the log and the dashboard."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from billing_stream.engine.input_names import input_of
from billing_stream.engine.lane import Lane


class Stop(Struct, frozen=True):
    """A stopped input. `position` is the offset at which reading would continue.

    `next_offset` is that of the record there, None while it was not read.
    """

    topic: str
    partition: int
    reason: str
    cause: str
    since: datetime
    position: int
    next_offset: int | None

    def __str__(self) -> str:
        return f"input {self.topic}[{self.partition}] is stopped: {self.reason}"


def stops_of(partition: int, lane: Lane[Any]) -> list[Stop]:
    """The stopped inputs of a partition, by topic."""
    found = []
    for name, stopped in sorted(lane.stopped.items()):
        following = lane.inputs.next_records.get(name)
        found.append(
            Stop(
                *input_of(name, partition),
                stopped.reason,
                stopped.cause,
                stopped.at,
                lane.positions.get(name, 0),
                None if following is None else following.offset,
            )
        )
    return found


def stops(lanes: Mapping[int, Lane[Any]]) -> list[Stop]:
    """The stopped inputs of all partitions, partition by partition."""
    return [stop for number, lane in sorted(lanes.items()) for stop in stops_of(number, lane)]


def none_processed(lanes: Mapping[int, Lane[Any]]) -> bool:
    """Whether every input that can be stopped is, in every partition of this worker."""
    return bool(lanes) and all(
        lane.inputs.stoppable is not None and lane.stopped.keys() >= set(lane.inputs.stoppable)
        for lane in lanes.values()
    )
