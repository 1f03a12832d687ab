"""The records of batches, added to a stage in the order in which they came."""

from collections.abc import Callable, Mapping, Sequence

from billing_stream.engine.batch import Batch
from billing_stream.engine.partition_processor import MustWait, Stage


class GapInInput(Exception):
    """Records between two batches are missing: going on would lose them."""


def stage_batches(
    stage: Stage,
    batches: Sequence[Batch],
    positions: Mapping[str, int],
    note: Callable[[bool], object],
) -> tuple[dict[str, int], list[Batch]]:
    """The positions that are reached by topic, and the batches of which a record must wait.

    `note` gets of each record whether it is bad. What comes after a record that must wait, in
    its topic, waits with it. Raises GapInInput, and what `note` raises.
    """
    reached: dict[str, int] = {}
    held: set[str] = set()
    waiting: list[Batch] = []
    for batch in batches:
        stage.prefetch(batch.topic, batch.records)
    for batch in batches:
        topic = batch.topic
        position = reached.get(topic, positions.get(topic, 0))
        if topic not in held and batch.start > position:
            raise GapInInput(f"{topic} was read from {batch.start}, not {position}")
        if topic not in held:
            reached[topic] = _add(stage, batch, position, note)
            if reached[topic] < batch.end:
                held.add(topic)
        if topic in held:
            waiting.append(batch)
    return reached, waiting


def _add(stage: Stage, batch: Batch, position: int, note: Callable[[bool], object]) -> int:
    topic, add = batch.topic, stage.add_record
    for record in batch.records:
        if record.offset >= position:
            try:
                note(not add(topic, record))
            except MustWait:
                return record.offset
    return max(position, batch.end)
