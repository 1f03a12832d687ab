"""Which lane reads a partition of an input topic, and under which name it keeps it.

A lane reads the partition of its own number. A partition that was added to a topic later has a
number that no lane has: the lane of `number % lanes` reads it, and only forwards its records.
"""


def lane_of(partition: int, lanes: int | None) -> int:
    """The number of the lane that reads a partition; `lanes` is how many there are, if known."""
    return partition if lanes is None else partition % lanes


def input_name(topic: str, partition: int, lane: int) -> str:
    """The name of an input in its lane: the topic, `topic[partition]` where it was added later."""
    return topic if partition == lane else f"{topic}[{partition}]"


def input_of(name: str, lane: int) -> tuple[str, int]:
    """The topic and partition of an input of a lane; no topic has a bracket in its name."""
    topic, bracket, rest = name.partition("[")
    return (topic, int(rest.removesuffix("]"))) if bracket else (topic, lane)


def is_added(name: str) -> bool:
    """Whether it is a partition that was added later."""
    return name.endswith("]")
