"""What can be done with dead letters: redrive or discard them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from msgspec import Struct

from billing_stream.engine.crash_points import CrashHook, no_crash
from billing_stream.kafka.committed_log import Progress
from billing_stream.ops.dead_letters.action_log import ActionLog, State, read_ledger
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.entries import DeadLetterEntry
from billing_stream.ops.dead_letters.operator import Deed, Operator
from billing_stream.ops.dead_letters.redrive_records import NotRedrivable, RedriveRecord, copy_of
from billing_stream.records.dead_letters import DeadLetterAction

# In one transaction: the lanes do not see the copies before it is committed.
LETTERS_AT_ONCE = 100
BYTES_AT_ONCE = 4 << 20
TEXT_MAX = 255


class ActionResult(Struct, frozen=True):
    """What became of one letter.

    `action` is its entry in the action log, None when nothing was done: for a dry run, or
    because of `refused`. `what` says what a copy asks for.
    """

    letter: DeadLetterEntry
    action: DeadLetterAction | None = None
    refused: str | None = None
    what: str = ""


class _Asked(Struct, frozen=True, kw_only=True):
    action: State
    by: str
    reason: str
    value: bytes | None = None
    again: bool = False
    force: bool = False


async def redrive(
    cluster: Cluster,
    letters: Sequence[DeadLetterEntry],
    *,
    by: str,
    reason: str,
    value: bytes | None = None,
    again: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    stop: asyncio.Event | None = None,
    crash_hook: CrashHook = no_crash,
) -> list[ActionResult]:
    """Send letters again, each once; those that cannot be are refused, and the rest is sent.

    `value` takes the reference of the value of a single letter. A letter that was redriven or
    discarded before is refused unless `again`; even then only one copy of it is carried out.
    `force` sends invalid ones, too. After `stop` no more is begun: what has no outcome
    is untouched. Raises DeadLettersError, and then the ledger says what was done; ValueError
    for a `by` or `reason` that is empty or too long.
    """
    if value is not None and len(letters) != 1:
        raise ValueError("a value can be given for one letter only")
    asked = _Asked(
        action=State.REDRIVEN, by=by, reason=reason, value=value, again=again, force=force
    )
    return await _act(cluster, letters, asked, dry_run, progress, stop, crash_hook)


async def discard(
    cluster: Cluster,
    letters: Sequence[DeadLetterEntry],
    *,
    by: str,
    reason: str,
    dry_run: bool = False,
    progress: Progress | None = None,
    stop: asyncio.Event | None = None,
    crash_hook: CrashHook = no_crash,
) -> list[ActionResult]:
    """Note that nothing is to be done with letters. They stay where they are. As `redrive`."""
    asked = _Asked(action=State.DISCARDED, by=by, reason=reason)
    return await _act(cluster, letters, asked, dry_run, progress, stop, crash_hook)


async def _act(
    cluster: Cluster,
    letters: Sequence[DeadLetterEntry],
    asked: _Asked,
    dry_run: bool,
    progress: Progress | None,
    stop: asyncio.Event | None,
    crash_hook: CrashHook,
) -> list[ActionResult]:
    if not (0 < len(asked.by) <= TEXT_MAX and 0 < len(asked.reason) <= TEXT_MAX):
        raise ValueError(f"by and reason are texts of 1 to {TEXT_MAX} characters")
    letters = list({letter.ref: letter for letter in letters}.values())
    outcomes: list[ActionResult] = []
    async with _ledger(cluster, dry_run, crash_hook) as (ledger, operator):
        for chunk in _chunks(letters):
            if stop is not None and stop.is_set():
                break
            planned: list[tuple[DeadLetterEntry, RedriveRecord | None]] = []
            for letter in chunk:
                refused, copy = await _plan(cluster, ledger, letter, asked)
                if refused is not None:
                    outcomes.append(ActionResult(letter, refused=refused))
                else:
                    planned.append((letter, copy))
            outcomes += await _carry_out(planned, asked, operator)
            if progress is not None:
                progress(len(outcomes), len(letters))
    return outcomes


@asynccontextmanager
async def _ledger(
    cluster: Cluster, dry_run: bool, crash_hook: CrashHook
) -> AsyncIterator[tuple[ActionLog, Operator | None]]:
    if dry_run:
        yield await read_ledger(cluster), None
        return
    async with Operator(cluster, crash_hook) as operator:
        yield operator.ledger, operator


def _chunks(letters: Sequence[DeadLetterEntry]) -> list[list[DeadLetterEntry]]:
    chunks: list[list[DeadLetterEntry]] = [[]]
    size = 0
    for letter in letters:
        size += len(letter.record.value or b"")
        if len(chunks[-1]) >= LETTERS_AT_ONCE or (chunks[-1] and size > BYTES_AT_ONCE):
            chunks.append([])
            size = len(letter.record.value or b"")
        chunks[-1].append(letter)
    return chunks


async def _plan(
    cluster: Cluster, ledger: ActionLog, letter: DeadLetterEntry, asked: _Asked
) -> tuple[str | None, RedriveRecord | None]:
    history = ledger.history(letter.ref)
    if history and not asked.again:
        last = history[-1]
        return f"was {last.action} by {last.by} at {last.at:%Y-%m-%d %H:%M:%S}Z", None
    if asked.action is State.DISCARDED:
        return None, None
    try:
        return None, await copy_of(cluster, letter, value=asked.value, force=asked.force)
    except NotRedrivable as unfit:
        return str(unfit), None


async def _carry_out(
    planned: Sequence[tuple[DeadLetterEntry, RedriveRecord | None]],
    asked: _Asked,
    operator: Operator | None,
) -> list[ActionResult]:
    said = [copy.what if copy is not None else "" for _, copy in planned]
    if operator is None or not planned:
        return [
            ActionResult(letter, what=what) for (letter, _), what in zip(planned, said, strict=True)
        ]
    now = datetime.now(UTC)
    deeds: list[Deed] = [
        (
            letter,
            copy,
            DeadLetterAction(
                letter=letter.ref,
                action="redriven" if copy is not None else "discarded",
                by=asked.by,
                at=now,
                reason=asked.reason,
                edited=asked.value is not None,
                again=asked.again and bool(operator.ledger.history(letter.ref)),
            ),
        )
        for letter, copy in planned
    ]
    done = await operator.commit(deeds)
    return [
        ActionResult(letter, action, what=what)
        for (letter, _), action, what in zip(planned, done, said, strict=True)
    ]
