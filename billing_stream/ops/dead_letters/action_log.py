"""Who did what with which dead letter: the ledger, read whole."""

import logging
from collections import defaultdict
from enum import StrEnum

import msgspec

from billing_stream.kafka.committed_log import Progress
from billing_stream.ops.dead_letters.dead_letter_reader import read
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.records.dead_letters import DeadLetterAction, decode_action

logger = logging.getLogger(__name__)


class State(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class ActionLog:
    """All actions, by letter and by the copy that was sent."""

    def __init__(self) -> None:
        self._of: dict[str, list[DeadLetterAction]] = defaultdict(list)
        self._by_target: dict[str, DeadLetterAction] = {}

    def add(self, action: DeadLetterAction) -> None:
        """Take an action, the newest of its letter."""
        self._of[action.letter].append(action)
        if action.target is not None:
            self._by_target[action.target] = action

    def history(self, letter: str) -> tuple[DeadLetterAction, ...]:
        """What was done with a letter, oldest first."""
        return tuple(self._of.get(letter, ()))

    def state(self, letter: str) -> State:
        """What became of it."""
        history = self._of.get(letter)
        return State(history[-1].action) if history else State.OPEN

    def sent_as(self, ref: str) -> DeadLetterAction | None:
        """The action that sent the record with this reference, or None."""
        return self._by_target.get(ref)


async def read_ledger(
    cluster: Cluster, *, whole: bool = False, progress: Progress | None = None
) -> ActionLog:
    """The ledger as it is; with `whole`, commits under way are waited for."""
    ledger = ActionLog()
    async for records in read(cluster, cluster.ledger, whole=whole, progress=progress):
        for record in records:
            try:
                ledger.add(decode_action(record.value or b""))
            except msgspec.DecodeError as error:
                at = (record.topic, record.partition, record.offset)
                logger.warning("the ledger has what cannot be read, %s[%s]@%s: %s", *at, error)
    return ledger
