"""Transactions: their protocol, and those that are open for longer than any of a worker."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import TopicPartition

from billing_stream.config.settings import Settings
from billing_stream.kafka.added_partitions import partition_counts
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.consumers import asking, consuming
from billing_stream.kafka.open_transactions import OpenTransaction, OpenTransactions
from billing_stream.kafka.transaction_protocol import PROTOCOL_2_LEVEL, transaction_version
from billing_stream.kafka.transaction_requests import FEATURE
from billing_stream.ops.doctor.finding import Finding, fail, ok, warn
from billing_stream.records.topics import Topics

CHECK = "open transactions"
# A worker's own transaction is over by then.
LOOK_AGAIN_SECONDS = 2.0
# Longer than that, no transaction of a worker stays open.
OWN_SECONDS_MAX = 60.0
NAMED_MAX = 5


async def check_open_transactions(settings: Settings) -> AsyncIterator[Finding]:
    """Which partitions of the app's topics are held back, since when, and what ends that."""
    options = await answering(client_options(settings))
    counts = await partition_counts(options, Topics(settings.app_id, settings.topic_prefix))
    tps = [TopicPartition(topic, n) for topic, count in counts.items() for n in range(count)]
    async with consuming(options) as committed, consuming(options, committed=False) as everything:
        seen = OpenTransactions()
        for _ in range(2):
            ends, stable = await everything.end_offsets(tps), await committed.end_offsets(tps)
            seen.note({tp: (stable[tp], ends[tp]) for tp in tps})
            found = seen.found()
            if not found:
                yield ok(CHECK, f"none in {len(tps)} partitions")
                return
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        found = seen.found(LOOK_AGAIN_SECONDS)
        if not found:
            yield ok(CHECK, f"none that lasts, in {len(tps)} partitions")
        for one in found[:NAMED_MAX]:
            yield await _finding(everything, one)


async def _finding(everything: Any, one: OpenTransaction) -> Finding:
    """Its age is that of its first record."""
    tp = TopicPartition(one.topic, one.partition)
    everything.assign([tp])
    everything.seek(tp, one.offset)
    read = await everything.getmany(tp, timeout_ms=2_000, max_records=1)
    began = [record.timestamp / 1000 for record in read.get(tp, ())]
    age = max(one.seconds, time.time() - began[0]) if began else one.seconds
    older = OpenTransaction(one.topic, one.partition, one.offset, one.held_back, age)
    return (fail if age > OWN_SECONDS_MAX else warn)(CHECK, str(older), one.action)


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
