"""Refuses to start where the brokers would not let us do our work later on."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aiokafka.client import CoordinationType

from billing_stream.errors import AuthorizationError
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.consumers import asking
from billing_stream.kafka.error_classes import ACLS, REFUSALS
from billing_stream.kafka.start_deadline import StartDeadline


async def require_rights(
    options: Mapping[str, Any],
    group: str,
    transactional_ids: Sequence[str] = (),
    *,
    deadline: StartDeadline,
) -> None:
    """Raise AuthorizationError when the group or a transactional id is not allowed.

    Waits for their coordinators, which a new cluster makes when they are first asked for. Later,
    Faust would wait for its group without a word. Raises KafkaNotReady at the deadline, and
    KafkaError when no broker answers.
    """
    options = await deadline.retry("a broker", partial(answering, options))
    wanted = [(CoordinationType.GROUP, "group", group)]
    wanted += [(CoordinationType.TRANSACTION, "transactional id", i) for i in transactional_ids]
    async with asking(options, deadline) as client:
        for kind, what, name in wanted:
            try:
                await deadline.coordinator(client, kind, name)
            except REFUSALS:
                raise AuthorizationError(
                    f"Kafka does not allow it: {what} {name}: {ACLS}"
                ) from None
