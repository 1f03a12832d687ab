"""The command: filters, what it shows, what it refuses, and that a dry run does nothing."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.ops.dead_letters import Filters, State, find
from billing_stream.records import topics as names
from billing_stream.records.topics import Topic
from tests.dead_letters.stage import stage
from tests.support.audit import read_committed
from tests.support.worker import create_topics, environment, run
from tests.support.world import M1, M2

pytestmark = pytest.mark.timeout(240)

WHY = ("--because", "a test")


async def test_letters_are_listed_filtered_and_counted(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.send(names.PURCHASE_UPDATED, b"\xff\x00no json\x1b[2J", "not-a-merchant")
        await at.send(names.MERCHANT_CREATED, {"merchant_id": M1}, M1)
        for _ in range(2):
            await at.command(M2, "start_trial")
        found = await at.letters(4)
        first = found[0].letter

        table = await at.dlq("list")
        lines = await at.dlq("list", "--json", "--limit", "0")
        newest = await at.dlq("list", "--limit", "1")
        of_topic = await at.dlq("list", "--topic", names.COMMANDS)
        of_reason = await at.dlq("list", "--reason", "INVALID_SHOP: .*platform", "--json")
        of_merchant = await at.dlq("list", "--merchant", M2.upper(), "--json")
        of_partition = await at.dlq("list", "--partition", str(first.partition), "--json")
        recent = await at.dlq("list", "--since", "1h")
        older = await at.dlq("list", "--until", "1h")
        dump = await at.dlq("show", next(_place(o) for o in _objects(lines[1]) if _raw(o)))

        assert {code for code, _ in (table, lines, newest, of_topic, recent, older)} == {0}
        assert "4 dead letters: 4 open" in table[1]
        assert "       2  MERCHANT_NOT_FOUND" in table[1]
        assert len(_objects(lines[1])) == 4
        assert "and 3 older ones" in newest[1]
        assert "2 dead letters" in of_topic[1]
        assert [o["record"]["topic"] for o in _objects(of_reason[1])] == [
            prefix + names.MERCHANT_CREATED
        ]
        assert {o["merchant_id"] for o in _objects(of_merchant[1])} == {M2}
        assert {o["letter"] for o in _objects(of_partition[1])} == {
            one.letter.ref for one in found if one.letter.partition == first.partition
        }
        assert "4 dead letters" in recent[1]
        assert "0 dead letters" in older[1]
        assert "ff 00 6e 6f" in dump[1]
        assert "\x1b" not in dump[1]


def _objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _place(found: dict[str, Any]) -> str:
    return str(found["letter"])


def _raw(found: dict[str, Any]) -> bool:
    return "value_base64" in found["record"]


async def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.command(M1, "start_trial")
        await at.send(names.PURCHASE_UPDATED, b"{", M1)
        await at.letters(2)
        before = await everything(kafka, at.topics.all())

        redriven = await at.dlq("redrive", "--all", "--dry-run", *WHY)
        discarded = await at.dlq("discard", "--all", "--dry-run", *WHY)

        assert redriven[0] == 1
        assert f"can be done, start_trial of merchant {M1}" in redriven[1]
        assert "left alone: would be a dead letter again" in redriven[1]
        assert "nothing was done; 1 of 2 dead letters would be redriven" in redriven[1]
        assert discarded[0] == 0
        assert await everything(kafka, at.topics.all()) == before


async def everything(kafka: str, topics: list[Topic]) -> list[tuple[str, int, int]]:
    """Where all records are, but for what time alone does."""
    named = [topic.name for topic in topics]
    return sorted((r.topic, r.partition, r.offset) for r in await read_committed(kafka, named))


async def test_discarded_letters_are_out_of_the_way_and_not_gone(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.command(M1, "start_trial")
        (found,) = await at.letters(1)

        done = await at.dlq("discard", found.letter.ref, "--yes", "--by", "anna", *WHY)
        again = await at.dlq("discard", found.letter.ref, "--yes", *WHY)
        left = await at.dlq("list")
        (kept,) = await find(at.cluster, Filters(state=State.DISCARDED))

        assert done[0] == 0
        assert again[0] == 1
        assert "was discarded by anna" in again[1]
        assert "0 dead letters" in left[1]
        assert [(a.action, a.by, a.reason, a.target) for a in kept.history] == [
            ("discarded", "anna", "a test", None)
        ]


async def test_forced_letters_go_where_their_key_says_and_are_dead_again(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.send(names.PURCHASE_UPDATED, b"{", M1)
        (first,) = await at.letters(1)

        refused = await at.dlq("redrive", "--all", "--yes", *WHY)
        forced = await at.dlq("redrive", "--all", "--yes", "--force", *WHY)
        found = await at.letters(2)
        shown = await at.dlq("show", first.letter.ref, "--value-to", str(folder / "value"))

        assert refused[0] == 1
        assert forced[0] == 0
        assert {one.letter.root for one in found} == {first.letter.ref}
        assert "dead again as" in shown[1]
        assert (folder / "value").read_bytes() == b"{"
        assert (await at.verify()).ok


async def test_letters_that_are_not_ours_are_listed_and_can_be_given_up(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.send(names.DEAD_LETTERS, b"someone else's", "key")
        (found,) = await at.letters(1)

        redriven = await at.dlq("redrive", "--all", "--yes", *WHY)
        discarded = await at.dlq("discard", "--all", "--yes", *WHY)

        assert "cannot be read" in found.letter.record.reason
        assert redriven[0] == 1
        assert "is not a topic that billing reads" in redriven[1]
        assert discarded[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["redrive", *WHY], "name dead letters, say which by options, or say --all"),
        (["redrive", "0@1", "--all", *WHY], "not both"),
        (["redrive", "--all"], "--because"),
        (["discard", "--all", "--because", "x" * 256, "--yes"], "1 to 255 characters"),
        (["redrive", "--all", "--edit", "-", *WHY], "--edit corrects one dead letter"),
        (["list", "--reason", "("], "not a regular expression"),
        (["list", "--since", "yesterday"], "neither a time"),
        (["list", "--partition", "99"], "has 4 partitions"),
        (["show", "0@7"], "there is no dead letter"),
        (["show", "nonsense"], "`billing-stream dlq list` shows them"),
        (["show", "billing.commands.v1[0]@1"], "is not a dead letter like 3@17"),
        (["redrive", "--all", *WHY], "not a terminal"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
async def test_wrong_usage_says_what_is_wrong(
    usage: dict[str, str], arguments: list[str], said: str
) -> None:
    code, output = await run(usage, "dlq", *arguments)

    assert code == 2, output
    assert said in output
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def usage(kafka: str) -> dict[str, str]:
    """An environment with one open letter, for all cases of wrong usage."""
    prefix = f"t{uuid.uuid4().hex[:10]}."
    env = environment(kafka, prefix)

    async def prepare() -> None:
        await create_topics(env)
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        await producer.send_and_wait(prefix + names.DEAD_LETTERS, b"{}", partition=1)
        await producer.stop()

    asyncio.run(prepare())
    return env
