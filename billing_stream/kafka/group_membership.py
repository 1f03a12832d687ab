"""Notices when a process cannot be a member of its consumer group: the client waits in silence."""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from aiokafka.errors import BrokerResponseError, KafkaError, RequestTimedOutError, kafka_errors
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from billing_stream.errors import GroupRefused
from billing_stream.kafka.error_classes import ACLS, ErrorClass, class_of, class_of_code

OnLost = Callable[[BaseException], None]
"""Takes the error that ended the membership: GroupRefused, or an unexpected one."""

_REQUESTS = (JoinGroupRequest, SyncGroupRequest, HeartbeatRequest)
_RETRY_SECONDS = 0.1
# Codes for which the client has no name.
_NAMES = MappingProxyType({81: "GROUP_MAX_SIZE_REACHED", 82: "FENCED_INSTANCE_ID"})
_ADVICE: Mapping[int, str] = MappingProxyType(
    {
        23: "members of another application, or of another release, are in it",
        26: "BILLING_SESSION_TIMEOUT must be within group.min.session.timeout.ms and "
        "group.max.session.timeout.ms of the brokers",
        30: ACLS,
        81: "it has as many members as group.max.size of the brokers allows",
        82: "another worker has the same BILLING_WORKER_NAME, host and port",
    }
)


def refused(group: str, code: int) -> GroupRefused:
    """The error for an answer with this code."""
    known = kafka_errors.get(code)
    name = _NAMES.get(code) or (known.message if known else f"error {code}")
    advice = _ADVICE.get(code, "`billing-stream docs kafka-errors` says what it means")
    return GroupRefused(
        f"the consumer group {group} does not accept this process ({name}): {advice}"
    )


def refusal_of(group: str, error: BaseException) -> GroupRefused | None:
    """The same for an error of the client; None without an answer, or for one that can pass."""
    if isinstance(error, BrokerResponseError) and class_of(error) is not ErrorClass.RETRIABLE:
        return refused(group, error.errno)
    return None


def watch_membership(consumer: Any, on_lost: OnLost) -> None:
    """Call `on_lost`, perhaps more than once, when the membership has ended and does not come back.

    After an error that can pass it joins again. A heartbeat without an answer for half of the
    session is given up, and the coordinator looked for again: a broker that hangs must not use up
    the session. `consumer` is an aiokafka consumer with a group, that has started.
    """
    coordinator = consumer._coordinator
    heartbeat_seconds = coordinator._session_timeout_ms / 2000
    send, push = coordinator._send_req, coordinator._push_error_to_user

    async def send_req(request: Any) -> Any:
        if isinstance(request, HeartbeatRequest):
            response = await heartbeat(request)
        else:
            response = await send(request)
        if isinstance(request, _REQUESTS):
            code: int = response.error_code
            if code and class_of_code(code) is not ErrorClass.RETRIABLE:
                on_lost(refused(coordinator.group_id, code))
        return response

    async def heartbeat(request: HeartbeatRequest) -> Any:
        try:
            async with asyncio.timeout(heartbeat_seconds):
                return await send(request)
        except TimeoutError:
            coordinator.coordinator_dead()
            raise RequestTimedOutError from None

    async def push_error(error: KafkaError) -> None:
        if class_of(error) is ErrorClass.RETRIABLE:
            coordinator.request_rejoin()
            await asyncio.sleep(_RETRY_SECONDS)
            return
        on_lost(refusal_of(coordinator.group_id, error) or error)
        await push(error)

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_lost(error)

    coordinator._send_req = send_req
    coordinator._push_error_to_user = push_error
    coordinator._coordination_task.add_done_callback(ended)
