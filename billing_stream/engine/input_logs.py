"""Whether reading an input may continue: is the log still the one that its position is of?"""

from msgspec import Struct

from billing_stream.kafka.topic_logs import FoundLog, LogMark


class Fits(Struct, frozen=True):
    """Reading continues at `position`. `moved`: why the mark names another log from now on."""

    position: int
    mark: LogMark
    moved: str | None = None


class Changed(Struct, frozen=True):
    """Records are missing or replaced. Accepted by an operator, it is read on at `resume`.

    `mark` is that of the log as it is now.
    """

    reason: str
    resume: int
    mark: LogMark


def judge(position: int | None, mark: LogMark | None, found: FoundLog) -> Fits | Changed:
    """Compare a position, and its mark, with the log as it was found.

    Without a position nothing was read: the log is read from its first offset. Without a mark a
    release before 0.6.0 wrote the position, and only its range can be compared.
    """
    now = LogMark(found.cluster, found.topic_id)
    begin, end = found.begin, found.end
    if position is None:
        return Fits(begin, now)
    if mark is None:
        if position > end:
            return Changed(_beyond(position, end, begin), begin, now)
        if position < begin:
            return Changed(_deleted(position, begin), begin, now)
        return Fits(position, now)
    comparable = mark.offset is not None and begin <= mark.offset
    same = comparable and found.timestamp is not None and found.timestamp == mark.timestamp
    kept = LogMark(found.cluster, found.topic_id, mark.offset, mark.timestamp)
    if same and position > end:
        # What is missing behind the last record were markers of transactions.
        return Fits(end, kept, "it lacks markers that were read")
    other_cluster = mark.cluster != found.cluster
    if mark.topic_id != found.topic_id:
        if same:
            return Fits(position, kept, "it is a copy: its last record that was read is the same")
        if other_cluster and not comparable and begin <= position <= end:
            return Fits(position, kept, "it is on another cluster, and nothing contradicts it")
        return Changed(_created_again(position, mark, found), begin, now)
    if position < begin:
        return Changed(_deleted(position, begin), begin, now)
    if position > end or (comparable and not same):
        newer = min(position, end if found.newer is None else found.newer)
        return Changed(_truncated(position, found, newer), max(begin, newer), now)
    return Fits(position, kept, "its cluster has another id" if other_cluster else None)


def _then(resume: int) -> str:
    return f"once that is accepted, reading continues at offset {resume}"


def _deleted(position: int, begin: int) -> str:
    return f"offsets {position} to {begin - 1} were deleted before they were read; {_then(begin)}"


def _beyond(position: int, end: int, begin: int) -> str:
    return (
        f"offsets {end} to {position - 1} were read, and the log ends before them: the topic was "
        f"created again or truncated; {_then(begin)}"
    )


def _created_again(position: int, mark: LogMark, found: FoundLog) -> str:
    held = f"holds the offsets {found.begin} to {found.end - 1}"
    return (
        f"the topic was deleted and created again, or copied with other offsets: its id was "
        f"{mark.topic_id} and is {found.topic_id}. What it held from offset {position} on was not "
        f"read; now it {held if found.end > found.begin else 'is empty'}; {_then(found.begin)}"
    )


def _truncated(position: int, found: FoundLog, newer: int) -> str:
    return (
        f"the log was truncated: of the offsets up to {position - 1}, which were read, those from "
        f"{newer} on are gone or hold other records; {_then(max(found.begin, newer))}"
    )
