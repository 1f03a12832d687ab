"""Dead letters and what was done with them, read on from where the last look ended."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from aiokafka.errors import KafkaError

from billing_stream.errors import BillingError
from billing_stream.ops.dead_letters.action_log import State
from billing_stream.ops.dead_letters.dead_letter_reader import read
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.entries import DeadLetterEntry, letter_of
from billing_stream.records.dead_letters import decode_action
from billing_stream.records.record_ref import RecordRef

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
ASK_SECONDS = 120.0


class LetterView(Protocol):
    """Dead letters as one purpose needs them: added, acted on, looked at to the end."""

    def add(self, letters: Sequence[DeadLetterEntry]) -> None:
        """Letters of one partition, in their order."""

    def act(self, partition: int, offset: int, action: State) -> None:
        """What was done with a letter, which may not be added yet."""

    def looked(self) -> None:
        """Both topics were read to their ends."""


class LetterFollower:
    """Reads both topics once for all `views`; they are there before the first look."""

    def __init__(self, cluster: Cluster, *views: LetterView) -> None:
        self.views = list(views)
        self._cluster = cluster
        self._looking = asyncio.Lock()
        self._read_to: dict[str, dict[int, int]] = {cluster.letters: {}, cluster.ledger: {}}

    async def watch(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    await self.look()
            except (KafkaError, BillingError, OSError) as error:
                # Also TimeoutError. The figures stay; the watchdog reports Kafka.
                logger.debug("dead letters were not counted: %r", error)
            except Exception:
                # A worker does not end because a gauge is missing.
                logger.exception("dead letters were not counted")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Read both topics to their ends at this moment. Raises DeadLettersError, KafkaError."""
        cluster = self._cluster
        async with self._looking:
            # Closed also when this is cancelled: they hold a consumer.
            since = self._read_to[cluster.letters]
            async with aclosing(read(cluster, cluster.letters, since=since)) as letters:
                async for records in letters:
                    if records:
                        self._add(records)
                        since[records[-1].partition] = records[-1].offset + 1
                    await asyncio.sleep(0)
            since = self._read_to[cluster.ledger]
            async with aclosing(read(cluster, cluster.ledger, since=since)) as actions:
                async for records in actions:
                    for record in records:
                        self._act(record.value)
                        since[record.partition] = record.offset + 1
                    await asyncio.sleep(0)
            for view in self.views:
                view.looked()

    def _add(self, records: Sequence[Any]) -> None:
        letters = [letter_of(record) for record in records]
        for view in self.views:
            view.add(letters)

    def _act(self, value: bytes | None) -> None:
        try:
            action = decode_action(value or b"")
            _, partition, offset = RecordRef.parse(action.letter)
            done = State(action.action)
        except (msgspec.DecodeError, ValueError):
            # `billing-stream dlq` reports it.
            return
        for view in self.views:
            view.act(partition, offset, done)
