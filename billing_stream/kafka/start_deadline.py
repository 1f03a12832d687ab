"""Waits at the start for a Kafka that answers and cannot do everything yet."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaConnectionError, KafkaError, UnknownTopicOrPartitionError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from billing_stream.errors import KafkaNotReady
from billing_stream.kafka.error_classes import ErrorClass, class_of

if TYPE_CHECKING:
    # The verifier reads with these clients, and loads nothing of the domain, as settings do.
    from billing_stream.config.settings import Settings

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WAIT_SECONDS_MIN = 0.1
WAIT_SECONDS_MAX = 1.0


class StartDeadline:
    """Retries requests until `seconds` after its creation, all of them together.

    `answered`: Kafka has answered before, so a refused connection is retried as well. Otherwise
    it is an error at once: probably the address is wrong.
    """

    def __init__(self, seconds: float, *, answered: bool = False) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._answered = answered

    @classmethod
    def of(cls, settings: "Settings") -> "StartDeadline":
        """The one that BILLING_START_DEADLINE sets, counted from now."""
        return cls(settings.start_deadline.total_seconds())

    async def retry(self, awaited: str, request: Callable[[], Awaitable[Result]]) -> Result:
        """The result of `request`, repeated while its error is one that can pass.

        `awaited` is for people. Raises KafkaNotReady at the deadline, and other errors at once.
        """
        last: BaseException | None = None

        # tenacity awaits what an `async def` returns, and nothing else.
        async def attempt() -> Result:
            return await request()

        def note(state: RetryCallState) -> None:
            nonlocal last
            error = state.outcome.exception() if state.outcome is not None else None
            if last is None:
                left = max(0.0, self._end - time.monotonic())
                logger.warning("waiting up to %.0f s for %s (%s)", left, awaited, error)
            self._answered = True
            last = error

        retrying = AsyncRetrying(
            retry=retry_if_exception(self._can_pass),
            wait=wait_random_exponential(multiplier=WAIT_SECONDS_MIN, max=WAIT_SECONDS_MAX),
            before_sleep=note,
            reraise=True,
        )
        scope = asyncio.timeout(max(0.0, self._end - time.monotonic()))
        try:
            async with scope:
                result: Result = await retrying(attempt)
        except TimeoutError:
            if not scope.expired():
                raise
            raise KafkaNotReady(awaited, self._seconds, last) from last
        self._answered = True
        return result

    async def coordinator(self, client: Any, kind: CoordinationType, name: str) -> int:
        """The node id of the coordinator of a group or transactional id."""
        what = "group" if kind is CoordinationType.GROUP else "transactional id"
        return await self.retry(
            f"the coordinator of {what} {name}", lambda: find_coordinator(client, kind, name)
        )

    def _can_pass(self, error: BaseException) -> bool:
        if isinstance(error, KafkaConnectionError) and not self._answered:
            return False
        # Kafka counts a missing topic among what can pass; it has to be created.
        missing = isinstance(error, UnknownTopicOrPartitionError)
        return not missing and class_of(error) is ErrorClass.RETRIABLE


async def find_coordinator(client: Any, kind: CoordinationType, name: str) -> int:
    """The node id, as one broker knows it now. Raises KafkaError."""
    try:
        node: int = await client.coordinator_lookup(kind, name)
    except KafkaError:
        # The node that was asked may be gone.
        await client.force_metadata_update()
        raise
    return node
