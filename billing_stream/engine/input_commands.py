"""What commands of operators, and logs that changed, do to the inputs of a partition."""

import logging
from typing import TYPE_CHECKING

from billing_stream.engine.input_logs import Changed, judge
from billing_stream.engine.input_names import is_added
from billing_stream.engine.input_rows import StopCause, StoppedInput
from billing_stream.records.operator_commands import AcceptTopic, InputCommand, SkipRecord
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord

if TYPE_CHECKING:
    from billing_stream.engine.partition_inputs import StagedInputs

logger = logging.getLogger(__name__)

# Codes of dead letters: of a record that an operator skipped, and of commands that are rejected.
SKIPPED = "SKIPPED"
WRONG_PARTITION = "WRONG_PARTITION"
NOT_STOPPED = "NOT_STOPPED"
TOPIC_CHANGED = "TOPIC_CHANGED"
NOTHING_TO_ACCEPT = "NOTHING_TO_ACCEPT"
NOT_THE_NEXT = "NOT_THE_NEXT"
NEXT_UNKNOWN = "NEXT_UNKNOWN"


def judge_logs(staged: "StagedInputs") -> None:
    """Compare positions with logs: stop an input, or adopt the id of its log."""
    inputs = staged.inputs
    for name, found in inputs.found.items():
        staged.judged.append(name)
        stop = staged.stop_of(name)
        if stop is not None and stop.changed:
            continue
        verdict = judge(inputs.positions.get(name), inputs.marks.get(name), found)
        if isinstance(verdict, Changed):
            staged.stopped[name] = StoppedInput(
                verdict.reason, staged.now, StopCause.TOPIC_CHANGED, verdict.resume, verdict.mark
            )
            staged.next_records[name] = None
            if inputs.is_read_on(name):
                staged.move(name, verdict.resume, verdict.mark)
        else:
            staged.move(name, verdict.position, verdict.mark)
            if verdict.moved is not None:
                where = staged.text(name)
                logger.warning("input %s is read on in another log: %s", where, verdict.moved)


def carry_out(staged: "StagedInputs", command: InputCommand, record: InputRecord) -> None:
    """Do what an operator's command says, or make a dead letter of it."""
    inputs = staged.inputs
    name = inputs.name_of(command.topic, command.partition)
    ref = RecordRef.of(record)
    if name is None:
        where = f"{command.topic}[{command.partition}]"
        _reject(staged, record, WRONG_PARTITION, f"{where} is not of partition {inputs.partition}")
        return
    rejection = _rejection(staged, command, name)
    if rejection is not None:
        _reject(staged, record, *rejection)
        return
    logger.info("%s: %s, asked for by %s", ref, type(command).__name__, command.by)
    following, stop = staged.next_of(name), staged.stop_of(name)
    if isinstance(command, AcceptTopic) and stop is None:
        staged.accepted[name] = ref
        return
    if isinstance(command, SkipRecord) and following is not None:
        reason = f"{SKIPPED}: skipped by {command.by} with {ref}: {command.reason}"
        staged.stage.divert(following, SKIPPED, reason)
        staged.order.note(name, staged.position(name), following.offset + 1)
        staged.reached[name] = following.offset + 1
        staged.note_last(name, following)
    else:
        staged.stopped[name] = None
    if inputs.is_read_on(name):
        return
    if isinstance(command, AcceptTopic) and stop is not None and stop.resume is not None:
        staged.move(name, stop.resume, stop.mark)
    staged.next_records[name] = None
    inputs.rewind(name)


def _reject(staged: "StagedInputs", record: InputRecord, code: str, text: str) -> None:
    staged.stage.divert(record, code, f"{code}: {text}")


def _rejection(staged: "StagedInputs", command: InputCommand, name: str) -> tuple[str, str] | None:
    """The code and the text of why a command is not carried out, or None."""
    where = f"{command.topic}[{command.partition}]"
    stopped = staged.stop_of(name)
    changed = stopped is not None and stopped.changed
    if isinstance(command, AcceptTopic):
        known = name in staged.inputs.accepted or name in staged.accepted
        if changed or (stopped is None and is_added(name) and not known):
            return None
        what = "is accepted already" if known else "has not changed"
        return NOTHING_TO_ACCEPT, f"the topic of {where} {what}"
    if stopped is None:
        return NOT_STOPPED, f"input {where} is not stopped"
    if changed:
        return TOPIC_CHANGED, f"the topic of {where} has changed: accept that first"
    if isinstance(command, SkipRecord):
        following = staged.next_of(name)
        if following is None:
            return NEXT_UNKNOWN, f"the next record of {where} is not read yet: try again"
        if following.offset != command.offset:
            return NOT_THE_NEXT, f"the next record of {where} is {following.offset}"
    return None
