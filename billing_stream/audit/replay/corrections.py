"""Which adjustments of credits set right what a replay found, each once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.audit.replay.core.records import Difference
from billing_stream.audit.replay.credits import SIGNS, signed
from billing_stream.audit.replay.history_source import Source
from billing_stream.audit.replay.replay_report import Report
from billing_stream.domain.commands import ADJUSTMENT_MAX
from billing_stream.records import schemas, topics
from billing_stream.records.dead_letters import decode_letter
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import Topics

KEY = "backfill/"


class Correction(Struct, frozen=True, kw_only=True):
    """An adjustment by `credits` (signed) for an event that granted other credits than it should.

    `recorded` and `replayed` are the credits (signed) of the event, 0 where it is missing.
    `made` is what earlier corrections of this event add up to.
    """

    merchant_id: str
    event_id: str
    event_type: str
    recorded: int
    replayed: int
    made: int
    credits: int
    key: str
    reason: str


class SentCorrections(Struct):
    """Corrections of one event that were sent before, by their keys."""

    by_key: dict[str, int] = {}

    @property
    def total(self) -> int:
        """What they add up to."""
        return sum(self.by_key.values())


class Plan(Struct):
    """The commands to send, and the merchants and events for which nothing can be sent, and why."""

    corrections: list[Correction] = []
    done: int = 0
    left: list[str] = []


def plan(report: Report, made: Mapping[str, SentCorrections]) -> Plan:
    """The corrections that are still to be made; `made` is by the id of the event corrected."""
    found = Plan([], 0, [])
    unproved = set(report.unproved)
    for merchant_id in sorted(unproved & set(report.differing)):
        found.left.append(
            f"{merchant_id}: the order of its records is not proved; check it, and adjust manually"
        )
    for (merchant_id, event_id), wrong in sorted(_by_event(report.differences).items()):
        if merchant_id in unproved:
            continue
        correction = _correction(
            report, merchant_id, event_id, wrong, made.get(event_id, SentCorrections())
        )
        if correction.credits == 0:
            found.done += correction.made != 0
        elif abs(correction.credits) > ADJUSTMENT_MAX:
            found.left.append(f"{merchant_id}: {correction.credits} credits are more than one may")
        else:
            found.corrections.append(correction)
    return found


def _by_event(differences: Iterable[Difference]) -> dict[tuple[str, str], list[Difference]]:
    found: dict[tuple[str, str], list[Difference]] = defaultdict(list)
    for difference in differences:
        if difference.type in SIGNS and _deltas(difference) is not None:
            found[difference.merchant_id, difference.subject].append(difference)
    return found


def _deltas(found: Difference) -> tuple[int, int] | None:
    """The credits recorded and replayed, or None when it is not about credits."""
    if found.kind == "event missing":
        return signed(found.type, found.recorded), 0
    if found.kind == "event extra":
        return 0, signed(found.type, found.replayed)
    if found.kind == "event differs" and found.field == "credits":
        sign = SIGNS[found.type]
        return sign * int(found.recorded), sign * int(found.replayed)
    return None


def _correction(
    report: Report,
    merchant_id: str,
    event_id: str,
    wrong: Sequence[Difference],
    made: SentCorrections,
) -> Correction:
    recorded = replayed = 0
    for difference in wrong:
        was, now = _deltas(difference) or (0, 0)
        recorded, replayed = recorded + was, replayed + now
    event_type = wrong[0].type
    return Correction(
        merchant_id=merchant_id,
        event_id=event_id,
        event_type=event_type,
        recorded=recorded,
        replayed=replayed,
        made=made.total,
        credits=replayed - recorded - made.total,
        # The same at every attempt until one is made: however often it is sent, it counts once.
        key=f"{KEY}{event_id}/{len(made.by_key) + 1}",
        reason=(
            f"backfill: {event_type} {event_id} was {recorded:+} credits, by {report.code[:60]} "
            f"it is {replayed:+}"
        ),
    )


def uncorrected(report: Report) -> list[str]:
    """What else differs in events and dead letters, for which there is no correction."""
    counts: dict[str, int] = defaultdict(int)
    for difference in report.differences:
        about_credits = difference.type in SIGNS and _deltas(difference) is not None
        if not difference.kind.startswith("row") and not about_credits:
            field = f" {difference.field}" if difference.field else ""
            counts[f"{difference.kind}: {difference.type}{field}"] += 1
    return [f"{count:,} {what}" for what, count in sorted(counts.items())]


async def corrections_made(
    source: Source, names: Topics, partitions: Iterable[int]
) -> dict[str, SentCorrections]:
    """Corrections that were sent to these partitions and not refused, by event."""
    found: dict[str, SentCorrections] = defaultdict(lambda: SentCorrections({}))
    for partition in partitions:
        sent: dict[str, dict[str, Any]] = {}
        refused: set[str] = set()
        read = [names.name(topics.COMMANDS), names.name(topics.DEAD_LETTERS)]
        async for records in source.read(read, partition):
            for record in records:
                if KEY.encode() not in (record.value or b"") and record.topic == read[0]:
                    continue
                if record.topic == read[1]:
                    refused.add(str(RecordRef.of(decode_letter(record.value or b""))))
                    continue
                data = _adjustment(record.value)
                if data is not None:
                    ref_text = str(RecordRef.of(record))
                    sent[ref_text] = data
        for ref_text, data in sent.items():
            if ref_text not in refused:
                event_id = data["idempotency_key"].removeprefix(KEY).partition("/")[0]
                found[event_id].by_key[data["idempotency_key"]] = data["credits"]
    return found


def _adjustment(value: bytes | None) -> dict[str, Any] | None:
    try:
        data = msgspec.json.decode(schemas.payload_of(value or b""))
    except msgspec.DecodeError:
        return None
    if not isinstance(data, dict) or data.get("command") != "adjust_credits":
        return None
    key, credits = data.get("idempotency_key"), data.get("credits")
    if not isinstance(key, str) or not key.startswith(KEY) or not isinstance(credits, int):
        return None
    return data
