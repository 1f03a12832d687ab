"""Replay and backfill on a real broker, of what real workers did."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.replaying.commands import Repository
from tests.support.audit import Audit, read_committed
from tests.support.shop import create_merchants, shop
from tests.support.traffic import Traffic
from tests.support.worker import Worker, create_topics, environment, run, worker

pytestmark = pytest.mark.timeout(300)

M1 = "11111111-1111-4111-8111-111111111111"
POLICY = "billing_stream/domain/policy.py"


@pytest.mark.full
async def test_after_kills_the_same_code_agrees_and_a_changed_rule_differs(
    kafka: str, prefix: str, folder: Path
) -> None:
    env, topics = environment(kafka, prefix), Topics("billing-stream", prefix)
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: "one.example"})
    async with Traffic(kafka, prefix, 4, seed=11) as traffic:
        first = Worker(env, folder)
        await first.start()
        await first.ready()
        sending = asyncio.create_task(traffic.merchants(80))
        await asyncio.sleep(0.3)
        await first.kill()
        async with worker(env, folder) as second, shop("one.example", second) as client:
            await sending
            await client.insist("POST", "/api/billing/trials", **{"Idempotency-Key": "t-1"})
            await Audit(kafka, topics).wait_for(traffic.expected, 60)
    trials = len(traffic.expected.trials) + 1
    report = folder / "report.json"

    same = await run(env, "replay", "--json", str(report))
    sooner = await run({**env, "TRIAL_DURATION": "7d"}, "replay", "--json", f"{report}.7d")
    one = await run({**env, "TRIAL_DURATION": "7d"}, "replay", "--merchant", M1.upper())

    assert same[0] == 0, same[1]
    assert "no difference in any of 81 merchants" in same[1]
    assert json.loads(report.read_bytes())["differences"] == []
    assert sooner[0] == 1, sooner[1]
    found = json.loads(Path(f"{report}.7d").read_bytes())["differences"]
    assert {(d["kind"], d["field"]) for d in found} == {
        ("event differs", "ends_at"),
        ("row differs", "trial_ends_at"),
        ("row differs", "reply"),
    }
    assert len([d for d in found if d["field"] == "ends_at"]) == trials
    assert one[0] == 1
    assert "3 differences of 1 of 1 merchants" in one[1]


@pytest.mark.full
async def test_a_correction_is_made_once_and_is_an_event_of_its_own(
    kafka: str, prefix: str, folder: Path
) -> None:
    env, topics = environment(kafka, prefix), Topics("billing-stream", prefix)
    repository = Repository(folder / "repository")
    repository.change("generous", POLICY, '"small": Pack(100,', '"small": Pack(120,')
    repository.empty("ruleless")
    await create_topics(env)
    async with Traffic(kafka, prefix, 4, seed=5) as traffic, worker(env, folder):
        await traffic.merchants(12)
        await Audit(kafka, topics).wait_for(traffic.expected, 60)
        report = folder / "report.json"

        def at(*arguments: str) -> Any:
            return run(env, *arguments, folder=repository.folder)

        same = await at("replay", "--code", "as-it-is")
        other = await at("replay", "--code", "generous", "--json", str(report))
        # Said at once: without the report nothing below says what went wrong.
        assert (same[0], other[0]) == (0, 1), same[1] + other[1]
        wrong = await at("replay", "--code", "ruleless")
        none = await at("replay", "--code", "no-such-branch")
        asked = await at("backfill", "--from", str(report), "--dry-run")
        before = await adjustments(kafka, topics)
        done = await at("backfill", "--from", str(report), "--yes")
        assert done[0] == 0, done[1]
        made = int(done[1].split(" adjustments sent")[0].split()[-1])
        await until_adjusted(kafka, topics, made)
        again = await at("backfill", "--from", str(report), "--yes")
        anew = await at("backfill", "--code", "generous", "--yes")
        replayed = await at("replay", "--code", "as-it-is")
        verified = await run(env, "verify", "--allow-lag")

    differences = json.loads(report.read_bytes())["differences"]
    credits = [d for d in differences if d["kind"] == "event differs"]
    purchased = [d for d in credits if "purchased" in d["type"]]
    assert {(d["recorded"], d["replayed"], d["field"]) for d in purchased} == {
        (100, 120, "credits")
    }
    assert (wrong[0], none[0]) == (2, 2)
    assert "cannot be replayed" in wrong[1]
    assert "no-such-branch" in none[1]
    assert asked[0] == 1
    assert before == []
    assert made == len(credits)
    assert "0 to correct" in again[1]
    assert "0 to correct" in anew[1]
    assert f"{made} were corrected before" in anew[1]
    events = await adjustments(kafka, topics)
    assert len(events) == made
    assert sum(e["credits"] for e in events) == 20 * (2 * len(purchased) - len(credits))
    assert all("backfill" in event["reason"] and "@" not in event["reason"] for event in events)
    commands = await read_committed(kafka, [topics.name(names.COMMANDS)])
    by = {dict(record.headers).get("billing-origin", b"") for record in commands}
    assert any(re.fullmatch(rb"backfill by .+@.+", value) for value in by)
    assert replayed[0] == 0, replayed[1]
    assert verified[0] == 0, verified[1]


async def until_adjusted(kafka: str, topics: Topics, count: int) -> None:
    """Wait until so many adjustments are published."""
    for _ in range(300):
        if len(await adjustments(kafka, topics)) >= count:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the adjustments are not carried out")


async def adjustments(kafka: str, topics: Topics) -> list[dict[str, Any]]:
    """The data of the adjustments that were published."""
    topic = topics.name(names.event_type("credits.adjusted"))
    return [json.loads(r.value)["data"] for r in await read_committed(kafka, [topic])]


async def test_what_cannot_be_read_says_so(kafka: str, prefix: str, folder: Path) -> None:
    env = environment(kafka, prefix)
    nothing = await run(env, "replay")
    await create_topics(env)
    other = await run({**env, "BILLING_PARTITIONS": "8"}, "replay")
    nobody = await run(env, "replay", "--merchant", M1)
    no_report = await run(env, "backfill", "--from", str(folder / "none.json"))
    no_topic = await run(env, "replay", "--topics", "nonsense")
    no_time = await run(env, "replay", "--since", "yesterday")
    empty = await run(env, "replay", "--topics", names.COMMANDS, "--since", "2026-01-31T12:00:00Z")

    for code, output in (nothing, other, nobody, no_report, no_topic, no_time):
        assert code == 2, output
        assert "Traceback" not in output
    assert "is not there" in nothing[1]
    assert "has 4 partitions" in other[1]
    assert "nothing is recorded of merchant" in nobody[1]
    assert "cannot be read" in no_report[1]
    assert "there are: " in no_topic[1]
    assert "2026-03-01T12:00" in no_time[1]
    assert empty[0] == 0, empty[1]
