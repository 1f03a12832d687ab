"""The whole verification: read, check what holds in any order, replay, compare."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from billing_stream.audit.verify.catalogue_versions import check_catalogue
from billing_stream.audit.verify.changed_logs import find_changed
from billing_stream.audit.verify.check_shop_trials import check_claims
from billing_stream.audit.verify.checks import check_all
from billing_stream.audit.verify.facts import Facts, History
from billing_stream.audit.verify.log_reading import Reader
from billing_stream.audit.verify.log_records import duration_us, moment_text
from billing_stream.audit.verify.log_source import KafkaSource, Progress, Source, VerifyError
from billing_stream.audit.verify.model_state import Catalogue, Rules
from billing_stream.audit.verify.order_replay import Verdict, check_order, replay
from billing_stream.audit.verify.projected_rows import check_projection
from billing_stream.audit.verify.trial_checks import runs
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics

MERCHANTS_AT_ONCE = 200


async def verify(
    options: Mapping[str, Any],
    topics: Topics,
    partitions: int,
    catalogue: Catalogue,
    *,
    allow_lag: bool = False,
    trial_duration: timedelta = timedelta(days=14),
    trial_reminder: timedelta = timedelta(days=3),
    purchase_expiry: timedelta = timedelta(hours=24),
    early_webhook_expiry: timedelta | None = None,
    early_webhooks_max: int = 100,
    stored_responses_max: int = 1000,
    max_record_bytes: int = 262_144,
    test_clock: bool = False,
    database_url: str | None = None,
    schema: str = "public",
    merchant: str | None = None,
    max_examples: int = 10,
    progress: Progress | None = None,
) -> Report:
    """Verify the committed records of a cluster; `options` are those of an aiokafka client.

    With `allow_lag`, while workers run: only what they have read by now is judged. With
    `merchant`, only this one, and the report has its history. Raises VerifyError, or aiokafka's
    KafkaConnectionError, when it cannot read.
    """
    rules = Rules(
        catalogue=catalogue,
        trial_us=duration_us(trial_duration),
        reminder_us=duration_us(trial_reminder),
        expiry_us=duration_us(purchase_expiry),
        early_us=duration_us(early_webhook_expiry) if early_webhook_expiry else None,
        parked_max=early_webhooks_max,
        keys_max=stored_responses_max,
        record_bytes_max=max_record_bytes,
        test_clock=test_clock,
    )
    return await verify_source(
        KafkaSource(options, partitions, progress),
        topics,
        partitions,
        rules,
        look=partial(find_changed, options),
        allow_lag=allow_lag,
        database_url=database_url,
        schema=schema,
        merchant=merchant,
        max_examples=max_examples,
        progress=progress,
    )


async def verify_source(
    source: Source,
    topics: Topics,
    partitions: int,
    rules: Rules,
    *,
    look: Callable[[History], Awaitable[None]] | None = None,
    allow_lag: bool = False,
    database_url: str | None = None,
    schema: str = "public",
    merchant: str | None = None,
    max_examples: int = 10,
    progress: Progress | None = None,
) -> Report:
    """As `verify`, of any log. `look` compares its inputs with their logs."""
    began = time.monotonic()
    report = Report(max_examples)
    only = merchant.lower() if merchant is not None else None
    history = History(topics, partitions, allow_lag, only is not None)
    reader = Reader(history, rules, only)
    for stage in reader.stages(topics):
        async for records in source.read(stage):
            for record in records:
                reader.take(record)
    reader.finish()
    if look is not None:
        await look(history)
    _note_what_is_gone(source, history, report)
    if only is not None and only not in history.merchants:
        raise VerifyError(f"the log knows nothing of merchant {only}: is that its id, a uuid?")
    check_all(history, rules, report)
    check_order(history, report)
    whole = not (history.incomplete or allow_lag)
    commands = topics.name(names.OPERATOR_COMMANDS)
    others = {p: commands for p in range(1, partitions) if (commands, p) not in history.unread}
    check_catalogue(history.catalogue, report, history.letters, others, whole=whole)
    await _replay_all(history, rules, report, progress)
    _note_overdue(history, report)
    await check_projection(history, report, database_url, only, schema)
    report.records = history.counted["records"]
    report.seconds = time.monotonic() - began
    return report


def _note_what_is_gone(source: Source, history: History, report: Report) -> None:
    needed = {*history.topics.inputs(), history.topics.name(names.JOURNAL)}
    # Compacted, so nothing needs its whole history.
    needed.discard(history.topics.name(names.CHARGES))
    needed |= {history.topics.name(names.event_type(kind)) for kind in names.EVENT_TYPES}
    for topic, partition in source.begins_late():
        history.cut.add(topic)
        if topic in needed:
            history.incomplete.add(partition)
            report.notes.append(
                f"{topic}[{partition}] has lost its oldest records: what needs the whole "
                f"history is not judged for partition {partition}"
            )


async def _replay_all(
    history: History, rules: Rules, report: Report, progress: Progress | None
) -> None:
    merchants = unproved = 0
    for number, facts in enumerate(history.merchants.values(), 1):
        if number % MERCHANTS_AT_ONCE == 0:
            await asyncio.sleep(0)
            if progress is not None:
                progress("replayed", number, len(history.merchants))
        if facts.partition in history.incomplete:
            continue
        verdict = replay(history, rules, facts)
        if history.only:
            report.history = list(_history_lines(facts, verdict))
        if verdict.unproved:
            merchants, unproved = merchants + 1, unproved + verdict.unproved
            continue
        report.count("order")
        report.count("tables")
        if verdict.fault is None:
            check_claims(history, facts, verdict.claims, report)
        if verdict.fault is not None:
            report.fault(
                "order",
                verdict.fault,
                verdict.ref,
                event_id=verdict.event_id,
                merchant=facts.merchant,
            )
        if verdict.table is not None:
            report.fault("tables", verdict.table, facts.row_ref, merchant=facts.merchant)
    if unproved:
        report.notes.append(
            f"the order of {unproved} records is not proved, because the release that took them "
            "wrote none: `order` is not judged, and `tables` only by the events, for their "
            f"{merchants} merchants"
        )


def _history_lines(facts: Facts, verdict: Verdict) -> list[str]:
    """A merchant's history, in the order in which it is judged."""
    lines = [f"merchant {facts.merchant}, partition {facts.partition}"]
    for command, events in verdict.order:
        parsed = command.parsed
        words = (
            parsed.charge,
            parsed.purchase,
            parsed.text,
            parsed.platform,
            parsed.key,
            parsed.amount,
        )
        number = moment_text(parsed.number) if parsed.command == "clock" else parsed.number
        details = " ".join(str(word) for word in (*words, number) if word)
        lines.append(f"{moment_text(command.at)} {command.ref} {parsed.command}")
        lines[-1] += f" {details}" if details else ""
        for event in events:
            kind, purchase, credits, amount, more = event.content
            last = moment_text(more) if isinstance(more, int) else more
            details = " ".join(str(word) for word in (purchase, credits, amount, last) if word)
            lines.append(f"    {event.sequence} {kind} {details}")
    if verdict.fault is not None:
        lines.append(f"here it ends: {verdict.fault}")
    if facts.row is not None:
        lines.append(
            f"total {facts.row.get('total_credits_purchased', 0)}, "
            f"adjusted {facts.row.get('credits_adjusted', 0)}, "
            f"version {facts.version}, sequence {facts.sequence}"
        )
    return lines


def _note_overdue(history: History, report: Report) -> None:
    """Overdue and not published yet: a late timer is not a fault, but good to know."""
    last: dict[int, int] = {}
    for facts in history.merchants.values():
        ats = [found.at for found in facts.every_input()] + [e.at for e in facts.journal]
        if ats:
            last[facts.partition] = max(last.get(facts.partition, 0), *ats)
    trials = 0
    for facts in history.merchants.values():
        end = runs(facts)
        if end is not None and end <= last.get(facts.partition, 0):
            trials += 1
    if trials and not history.allow_lag:
        report.notes.append(
            f"{trials} trials ended before the last record of their partition and their expiry is "
            "not published yet: a late timer is not a fault, one that never runs would be"
        )
