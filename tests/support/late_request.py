"""A request that the network holds back: its sender sees a reset, and it arrives later."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaConnectionError

PRODUCE, INIT_PRODUCER_ID, ADD_PARTITIONS, END_TXN = 0, 22, 24, 26


class LateRequest:
    """The next request of one kind that this producer sends.

    With `arrives` it reaches the broker at once and only its answer is lost: what is delivered
    later is a copy, as a proxy or a switch can make one.
    """

    def __init__(self, producer: Any, api_key: int, *, nth: int = 1, arrives: bool = False) -> None:
        self._left = nth
        self._api_key = api_key
        self._arrives = arrives
        self._client = producer.client
        self._send: Callable[..., Any] = producer.client.send
        self._held: tuple[int, Any] | None = None
        self._happened = asyncio.Event()
        producer.client.send = self._instead

    @property
    def held(self) -> bool:
        """Whether there was such a request."""
        return self._held is not None

    async def wait_held(self) -> None:
        """Wait until its sender sees the reset."""
        await self._happened.wait()

    async def deliver(self) -> Any:
        """Have it arrive now; the broker's answer, which nobody waits for any more."""
        assert self._held is not None, "there was no such request"
        node, request = self._held
        return await self._send(node, request)

    async def _instead(self, node: int, request: Any, **options: Any) -> Any:
        if self._held is None and self._api_key == request.API_KEY:
            self._left -= 1
            if self._left == 0:
                self._held = (node, request)
                if self._arrives:
                    await self._send(node, request, **options)
                self._happened.set()
                raise KafkaConnectionError("the connection was reset")
        return await self._send(node, request, **options)
