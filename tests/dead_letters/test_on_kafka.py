"""Every kind of dead letter on a real broker with a real worker: listed, shown, sent again."""

import base64
import json
from pathlib import Path

import pytest

from billing_stream.ops.dead_letters import DeadLetterHistory, State
from billing_stream.records import topics as names
from billing_stream.records.forwarding import REDRIVEN_FROM
from tests.dead_letters.stage import Stage, stage
from tests.support.audit import read_committed
from tests.support.world import M1, M2

pytestmark = pytest.mark.timeout(240)

BECAUSE = ("--because", "ticket 4712", "--by", "anna@ops", "--yes")


def with_reason(found: list[DeadLetterHistory], reason: str) -> DeadLetterHistory:
    (one,) = (one for one in found if reason in one.letter.record.reason)
    return one


async def test_every_kind_is_sent_again_and_processed_once(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.create(M1)
        paid = await at.charged(M1, "charge-1")
        # Not understood; refused; on a wrong partition and refused.
        await at.send(names.PURCHASE_UPDATED, b'{"merchant_id": "' + M1.encode(), M1)
        await at.command(M2, "start_trial")
        await at.send(names.COMMANDS, command("reserve_purchase", pack="huge"), M1, wrong=True)
        found = await at.letters(3)
        broken = with_reason(found, "truncated")

        value = folder / "value.json"
        webhook = {"merchant_id": M1, "charge_id": "charge-1", "status": "ACTIVE"}
        value.write_text(json.dumps(webhook))
        edited = await at.dlq("redrive", broken.letter.ref, "--edit", str(value), *BECAUSE)
        await at.create(M2)
        await at.quiet()
        trial = await at.dlq("redrive", "--reason", "merchant_not_found", *BECAUSE)
        value.write_text(json.dumps(command("reserve_purchase", pack="large")))
        huge = with_reason(found, "INVALID_PACK").letter
        reserved = await at.dlq(
            "redrive", f"{huge.partition}@{huge.offset}", "--edit", str(value), *BECAUSE
        )
        await at.quiet()

        events = await at.audit.events()
        report = await at.verify()
        shown = await at.dlq("show", broken.letter.ref)
        left = await at.dlq("list")
        rows = await at.purchases()

    assert [edited[0], trial[0], reserved[0]] == [0, 0, 0], (edited, trial, reserved)
    assert [e["data"]["purchase_id"] for e in events["credits.purchased"]] == [paid]
    assert [e["data"]["merchant_id"] for e in events["trial.started"]] == [M2]
    assert sorted(row["credits"] for row in rows.values()) == [100, 1000]
    assert report.ok, "\n".join(report.lines())
    assert "redriven by anna@ops" in shown[1]
    assert "ticket 4712" in shown[1]
    assert "with another value" in shown[1]
    assert "0 dead letters" in left[1]


def command(name: str, **fields: str) -> dict[str, str]:
    return {"command": name, "merchant_id": M1, "platform": "shopify", **fields}


@pytest.mark.full
async def test_what_nobody_claimed_is_sent_again_with_all_that_it_said(
    kafka: str, prefix: str, folder: Path
) -> None:
    """A payment, and refunds in part: as they came, forwarded, and as commands."""
    async with stage(kafka, prefix, folder) as at:
        await at.create(M1)
        for charge in ("one", "two", "three"):
            webhook = {"merchant_id": M1, "charge_id": charge, "status": "active"}
            await at.send(names.PURCHASE_UPDATED, webhook, M1)
        refund = {"merchant_id": M1, "amount": "4.00"}
        await at.send(names.PURCHASE_REFUNDED, {**refund, "charge_id": "one"}, M1)
        await at.send(names.PURCHASE_REFUNDED, {**refund, "charge_id": "two"}, M1, wrong=True)
        await at.command(M1, "refund_charge", charge_id="three", amount="4.00")
        found = await at.letters(6)
        purchases = {charge: await at.charged(M1, charge) for charge in ("one", "two", "three")}
        await at.quiet()

        done = await at.dlq("redrive", "--reason", "no purchase claimed", *BECAUSE)
        await at.quiet()

        events = await at.audit.events()
        rows = await at.purchases()
        report = await at.verify()

    assert {one.state for one in found} == {State.OPEN}
    assert done[0] == 0, done
    paid = [e["data"]["purchase_id"] for e in events["credits.purchased"]]
    back = [(e["data"]["purchase_id"], e["data"]["amount"]) for e in events["purchase.refunded"]]
    assert sorted(paid) == sorted(purchases.values())
    assert sorted(back) == sorted((purchase, "4.00") for purchase in purchases.values())
    assert {row["status"] for row in rows.values()} == {"completed"}
    assert report.ok, "\n".join(report.lines())


@pytest.mark.full
async def test_payment_redriven_after_expiry_is_honoured(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.create(M1)
        await at.charged(M1, "late")
        payment = {"merchant_id": M1, "charge_id": "late", "status": "ACTIVE", "n": "\0"}
        await at.send(names.PURCHASE_UPDATED, {**payment, "charge_id": "la\0te"}, M1)
        (found,) = await at.letters(1)
        await at.until(lambda: expired(at))
        value = folder / "value.json"
        value.write_text(json.dumps(payment))

        done = await at.dlq("redrive", found.letter.ref, "--edit", str(value), *BECAUSE)
        await at.quiet()

        assert done[0] == 0, done
        assert await at.credits(M1) == 100
        assert (await at.verify()).ok


async def expired(at: Stage) -> bool:
    return bool((await at.audit.events())["purchase.expired"])


@pytest.mark.full
async def test_a_copy_that_is_refused_again_is_a_letter_that_knows_the_first(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.command(M2, "start_trial")
        (first,) = await at.letters(1)
        await at.dlq("redrive", "--all", *BECAUSE)
        second = next(one for one in await at.letters(2) if one.letter != first.letter)
        shown = await at.dlq("show", first.letter.ref)
        shown_second = await at.dlq("show", second.letter.ref)
        await at.create(M2)
        await at.quiet()

        done = await at.dlq("redrive", "--all", *BECAUSE)
        # The first letter once more, though what it asked was carried out by way of the second.
        refused = await at.dlq("redrive", first.letter.ref, *BECAUSE)
        again = await at.dlq("redrive", first.letter.ref, "--again", *BECAUSE)
        third = [one for one in await at.letters(3) if "ALREADY" in one.letter.record.reason]
        events = await at.audit.events()
        report = await at.verify()

    assert second.letter.root == first.letter.ref
    assert second.came_of is not None
    assert second.came_of.letter == first.letter.ref
    assert f"dead again as {second.letter.partition}@{second.letter.offset}" in shown[1]
    assert f"a copy of {first.letter.ref}" in shown_second[1]
    assert done[0] == 0
    assert refused[0] == 1
    assert "left alone: was redriven by anna@ops" in refused[1]
    assert again[0] == 0
    assert len(third) == 1
    assert len(events["trial.started"]) == 1
    assert report.ok, "\n".join(report.lines())


@pytest.mark.full
async def test_an_older_letter_of_an_unclaimed_refund_is_mended_from_its_record(
    kafka: str, prefix: str, folder: Path
) -> None:
    """They said neither the amount nor that it was a refund: sent as they are, they do harm."""
    async with stage(kafka, prefix, folder) as at:
        await at.create(M1)
        refund = {"merchant_id": M1, "charge_id": "one", "amount": "4.00"}
        await at.send(names.PURCHASE_REFUNDED, refund, M1, wrong=True)
        (now,) = await at.letters(1)
        source = now.letter.record
        old = old_letter(source.topic, source.partition, source.offset)
        gone = old_letter(at.topics.name(names.PURCHASE_UPDATED), -1, -1)
        for letter in (old, gone):
            await at.send(names.DEAD_LETTERS, letter, M1, partition=now.letter.partition)
        await at.charged(M1, "one")
        payment = {"merchant_id": M1, "charge_id": "one", "status": "active"}
        await at.send(names.PURCHASE_UPDATED, payment, M1)
        _, mended, lost = await at.letters(3)

        refused = await at.dlq("redrive", lost.letter.ref, *BECAUSE)
        done = await at.dlq("redrive", mended.letter.ref, *BECAUSE)
        await at.quiet()
        events = await at.audit.events()
        copies = await at.copies()

    assert refused[0] == 1
    assert "give the right value with --edit" in refused[1]
    assert done[0] == 0, done
    assert [e["data"]["amount"] for e in events["purchase.refunded"]] == ["4.00"]
    assert events["purchase.failed"] == []
    assert [dict(r.headers)[REDRIVEN_FROM] for r in copies] == [mended.letter.ref.encode()]


def old_letter(topic: str, partition: int, offset: int) -> dict[str, object]:
    """As version 0.2 wrote it."""
    said = {"merchant_id": M1, "charge_id": "one", "status": "refunded"}
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": "2026-01-01T00:00:00Z",
        "key": base64.b64encode(M1.encode()).decode(),
        "value": base64.b64encode(json.dumps(said).encode()).decode(),
        "headers": [],
        "reason": "no purchase claimed the charge 'one' in time",
    }


async def test_the_topics_of_others_hold_nothing_of_ours(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.send(names.MERCHANT_CREATED, {"merchant_id": M1}, M1)
        (found,) = await at.letters(1)
        value = folder / "value.json"
        created = {"merchant_id": M1, "platform_name": "shopify", "domain": "a.example"}
        value.write_text(json.dumps({"event_id": "e", "correlation_id": "c", "data": created}))
        done = await at.dlq("redrive", found.letter.ref, "--edit", str(value), *BECAUSE)
        await at.quiet()
        upstream = await read_committed(kafka, [at.topics.name(names.MERCHANT_CREATED)])
        rows = await at.audit.table(names.BILLING_RECORDS)

    assert done[0] == 0, done
    assert len(upstream) == 1
    assert rows[M1]["domain"] == "a.example"
