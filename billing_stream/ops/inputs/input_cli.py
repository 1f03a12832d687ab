"""`billing-stream inputs`."""

import asyncio
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.settings import Settings
from billing_stream.console.help import EXIT_WRONG, help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, Duration, json_option, whoami
from billing_stream.console.output import say, say_json_lines
from billing_stream.console.progress import waiting
from billing_stream.console.quiet import quiet_logs
from billing_stream.console.record_argument import Reference
from billing_stream.console.tables import table_lines
from billing_stream.engine.input_commands import NEXT_UNKNOWN
from billing_stream.engine.input_rows import StoppedInput
from billing_stream.kafka.added_partitions import partition_counts
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import check_before_start
from billing_stream.observability.audit_log import audited_command
from billing_stream.ops.dead_letters.dead_letter_options import progress_bar
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.inputs.changelog_accepting import accept_changelogs
from billing_stream.ops.inputs.input_commands import Outcome, request
from billing_stream.ops.inputs.input_states import (
    InputState,
    InputStates,
    changed_changelogs,
    input_rows,
    input_states,
)
from billing_stream.records import topics as names
from billing_stream.records.operator_commands import (
    AcceptTopic,
    InputCommand,
    ResumeInput,
    SkipRecord,
)
from billing_stream.records.record_ref import RecordRef

EXIT_NOT_DONE = 1
EXITS = {0: "done", 1: "rejected, or not decided in time", 2: EXIT_WRONG}
Command = Callable[..., Any]

ASK_AGAIN_SECONDS = 1.0


def acting(command: Command) -> Command:
    """The options of commands that a lane decides."""
    for option in (
        click.option(
            "--wait", type=Duration(), default="60s", show_default=True, help="For the outcome."
        ),
        click.option("--by", default=whoami, show_default="user@host", help="Who decides it."),
        click.option("--reason", required=True, help="Why; kept with the command permanently."),
    ):
        command = option(command)
    return command


@click.group(
    epilog=help_epilog(
        EXITS,
        "billing-stream inputs list",
        'billing-stream inputs resume evt.merchant.created.v1 3 --reason "fixed"',
    )
)
def inputs() -> None:
    """List the inputs, and resume those that are stopped.

    An input is one partition of an input topic. It stops when too many of its records are
    invalid (BILLING_POISON_IN_A_ROW, BILLING_POISON_PERCENT), or its records are not those that
    were read (deleted, created again, truncated), and stays stopped through restarts.
    Its records wait in Kafka; other inputs, requests and timers continue. Commands are written to
    billing.operator-commands.v1, and the worker that owns the partition carries them out.
    """
    # What it says of errors comes to people as one message of ours.
    quiet_logs("aiokafka", "asyncio")


@inputs.command(
    "list",
    epilog=help_epilog(
        {0: "listed", 2: EXIT_WRONG},
        "billing-stream inputs list",
        "billing-stream inputs list --json | jq 'select(.state == \"stopped\")'",
    ),
)
@json_option("A JSON object on each line")
def list_inputs(json_to: Path | None) -> None:
    """List all inputs: position, records left, and why one is stopped. Read-only."""
    states = _states(Cluster.of(BackgroundSettings.from_env()))
    found = states.inputs
    if json_to is not None:
        say_json_lines(map(_as_json, found), json_to)
    if json_to == STANDARD_OUTPUT:
        return
    rows = [
        (
            one.name,
            "stopped" if one.stopped is not None else "processed",
            f"{one.position:,}",
            f"{max(0, one.end - one.position):,}",
        )
        for one in found
    ]
    heads = ("INPUT", "STATE", "POSITION", "LAG")
    for line in table_lines(heads, rows, right=heads[2:]):
        say(line)
    for one in found:
        if one.stopped is not None:
            say()
            for line in _stopped(one, one.stopped):
                say(line)
    for tp in states.added:
        say()
        say(f"{tp.topic}[{tp.partition}] was added after the topic was created")
        say(f'  billing-stream inputs accept {tp.topic} {tp.partition} --reason "..."')


@inputs.command(
    epilog=help_epilog(
        EXITS, 'billing-stream inputs resume evt.merchant.created.v1 3 --reason "fixed"'
    )
)
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@acting
def resume(topic: str, partition: int, reason: str, by: str, wait: timedelta) -> None:
    """Resume a stopped input: reading continues with its next record.

    The count of invalid records begins at 0; above a limit the input stops again.
    """
    settings, cluster = _started()
    input_topic = _input(cluster, topic, partition)
    outcome = _request(settings, cluster, ResumeInput(input_topic, partition, by, reason), wait)
    _finish([outcome], f"input {input_topic}[{partition}] is resumed")


@inputs.command(
    epilog=help_epilog(
        EXITS, "billing-stream inputs skip 'evt.merchant.created.v1[3]@1204' --reason fixed"
    )
)
@click.argument("record", type=Reference())
@acting
def skip(record: RecordRef, reason: str, by: str, wait: timedelta) -> None:
    """Skip one RECORD, TOPIC[PARTITION]@OFFSET: the next one of a stopped input.

    It becomes a dead letter with the reason, so it can be redriven. The input stays stopped: skip
    its next record, or resume it.
    """
    settings, cluster = _started()
    topic = _input(cluster, record.topic, record.partition)
    command = SkipRecord(topic, record.partition, by, reason, offset=record.offset)
    outcome = _request(settings, cluster, command, wait)
    _finish([outcome], f"{record} is skipped, and a dead letter; its input stays stopped")


@inputs.command(
    epilog=help_epilog(
        {**EXITS, 0: "done, or there was nothing to accept"},
        'billing-stream inputs accept --reason "restored"',
        'billing-stream inputs accept evt.merchant.created.v1 3 --reason "restored"',
    )
)
@click.argument("topic", required=False)
@click.argument("partition", type=click.IntRange(0), required=False)
@acting
def accept(topic: str | None, partition: int | None, reason: str, by: str, wait: timedelta) -> None:
    """Accept that topics have changed: records were lost, or a topic was created again.

    Of the input that is named, or of all inputs that are stopped for it. Reading continues at the
    offset that `billing-stream inputs list` names. Also that a partition was added to a topic, of
    whatever topic of the app: the warning of it ends. Workers read it before, too, and forward its
    records.
    """
    settings, cluster = _started()
    wanted = None
    if topic is not None:
        if partition is None:
            raise click.UsageError("name the partition too, or nothing at all")
        wanted = cluster.topics.name(cluster.topics.base(topic)), partition
    states = _states(cluster)
    changed = [
        (one.topic, one.partition)
        for one in states.inputs
        if one.stopped is not None and one.stopped.changed
    ]
    changed += [(tp.topic, tp.partition) for tp in states.added]
    if wanted is not None:
        changed = [one for one in changed if one == wanted]
    if not changed:
        say(
            "nothing to accept: no such input is stopped because its topic has changed, and no "
            "such partition was added"
        )
        return
    _finish(
        [_request(settings, cluster, AcceptTopic(*one, by, reason), wait) for one in changed],
        "accepted: " + ", ".join(f"{topic}[{number}]" for topic, number in changed),
    )


@inputs.command(
    "accept-changelog",
    epilog=help_epilog(
        {0: "done, or there was nothing to accept", 2: EXIT_WRONG},
        'billing-stream inputs accept-changelog shops --reason "no backup"',
    ),
)
@click.argument("table", type=click.Choice(sorted({*names.TABLES} - {names.BILLING_RECORDS})))
@click.option("--by", default=whoami, show_default="user@host", help="Who decides it.")
@click.option("--reason", required=True, help="Why; kept in the changelogs.")
def accept_changelog(table: str, reason: str, by: str) -> None:
    """Accept that the changelog of TABLE was created again, and its rows are gone.

    Partitions do not start with such a changelog: workers can repeat what its rows would have
    prevented. Restore a backup instead, if one exists, and restart the workers afterwards. Needs
    the rights of a worker. The changelog of billing_records cannot be accepted: the positions are
    in it.
    """
    settings, cluster = _started()
    changelogs = {each: cluster.topics.changelog(each) for each in names.TABLES}
    with progress_bar("reading") as progress:
        rows = dict(enumerate(asyncio.run(input_rows(cluster, progress))))
    lost = asyncio.run(changed_changelogs(cluster.options, changelogs, rows))
    if table not in lost:
        say(f"nothing to accept: {changelogs[table]} is the one that workers restored")
        return
    if lost != [table]:
        raise click.UsageError(
            f"others were created again too: {', '.join(lost)}. Restore a backup"
        )
    accepting = accept_changelogs(
        cluster, changelogs, by=by, reason=reason, deadline=StartDeadline.of(settings)
    )
    with audited_command(settings, "accept_changelog", by, changelog=changelogs[table]):
        asyncio.run(accepting)
    say(f"accepted: {changelogs[table]}. Now restart the workers")


def _started() -> tuple[Settings, Cluster]:
    settings = BackgroundSettings.from_env()
    # On other partitions than the topics have, no worker would find a command.
    asyncio.run(check_before_start(settings))
    return settings, Cluster.of(settings)


def _states(cluster: Cluster) -> InputStates:
    with progress_bar("reading") as progress:
        return asyncio.run(input_states(cluster, progress))


def _input(cluster: Cluster, topic: str, partition: int) -> str:
    """The full name of an input topic that can be stopped; it may be given without the prefix."""
    base = cluster.topics.base(topic)
    if base not in names.OF_MERCHANTS:
        known = ", ".join(names.OF_MERCHANTS)
        raise click.UsageError(f"{topic!r} is not an input that can be stopped; those are: {known}")
    name = cluster.topics.name(base)
    counts = asyncio.run(partition_counts(cluster.options, cluster.topics))
    count = counts.get(name, cluster.partitions)
    if partition >= count:
        raise click.UsageError(f"{topic} has the partitions 0 to {count - 1}")
    return name


def _request(
    settings: Settings, cluster: Cluster, command: InputCommand, wait: timedelta
) -> Outcome:
    if not (0 < len(command.by) <= 255 and 0 < len(command.reason) <= 255):
        raise click.UsageError("--by and --reason are texts of 1 to 255 characters")
    end = time.monotonic() + wait.total_seconds()

    async def asked() -> Outcome:
        """Again, until the worker has read the next record: after its start that takes a moment."""
        while True:
            left, deadline = end - time.monotonic(), StartDeadline.of(settings)
            outcome = await request(cluster, command, seconds_max=left, deadline=deadline)
            unread = (outcome.rejected or "").startswith(NEXT_UNKNOWN)
            if not unread or time.monotonic() + ASK_AGAIN_SECONDS > end:
                return outcome
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    about = f"{command.topic}[{command.partition}]"
    action = str(command.__struct_config__.tag)
    with (
        audited_command(settings, action, command.by, input=about) as said,
        waiting("waiting for the worker that owns the partition"),
    ):
        outcome = asyncio.run(asked())
        said |= {"outcome": _outcome_of(outcome), "record": outcome.ref}
        return outcome


def _outcome_of(outcome: Outcome) -> str:
    if not outcome.decided:
        return "waiting"
    return "done" if outcome.rejected is None else "refused"


def _finish(outcomes: Iterable[Outcome], done: str) -> None:
    found = list(outcomes)
    for one in found:
        if not one.decided:
            say(
                f"not decided yet: {one.ref} waits for the worker that owns its partition. Is one "
                "running? `billing-stream inputs list` shows the state",
                err=True,
            )
        elif one.rejected is not None:
            say(f"rejected: {one.rejected} ({one.ref} is a dead letter)", err=True)
    if any(not one.decided or one.rejected is not None for one in found):
        sys.exit(EXIT_NOT_DONE)
    say(f"{done} ({', '.join(one.ref for one in found)})")


def _stopped(one: InputState, stop: StoppedInput) -> Iterable[str]:
    yield f"{one.name} is stopped since {stop.at:%Y-%m-%d %H:%M:%S}Z: {stop.reason}"
    if stop.changed:
        yield f'  billing-stream inputs accept {one.topic} {one.partition} --reason "..."'
        return
    yield f'  billing-stream inputs resume {one.topic} {one.partition} --reason "..."'
    if one.next_offset is not None:
        ref = shlex.quote(str(RecordRef(one.topic, one.partition, one.next_offset)))
        yield f'  billing-stream inputs skip {ref} --reason "..."'


def _as_json(one: InputState) -> dict[str, Any]:
    found: dict[str, Any] = {
        "topic": one.topic,
        "partition": one.partition,
        "state": "stopped" if one.stopped is not None else "processed",
        "position": one.position,
        "end": one.end,
    }
    if one.stopped is not None:
        found |= {
            "reason": one.stopped.reason,
            "cause": one.stopped.cause,
            "since": one.stopped.at.isoformat(),
            "next_offset": one.next_offset,
        }
    return found
