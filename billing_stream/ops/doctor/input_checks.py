"""Whether the logs of the inputs are those that the positions are of."""

import asyncio
from collections.abc import AsyncIterator

from billing_stream.config.settings import Settings
from billing_stream.engine.input_names import input_of
from billing_stream.kafka.answering_broker import answering
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.doctor.finding import Finding, fail, ok, warn
from billing_stream.ops.inputs.input_states import changed_changelogs, changed_inputs, input_rows
from billing_stream.records import topics as names

CHECK = "inputs"
# To read all rows: with many, `inputs list` and the workers say it.
READ_SECONDS_MAX = 6.0


async def check_inputs(settings: Settings) -> AsyncIterator[Finding]:
    """Name each input of which records are missing or replaced, and which is stopped."""
    cluster = Cluster.of(settings)
    try:
        async with asyncio.timeout(READ_SECONDS_MAX):
            rows = dict(enumerate(await input_rows(cluster)))
    except TimeoutError:
        yield warn(
            CHECK,
            f"the positions are among more rows than can be read in {READ_SECONDS_MAX:g} s",
            "look at `billing-stream inputs list`, and at /ready of the workers",
        )
        return
    options = await answering(cluster.options)
    changelogs = {table: cluster.topics.changelog(table) for table in names.TABLES}
    lost = await changed_changelogs(options, changelogs, rows)
    for table in lost:
        yield fail(
            CHECK,
            f"{changelogs[table]} was deleted and created again: it lacks rows",
            "see `billing-stream docs restore`",
        )
    changed = await changed_inputs(options, rows)
    for tp, reason in sorted(changed.items()):
        yield fail(
            CHECK,
            f"{tp.topic}[{tp.partition}]: {reason}",
            f"find out what happened, then: billing-stream inputs accept {tp.topic} "
            f"{tp.partition} --reason ... (`billing-stream docs runbooks`)",
        )
    stopped: dict[str, list[str]] = {}
    for lane, inputs in rows.items():
        for name, stop in sorted(inputs.stopped.items()):
            topic, partition = input_of(name, lane)
            if not stop.changed:
                stopped.setdefault(stop.reason, []).append(f"{topic}[{partition}]")
    for reason, some in stopped.items():
        message = f"stopped: {', '.join(some)}: {reason}"
        yield warn(CHECK, message, "billing-stream inputs list")
    if not (changed or stopped or lost):
        yield ok(CHECK, "none is stopped, and their logs are those that were read")
