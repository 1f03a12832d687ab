"""Faults are seeded into a copy of a good log, one each; the right check must name it."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.records import topics as names
from tests.verify.traffic import paid, rich_world
from tests.verify.world import TOPICS, Copy, Stored, merchant_id

ONE = merchant_id(0)
GONE, BACK, MOVED, GIVEN = (merchant_id(number) for number in range(50, 54))
Seed = Callable[[Copy], Any]


@pytest_asyncio.fixture
async def copy() -> Copy:
    return (await rich_world()).copy()


def event_of(copy: Copy, kind: str, merchant: str = ONE, nth: int = 0) -> Stored:
    found = [e for e in copy.events(kind) if e.data["data"]["merchant_id"] == merchant]
    return found[nth]


def edit(record: Stored, **data: Any) -> None:
    """Change fields of an event's data."""
    value = record.data
    value["data"].update(data)
    record.put(value)


def resequence(record: Stored, sequence: int) -> list[tuple[str, bytes]]:
    return [(n, b"%d" % sequence if n == "sequence" else v or b"") for n, v in record.headers]


def row_of(copy: Copy, merchant: str = ONE, table: str = names.BILLING_RECORDS) -> Stored:
    """The newest row of a merchant."""
    return [r for r in copy.rows(table) if r.data["merchant_id"] == merchant][-1]


def edit_row(copy: Copy, merchant: str = ONE, **fields: Any) -> None:
    row = row_of(copy, merchant)
    row.put({**row.data, **fields})


def position_of(copy: Copy, topic: str, partition: int) -> Stored:
    key = f"\0position/{topic}".encode()
    changelog = copy.logs[TOPICS.changelog(names.BILLING_RECORDS), partition]
    return [record for record in changelog if record.key == key][-1]


def late_webhook(copy: Copy, value: Any, topic: str = names.PURCHASE_UPDATED) -> Stored:
    """An input that was never processed, below a position that says it was."""
    template = next(r for r in copy.of(TOPICS.name(topic)) if r.partition == row_of(copy).partition)
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    added = copy.add(template, value=raw, headers=[])
    position = position_of(copy, added.topic, added.partition)
    copy.add(position, value=b"%d" % (added.offset + 1))
    return added


def letter_about(copy: Copy, record: Stored, reason: str) -> None:
    """A dead letter, as the lane writes it."""
    value = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    value |= {
        "timestamp": "2026-01-01T00:00:00Z",
        "key": base64.b64encode(record.key or b"").decode(),
        "value": base64.b64encode(record.value or b"").decode(),
        "headers": [(n, base64.b64encode(v or b"").decode()) for n, v in record.headers],
        "reason": reason,
    }
    topic = TOPICS.name(names.DEAD_LETTERS)
    copy.add(record, topic=topic, value=json.dumps(value).encode(), headers=[])


# -- events


def event_dropped(copy: Copy) -> None:
    copy.drop(event_of(copy, "credits.purchased"))


def last_event_dropped(copy: Copy) -> None:
    copy.drop(event_of(copy, "trial.expired"))


def doubled_with_its_id(copy: Copy) -> None:
    copy.add(event_of(copy, "credits.purchased"))


def doubled_with_its_id_and_the_next_sequence(copy: Copy) -> None:
    event = event_of(copy, "credits.purchased")
    sequence = row_of(copy).data["sequence"] + 1
    copy.add(event, headers=resequence(event, sequence))
    edit_row(copy, sequence=sequence)


def doubled_with_another_id(copy: Copy) -> None:
    event = event_of(copy, "credits.purchased")
    value = {**event.data, "event_id": "00000000-0000-5000-8000-000000000000"}
    sequence = row_of(copy).data["sequence"] + 1
    headers = resequence(event, sequence)
    copy.add(event, value=json.dumps(value).encode(), headers=headers)
    edit_row(copy, sequence=sequence)


def reordered(copy: Copy) -> None:
    first, second = (event_of(copy, "credits.purchased", nth=n) for n in (0, 1))
    first.value, second.value = second.value, first.value
    first.headers, second.headers = second.headers, first.headers


def sequences_swapped(copy: Copy) -> None:
    first = event_of(copy, "credits.purchased")
    second = event_of(copy, "purchase.failed")
    numbers = [dict(event.headers)["sequence"] for event in (first, second)]
    first.headers = resequence(first, int(numbers[1] or b""))
    second.headers = resequence(second, int(numbers[0] or b""))


def amount_changed(copy: Copy) -> None:
    edit(event_of(copy, "credits.purchased"), amount="9.98")


def pack_changed(copy: Copy) -> None:
    edit(event_of(copy, "credits.purchased"), amount="39.99", credits=500)


def credits_changed(copy: Copy) -> None:
    edit(event_of(copy, "credits.purchased"), credits=101)


def refunded_too_much(copy: Copy) -> None:
    edit(event_of(copy, "purchase.refunded"), credits=500)


def other_bytes_under_one_id(copy: Copy) -> None:
    event = event_of(copy, "trial.started")
    copy.add(event, value=json.dumps({**event.data, "correlation_id": "other"}).encode())


def reminder_dropped(copy: Copy) -> None:
    copy.drop(event_of(copy, "trial.ending"))


def reminder_never_published(copy: Copy) -> None:
    event = event_of(copy, "trial.ending")
    dropped = int(dict(event.headers)["sequence"] or b"")
    copy.drop(event)
    for later in (e for kind in names.EVENT_TYPES for e in copy.events(kind)):
        number = int(dict(later.headers)["sequence"] or b"")
        if later.data["data"]["merchant_id"] == ONE and number > dropped:
            later.headers = resequence(later, number - 1)


def reminder_doubled(copy: Copy) -> None:
    event = event_of(copy, "trial.ending")
    value = {**event.data, "event_id": "00000000-0000-5000-8000-000000000002"}
    copy.add(event, value=json.dumps(value).encode())


def reminder_of_another_end(copy: Copy) -> None:
    edit(event_of(copy, "trial.ending"), ends_at="2026-01-01T09:00:00Z")


def trial_expired_twice(copy: Copy) -> None:
    event = event_of(copy, "trial.expired")
    value = {**event.data, "event_id": "00000000-0000-5000-8000-000000000001"}
    copy.add(event, value=json.dumps(value).encode())


def trial_of_other_length(copy: Copy) -> None:
    edit(event_of(copy, "trial.started"), ends_at="2026-01-01T05:00:09Z")


def trial_that_nobody_asked_for(copy: Copy) -> None:
    for command in copy.of(TOPICS.name(names.COMMANDS)):
        if command.data and command.data.get("merchant_id") == ONE and "start" in str(command.data):
            command.put({"command": "pass_time", "merchant_id": ONE})


def granted_without_payment(copy: Copy) -> None:
    """The webhook of a grant said something else."""
    for webhook in copy.of(TOPICS.name(names.PURCHASE_UPDATED)):
        if b'"c0-1"' in (webhook.value or b""):
            webhook.put(paid(ONE, "c0-1", "PENDING"))
    for refund in copy.of(TOPICS.name(names.PURCHASE_REFUNDED)):
        if b'"c0-1"' in (refund.value or b""):
            refund.put({"merchant_id": ONE, "charge_id": "none", "amount": "0"})


def refund_without_refund(copy: Copy) -> None:
    for refund in copy.of(TOPICS.name(names.PURCHASE_REFUNDED)):
        if b'"c0-1"' in (refund.value or b""):
            refund.put({"merchant_id": ONE, "charge_id": "none"})


def refund_without_purchase(copy: Copy) -> None:
    purchased = event_of(copy, "purchase.refunded").data["data"]["purchase_id"]
    grants = copy.events("credits.purchased")
    copy.drop(next(e for e in grants if e.data["data"]["purchase_id"] == purchased))


def cause_that_is_not_there(copy: Copy) -> None:
    event = event_of(copy, "credits.purchased")
    cause = f"{TOPICS.name(names.PURCHASE_UPDATED)}[{event.partition}]@0".encode()
    event.headers = [(n, cause if n == "cause" else v) for n, v in event.headers]


def event_of_another_cause(copy: Copy) -> None:
    event = event_of(copy, "credits.purchased")
    cause = f"{TOPICS.name(names.PURCHASE_UPDATED)}[{event.partition}]@100".encode()
    event.headers = [(n, cause if n == "cause" else v) for n, v in event.headers]


def event_cut_off(copy: Copy) -> None:
    event = event_of(copy, "credits.purchased")
    event.value = (event.value or b"")[:50]


# -- tables


def row_regressed(copy: Copy) -> None:
    rows = [row for row in copy.rows(names.BILLING_RECORDS) if row.data["merchant_id"] == ONE]
    copy.add(rows[-3])


def row_regressed_and_compacted(copy: Copy) -> None:
    copy.add([r for r in copy.rows(names.BILLING_RECORDS) if r.data["merchant_id"] == ONE][-3])
    copy.compact()


def purchase_row_regressed(copy: Copy) -> None:
    rows = [row for row in copy.rows(names.CREDIT_PURCHASES) if row.data["merchant_id"] == ONE]
    copy.add(rows[0])


def newest_row_missing(copy: Copy) -> None:
    copy.drop(row_of(copy))


def merchant_missing(copy: Copy) -> None:
    for row in [r for r in copy.rows(names.BILLING_RECORDS) if r.data["merchant_id"] == ONE]:
        copy.drop(row)


def purchase_missing(copy: Copy) -> None:
    last = row_of(copy, table=names.CREDIT_PURCHASES)
    for row in [row for row in copy.rows(names.CREDIT_PURCHASES) if row.key == last.key]:
        copy.drop(row)


def purchase_that_nobody_opened(copy: Copy) -> None:
    row = row_of(copy, table=names.CREDIT_PURCHASES)
    other = merchant_id(77)
    copy.add(row, key=other.encode(), value=json.dumps({**row.data, "id": other}).encode())


def total_wrong(copy: Copy) -> None:
    edit_row(copy, total_credits_purchased=row_of(copy).data["total_credits_purchased"] + 1)


def status_wrong(copy: Copy) -> None:
    row = row_of(copy, table=names.CREDIT_PURCHASES)
    row.put({**row.data, "status": "pending"})


def key_forgotten(copy: Copy) -> None:
    copy.drop(copy.rows(names.IDEMPOTENCY_KEYS)[-1])


def version_skipped(copy: Copy) -> None:
    edit_row(copy, version=row_of(copy).data["version"] + 1)


def shop_of_another(copy: Copy) -> None:
    copy.rows(names.SHOPS_TABLE)[0].value = merchant_id(55).encode()


# -- inputs and their outcomes


def letter_missing(copy: Copy) -> None:
    copy.drop(bad_letter(copy))


def bad_letter(copy: Copy) -> Stored:
    letters = copy.of(TOPICS.name(names.DEAD_LETTERS))
    refused = ("TRIAL_", "MERCHANT_", "PURCHASE_", "INVALID_PACK", "no purchase")
    return next(r for r in letters if not r.data["reason"].startswith(refused))


def letter_doubled(copy: Copy) -> None:
    copy.add(bad_letter(copy))


def letter_of_other_bytes(copy: Copy) -> None:
    letter = bad_letter(copy)
    letter.put({**letter.data, "value": "AAAA"})


def letter_of_a_refusal_of_other_bytes(copy: Copy) -> None:
    letters = copy.of(TOPICS.name(names.DEAD_LETTERS))
    letter = next(r for r in letters if r.data["reason"].startswith("TRIAL_"))
    letter.put({**letter.data, "value": "AAAA"})


def good_record_diverted(copy: Copy) -> None:
    letter_about(copy, copy.of(TOPICS.name(names.PURCHASE_UPDATED))[0], "made no sense")


def good_command_diverted(copy: Copy) -> None:
    commands = copy.of(TOPICS.name(names.COMMANDS))
    good = next(r for r in commands if r.value and "start_trial" in str(r.data))
    letter_about(copy, good, "TRIAL_ALREADY_USED: not so")


def refusal_lost(copy: Copy) -> None:
    letters = copy.of(TOPICS.name(names.DEAD_LETTERS))
    copy.drop(next(r for r in letters if r.data["reason"].startswith("TRIAL")))


def unclaimed_webhook_lost(copy: Copy) -> None:
    letters = copy.of(TOPICS.name(names.DEAD_LETTERS))
    copy.drop(next(r for r in letters if "never-claimed" in r.data["reason"]))


def payment_not_processed(copy: Copy) -> None:
    """For a purchase that is pending by the rows, its newest ones taken back."""
    event = event_of(copy, "credits.purchased", nth=-1)
    copy.drop(event)
    row = row_of(copy).data
    edit_row(
        copy,
        sequence=row["sequence"] - 1,
        total_credits_purchased=row["total_credits_purchased"] - event.data["data"]["credits"],
    )


def position_beyond_a_bad_record(copy: Copy) -> None:
    late_webhook(copy, b"\xff")


def position_beyond_the_end(copy: Copy) -> None:
    position = position_of(copy, TOPICS.name(names.PURCHASE_UPDATED), 0)
    position.value = b"%d" % (int(position.value or b"0") + 5)


def position_behind_its_outcomes(copy: Copy) -> None:
    name = TOPICS.name(names.PURCHASE_UPDATED)
    position = position_of(copy, name, row_of(copy).partition)
    position.value = b"%d" % (int(position.value or b"0") - 1)


def position_went_back(copy: Copy) -> None:
    name = TOPICS.name(names.PURCHASE_UPDATED)
    position = position_of(copy, name, 0)
    copy.add(position, value=b"1")


def not_processed(copy: Copy) -> None:
    webhooks = copy.of(TOPICS.name(names.PURCHASE_UPDATED))
    copy.add(webhooks[-1])


def journal_entry_missing(copy: Copy) -> None:
    for entry in copy.entries():
        if entry.data["command"]["command"] == "pass_time" and entry.key == ONE.encode():
            copy.drop(entry)
            return


def silent_journal_entry_missing(copy: Copy) -> None:
    for entry in copy.entries():
        if entry.data["command"]["command"] == "reserve_purchase" and entry.key == ONE.encode():
            copy.drop(entry)
            return


def journal_entry_doubled(copy: Copy) -> None:
    copy.add(copy.entries()[0])


def journal_entry_changed(copy: Copy) -> None:
    for entry in copy.entries():
        if entry.data["command"]["command"] == "reserve_purchase":
            value = entry.data
            value["command"]["pack"] = "large" if value["command"]["pack"] == "small" else "small"
            entry.put(value)
            return


def forwarded_record_lost(copy: Copy) -> None:
    """Its copy is some other record now: offsets have no holes."""
    forwarded(copy).headers = []


def forwarded(copy: Copy) -> Stored:
    commands = copy.of(TOPICS.name(names.COMMANDS))
    return next(r for r in commands if dict(r.headers).get("billing-forwarded-from"))


def forwarded_record_doubled(copy: Copy) -> None:
    copy.add(forwarded(copy))


def forwarded_record_changed(copy: Copy) -> None:
    record = forwarded(copy)
    record.value = (record.value or b"") + b" "


# -- operators


def adjustment_lost(copy: Copy) -> None:
    copy.drop(event_of(copy, "credits.adjusted", GIVEN))


def adjustment_changed(copy: Copy) -> None:
    edit(event_of(copy, "credits.adjusted", GIVEN), credits=300)


def adjustment_for_another_reason(copy: Copy) -> None:
    edit(event_of(copy, "credits.adjusted", GIVEN), reason="another")


def adjustment_made_twice(copy: Copy) -> None:
    event = event_of(copy, "credits.adjusted", GIVEN)
    sequence = row_of(copy, GIVEN).data["sequence"] + 1
    value = {**event.data, "event_id": "00000000-0000-5000-8000-000000000000"}
    copy.add(event, value=json.dumps(value).encode(), headers=resequence(event, sequence))
    edit_row(copy, GIVEN, sequence=sequence)


def adjusted_sum_wrong(copy: Copy) -> None:
    edit_row(copy, GIVEN, credits_adjusted=24)


def adjustment_without_row(copy: Copy) -> None:
    copy.drop(row_of(copy, GIVEN, names.CREDIT_ADJUSTMENTS))


def balance_wrong(copy: Copy) -> None:
    row = row_of(copy, GIVEN, names.CREDIT_ADJUSTMENTS)
    row.put({**row.data, "balance": 0})


def domain_not_forgotten(copy: Copy) -> None:
    edit_row(copy, GONE, domain="old.example")


def shop_not_forgotten(copy: Copy) -> None:
    template = copy.rows(names.SHOPS_TABLE)[0]
    copy.add(template, key=b"shopify:kept.example", value=GONE.encode())


def page_not_forgotten(copy: Copy) -> None:
    row = row_of(copy, GONE, names.CREDIT_PURCHASES)
    row.put({**row.data, "checkout_url": "https://old.example/"})


def answer_not_forgotten(copy: Copy) -> None:
    answers = copy.rows(names.IDEMPOTENCY_KEYS)
    (gone,) = [r for r in answers if (r.key or b"").startswith(GONE.encode()) and not r.value]
    copy.drop(gone)


def shop_given_up_that_was_never_registered(copy: Copy) -> None:
    shops = copy.of(TOPICS.name(names.SHOPS))
    gone = next(r for r in shops if r.data.get("gone"))
    gone.put({**gone.data, "domain": "another.example"})


def clock_moved_back(copy: Copy) -> None:
    edit_row(copy, MOVED, updated_at="2026-01-01T12:00:00Z")


def clock_moved_by_nobody(copy: Copy) -> None:
    entries = copy.entries()
    copy.drop(next(r for r in entries if r.data["command"]["command"] == "move_clock"))


FAULTS: list[tuple[Seed, set[str]]] = [
    (event_dropped, {"sequences", "credits", "outcomes", "positions"}),
    (last_event_dropped, {"sequences", "trials"}),
    (doubled_with_its_id, {"event-ids", "once", "sequences"}),
    (doubled_with_its_id_and_the_next_sequence, {"event-ids", "once"}),
    (doubled_with_another_id, {"once", "credits"}),
    (reordered, {"sequences"}),
    (sequences_swapped, {"order"}),
    (amount_changed, {"credits", "order"}),
    (pack_changed, {"credits", "order"}),
    (credits_changed, {"credits", "order"}),
    (refunded_too_much, {"credits", "order"}),
    (other_bytes_under_one_id, {"event-ids"}),
    (reminder_dropped, {"sequences", "order"}),
    (reminder_never_published, {"order"}),
    (reminder_doubled, {"once", "sequences"}),
    (reminder_of_another_end, {"trials", "order"}),
    (trial_expired_twice, {"once", "sequences"}),
    (trial_of_other_length, {"trials", "order"}),
    (trial_that_nobody_asked_for, {"trials"}),
    (granted_without_payment, {"credits"}),
    (refund_without_refund, {"credits"}),
    (refund_without_purchase, {"credits"}),
    (cause_that_is_not_there, {"order"}),
    (event_of_another_cause, {"causes"}),
    (event_cut_off, {"formats"}),
    (row_regressed, {"versions", "tables"}),
    (row_regressed_and_compacted, {"tables"}),
    (purchase_row_regressed, {"versions", "tables"}),
    (newest_row_missing, {"sequences", "tables"}),
    (merchant_missing, {"sequences", "credits", "tables"}),
    (purchase_missing, {"tables"}),
    (purchase_that_nobody_opened, {"tables"}),
    (total_wrong, {"credits", "tables"}),
    (status_wrong, {"tables"}),
    (key_forgotten, {"tables"}),
    (version_skipped, {"tables"}),
    (shop_of_another, {"shops"}),
    (letter_missing, {"dead-letters", "outcomes", "positions"}),
    (letter_doubled, {"dead-letters"}),
    (letter_of_other_bytes, {"dead-letters"}),
    (letter_of_a_refusal_of_other_bytes, {"dead-letters"}),
    (good_record_diverted, {"dead-letters"}),
    (good_command_diverted, {"dead-letters"}),
    (refusal_lost, {"order"}),
    (unclaimed_webhook_lost, {"order"}),
    (payment_not_processed, {"credits", "outcomes", "positions"}),
    (position_beyond_a_bad_record, {"positions", "outcomes", "dead-letters"}),
    (position_beyond_the_end, {"positions"}),
    (position_behind_its_outcomes, {"positions"}),
    (position_went_back, {"positions"}),
    (not_processed, {"outcomes"}),
    (journal_entry_missing, {"journal"}),
    (silent_journal_entry_missing, {"order"}),
    (journal_entry_doubled, {"journal"}),
    (journal_entry_changed, {"order"}),
    (forwarded_record_lost, {"forwarded", "outcomes", "positions"}),
    (forwarded_record_doubled, {"forwarded"}),
    (forwarded_record_changed, {"forwarded"}),
    (adjustment_lost, {"sequences", "credits"}),
    (adjustment_changed, {"credits", "order"}),
    (adjustment_for_another_reason, {"order"}),
    (adjustment_made_twice, {"once", "credits"}),
    (adjusted_sum_wrong, {"credits", "tables"}),
    (adjustment_without_row, {"tables"}),
    (balance_wrong, {"tables"}),
    (domain_not_forgotten, {"tables"}),
    (shop_not_forgotten, {"shops"}),
    (page_not_forgotten, {"tables"}),
    (answer_not_forgotten, {"tables"}),
    (shop_given_up_that_was_never_registered, {"shops"}),
    (clock_moved_back, {"tables"}),
    (clock_moved_by_nobody, {"journal"}),
]


@pytest.mark.parametrize(("seed", "named"), FAULTS, ids=[seed.__name__ for seed, _ in FAULTS])
async def test_a_seeded_fault_is_named(copy: Copy, seed: Seed, named: set[str]) -> None:
    before = await copy.verify()
    assert before.ok

    seed(copy)
    report = await copy.verify()

    assert named <= report.faults(), "\n".join(report.lines())
    for name in named:
        examples = report.checks[name].examples
        assert any(fault.topic or fault.merchant for fault in examples), examples
