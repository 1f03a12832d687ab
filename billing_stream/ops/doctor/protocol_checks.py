"""Which transaction protocol the cluster lets workers speak."""

from collections.abc import AsyncIterator

from billing_stream.config.settings import Settings
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.consumers import asking
from billing_stream.kafka.transaction_protocol import PROTOCOL_2_LEVEL, transaction_version
from billing_stream.kafka.transaction_requests import FEATURE
from billing_stream.ops.doctor.finding import Finding, ok


async def check_transactions(settings: Settings) -> AsyncIterator[Finding]:
    """The version of the protocol, and what it rests on."""
    async with asking(await answering(client_options(settings))) as client:
        level = await transaction_version(client)
    if level >= PROTOCOL_2_LEVEL:
        yield ok("transactions", f"protocol version 2: {FEATURE} is {level}")
    else:
        yield ok(
            "transactions",
            f"protocol version 1: {FEATURE} is {level}. With Kafka 4.0 or newer, "
            f"`kafka-features.sh upgrade --feature {FEATURE}=2` and a restart of the workers "
            "change that",
        )
