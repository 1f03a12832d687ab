"""Endpoints of outgoing webhooks, as the events about them have it.

Workers have no right to the tables of `billing-stream deliver`, in which the secrets are.
"""

import logging

import msgspec

from billing_stream.ops.dead_letters import Cluster
from billing_stream.ops.dead_letters.dead_letter_reader import read
from billing_stream.records.endpoint_changes import (
    PARTITION,
    EndpointEvent,
    EndpointState,
    decode_endpoint_event,
)
from billing_stream.records.topics import ENDPOINT_CHANGED

logger = logging.getLogger(__name__)


class EndpointStates:
    """Reads on from where the last look ended. Not to be used twice at once.

    Kept is the last event of each endpoint; `billing-stream deliver` has a limit for them.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._topic = cluster.topics.name(ENDPOINT_CHANGED)
        self._read_to: dict[int, int] = {}
        self._last: dict[str, EndpointEvent] = {}

    async def look(self) -> list[EndpointEvent]:
        """All endpoints, disabled ones first. Raises DeadLettersError, KafkaError."""
        since = self._read_to
        async for records in read(self._cluster, self._topic, partitions=[PARTITION], since=since):
            for record in records:
                self._read_to[PARTITION] = record.offset + 1
                self._note(record.value)
        return sorted(
            self._last.values(), key=lambda one: (one.data.state.value, one.data.endpoint_id)
        )

    def _note(self, value: bytes | None) -> None:
        try:
            event = decode_endpoint_event(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            logger.warning("a record of %s is not an event of an endpoint", ENDPOINT_CHANGED)
            return
        if event.data.state is EndpointState.REMOVED:
            self._last.pop(event.data.endpoint_id, None)
        else:
            self._last[event.data.endpoint_id] = event
