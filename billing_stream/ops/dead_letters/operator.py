"""One who acts on dead letters. Copies and the ledger are one transaction."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from aiokafka.errors import IllegalOperation, KafkaError
from msgspec.structs import replace

from billing_stream.engine.crash_points import CrashHook, CrashPoint, no_crash
from billing_stream.engine.kafka_log import complete_last_transaction
from billing_stream.errors import DeadLettersError
from billing_stream.kafka.error_classes import ErrorClass, class_of
from billing_stream.kafka.producers import new_producer
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.transaction_state import last_transaction_states
from billing_stream.ops.dead_letters.action_log import ActionLog, read_ledger
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.entries import DeadLetterEntry
from billing_stream.ops.dead_letters.redrive_records import RedriveRecord
from billing_stream.records import schemas
from billing_stream.records.dead_letters import DeadLetterAction
from billing_stream.records.record_ref import RecordRef

SECONDS_MAX = 20.0
EXPECTED = (KafkaError, IllegalOperation, TimeoutError)

Deed = tuple[DeadLetterEntry, RedriveRecord | None, DeadLetterAction]
"""A letter, the copy that is sent of it if one is, and what the ledger says of it."""


class Operator:
    """The right to act, held by one at a time: who enters ends that of another.

    `ledger` is read after that, so it has all that any other one has done.
    """

    ledger: ActionLog

    def __init__(self, cluster: Cluster, crash_hook: CrashHook = no_crash) -> None:
        self._cluster = cluster
        self._crash_hook = crash_hook
        self._producer: Any = None

    async def __aenter__(self) -> "Operator":
        cluster, name = self._cluster, self._cluster.transactional_id
        # First of all: a topic that is missing is said to be so, and not made by a producer.
        await read_ledger(cluster)
        # `commit` gives up after so long. When the process dies in the middle, the lanes wait
        # for no longer than this either.
        self._producer = new_producer(
            cluster.options, name, transaction_timeout_ms=int(SECONDS_MAX * 1000)
        )
        try:
            # Asked before the fence, which resets it.
            deadline = StartDeadline(cluster.start_seconds, answered=True)
            states = await last_transaction_states(
                cluster.options, [name], deadline, SilentBrokers(cluster.options)
            )
            await deadline.retry(
                f"the coordinator of transactional id {name}", self._producer.start
            )
            await complete_last_transaction(self._producer, states.get(name), cluster.written())
            self.ledger = await read_ledger(cluster, whole=True)
        except EXPECTED as error:
            await self._close()
            raise _as_error(error) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        # It may be in the middle of what it was told it cannot do.
        with suppress(KafkaError):
            await self._producer.stop()

    async def commit(self, deeds: Sequence[Deed]) -> list[DeadLetterAction]:
        """Send copies and write them into the ledger: all, or nothing.

        Raises DeadLettersError; then the ledger says what was done, and it may be repeated.
        """
        try:
            async with asyncio.timeout(SECONDS_MAX):
                done = await self._commit(deeds)
        except EXPECTED as error:
            raise _as_error(error) from error
        for action in done:
            self.ledger.add(action)
        return done

    async def _commit(self, deeds: Sequence[Deed]) -> list[DeadLetterAction]:
        producer = self._producer
        sent: list[asyncio.Future[Any]] = []
        try:
            await producer.begin_transaction()
            refs = await self._send_copies(deeds, sent)
            self._crash_hook(CrashPoint.HALF_SENT)
            done = [replace(action, target=refs.get(letter.ref)) for letter, _, action in deeds]
            for (letter, _, _), action in zip(deeds, done, strict=True):
                sent.append(await self._send_action(letter, action))
            await asyncio.gather(*sent)
            self._crash_hook(CrashPoint.SENT)
            await producer.commit_transaction()
            self._crash_hook(CrashPoint.COMMITTED)
        except BaseException:
            # What is sent may fail later still, and nobody waits for it any more.
            asyncio.gather(*sent, return_exceptions=True)
            raise
        return done

    async def _send_copies(
        self, deeds: Sequence[Deed], sent: "list[asyncio.Future[Any]]"
    ) -> dict[str, str]:
        """The place of the copy of each letter of which one is sent."""
        copied = [(letter, copy) for letter, copy, _ in deeds if copy is not None]
        for _, copy in copied:
            sent.append(
                await self._producer.send(
                    self._cluster.commands,
                    copy.value,
                    key=copy.key,
                    partition=copy.partition,
                    headers=copy.headers,
                )
            )
        placed = await asyncio.gather(*sent)
        return {
            letter.ref: str(RecordRef.of(at))
            for (letter, _), at in zip(copied, placed, strict=True)
        }

    async def _send_action(self, letter: DeadLetterEntry, action: DeadLetterAction) -> Any:
        return await self._producer.send(
            self._cluster.ledger,
            schemas.encode(action),
            key=action.letter.encode(),
            partition=letter.partition,
        )


def _as_error(error: BaseException) -> DeadLettersError:
    """The error, for people."""
    # The client wraps what it did not expect in the middle of a transaction.
    if isinstance(error, IllegalOperation) or class_of(error) is ErrorClass.FENCED:
        return DeadLettersError(
            "someone else began to act on dead letters, and one does at a time. What was done is "
            "in the ledger: run it again, and what was done is left out"
        )
    return DeadLettersError(
        f"Kafka did not confirm it ({type(error).__name__}). The ledger knows what was done: "
        "run it again, and what was done is left out"
    )
