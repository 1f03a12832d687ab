"""Connections to brokers, and which of the given ones answers."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import errors as kafka
from aiokafka.conn import create_conn

TRY_SECONDS = 5.0


async def answering(options: Mapping[str, Any]) -> dict[str, Any]:
    """These client options, with a broker that answers as the only one to start from.

    A client tries them in random order, and waits for each that accepts and does not answer as
    long as for any request. It learns of the others from the first. Raises KafkaConnectionError
    when none answers within 5 seconds.
    """
    servers = options["bootstrap_servers"]
    names: list[str] = servers.split(",") if isinstance(servers, str) else list(servers)
    first = await _first_of(names, options)
    if first is None:
        raise kafka.KafkaConnectionError(f"none of {', '.join(names)} answers")
    return {**options, "bootstrap_servers": [first]}


async def _first_of(servers: Iterable[str], options: Mapping[str, Any]) -> str | None:
    tries = {asyncio.create_task(_connected(server, options)): server for server in servers}
    waiting = set(tries)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                if one.exception() is None:
                    return tries[one]
        return None
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*tries, return_exceptions=True)


async def _connected(server: str, options: Mapping[str, Any]) -> None:
    (await connect(server, options)).close()


def failure_text(error: BaseException) -> str:
    """Why a connection failed, for people."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TRY_SECONDS:g} s"
    if isinstance(error, OSError) and (error.errno or 0) > 0:
        # The event loops word them in their own ways, with addresses.
        return os.strerror(error.errno or 0)
    if isinstance(error, kafka.KafkaConnectionError):
        return "it closes the connection"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def connect(server: str, options: Mapping[str, Any]) -> Any:
    """A connection to the broker at host:port, by the security of these client options.

    Raises the error of the connection; TimeoutError after 5 seconds. An answer may take as long.
    """
    security = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    host, _, port = server.rpartition(":")
    async with asyncio.timeout(TRY_SECONDS):
        return await create_conn(
            host, int(port), request_timeout_ms=int(TRY_SECONDS * 1000), **security
        )
