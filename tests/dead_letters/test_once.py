"""A redrive that is killed, or that is not the only one: every letter is processed once."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from billing_stream.engine.crash_points import EXIT_CRASHED, CrashPoint
from billing_stream.errors import DeadLettersError
from billing_stream.ops.dead_letters import (
    Cluster,
    DeadLetterEntry,
    State,
    acting,
    discard,
    redrive,
)
from billing_stream.ops.dead_letters.operator import Operator
from billing_stream.ops.dead_letters.showing import value_lines
from billing_stream.records import topics as names
from billing_stream.records.forwarding import REDRIVEN_FROM
from billing_stream.records.topics import Topics
from tests.dead_letters.stage import Stage, stage
from tests.support.worker import BIN
from tests.verify.world import merchant_id

pytestmark = pytest.mark.timeout(240)

BECAUSE = ("--because", "again", "--yes")
ONE_BY_ONE = """
from billing_stream.ops.dead_letters import acting
acting.LETTERS_AT_ONCE = 1
from billing_stream.cli import main
main()
"""
MERCHANTS = [merchant_id(number) for number in range(12)]


async def refused_purchases(at: Stage) -> list[DeadLetterEntry]:
    """A letter per merchant: a keyless purchase that came before its merchant."""
    for merchant in MERCHANTS:
        await at.command(merchant, "reserve_purchase", pack="small", platform="shopify")
    found = await at.letters(len(MERCHANTS))
    for merchant in MERCHANTS:
        await at.create(merchant)
    await at.quiet()
    return [one.letter for one in found]


async def check_once(at: Stage) -> None:
    """One purchase each, one action each, and the verifier agrees."""
    report = await at.verify()
    owners = Counter(row["merchant_id"] for row in (await at.purchases()).values())
    actions = Counter(action["letter"] for action in await at.ledger())
    copies = Counter(dict(r.headers)[REDRIVEN_FROM] for r in await at.copies())
    assert owners == Counter(dict.fromkeys(MERCHANTS, 1))
    assert set(actions.values()) == {1}
    assert set(copies.values()) == {1}
    assert report.ok, "\n".join(report.lines())


@pytest.mark.parametrize("point", [CrashPoint.HALF_SENT, CrashPoint.SENT, CrashPoint.COMMITTED])
@pytest.mark.full
async def test_a_redrive_that_is_killed_is_run_again(
    kafka: str, prefix: str, folder: Path, point: CrashPoint
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await refused_purchases(at)

        crashed = await at.dlq("redrive", "--all", *BECAUSE, BILLING_CRASH_AT=point)
        again = await at.dlq("redrive", "--all", *BECAUSE)

        assert crashed[0] == EXIT_CRASHED, crashed
        assert again[0] == 0, again
        assert ("no dead letter matches" in again[1]) == (point is CrashPoint.COMMITTED), again
        await check_once(at)


@pytest.mark.full
async def test_a_redrive_that_is_killed_at_any_moment_is_run_again(
    kafka: str, prefix: str, folder: Path
) -> None:
    """A letter per transaction, and SIGKILL from outside while they follow each other."""
    async with stage(kafka, prefix, folder) as at:
        await refused_purchases(at)
        codes = [(await signalled(at, signal.SIGKILL))[0] for _ in range(4)]

        last = await at.dlq("redrive", "--all", *BECAUSE)

        assert -signal.SIGKILL in codes
        assert last[0] == 0, last
        await check_once(at)


@pytest.mark.full
async def test_an_interrupted_redrive_says_how_far_it_came(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await refused_purchases(at)

        code, output = await signalled(at, signal.SIGINT)
        done = len(await at.ledger())
        last = await at.dlq("redrive", "--all", *BECAUSE)

        assert code == (1 if done < len(MERCHANTS) else 0), output
        assert f"{done} of 12 dead letters were redriven" in output
        assert "Traceback" not in output
        assert last[0] == 0, last
        await check_once(at)


async def signalled(at: Stage, number: signal.Signals) -> tuple[int, str]:
    """A redrive with a letter per transaction that gets a signal after the first ones."""
    command = [sys.executable, "-c", ONE_BY_ONE, "dlq", "redrive", "--all", *BECAUSE]
    before = len(await at.ledger())
    process = await asyncio.create_subprocess_exec(
        *command,
        env=at.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    for _ in range(6_000):
        if process.returncode is not None or len(await at.ledger()) > before:
            break
        await asyncio.sleep(0.01)
    if process.returncode is None:
        process.send_signal(number)
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.full
async def test_of_two_who_begin_at_once_each_letter_is_sent_by_one(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await refused_purchases(at)

        both = await asyncio.gather(*(at.dlq("redrive", "--all", *BECAUSE) for _ in range(2)))
        last = await at.dlq("redrive", "--all", *BECAUSE)

        assert {code for code, _ in both} <= {0, 1, 2}, both
        assert "Traceback" not in both[0][1] + both[1][1]
        assert last[0] == 0, last
        await check_once(at)


async def test_who_was_overtaken_can_commit_nothing_and_is_told_so(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        letters = await refused_purchases(at)
        overtaken = asyncio.Event()

        def crash_hook(point: CrashPoint) -> None:
            if point is CrashPoint.SENT:
                overtaken.set()
                # In the middle of its transaction: someone else begins, and acts on the same.
                other = [str(BIN), "dlq", "discard", letters[0].ref, *BECAUSE]
                process = os.posix_spawn(other[0], other, dict(at.env))
                _, status = os.waitpid(process, 0)
                assert os.waitstatus_to_exitcode(status) == 0

        with pytest.raises(DeadLettersError, match="someone else began"):
            await redrive(at.cluster, letters, by="slow", reason="because", crash_hook=crash_hook)

        assert overtaken.is_set()
        assert [(a["action"], a["letter"]) for a in await at.ledger()] == [
            ("discarded", letters[0].ref)
        ]
        assert await at.copies() == []
        again = await redrive(at.cluster, letters, by="slow", reason="because")
        assert [outcome.refused is None for outcome in again].count(False) == 1
        assert len(await at.copies()) == len(letters) - 1


@pytest.mark.full
async def test_what_was_done_meanwhile_is_left_alone(kafka: str, prefix: str, folder: Path) -> None:
    async with stage(kafka, prefix, folder) as at:
        letters = await refused_purchases(at)
        await discard(at.cluster, letters[:1], by="anna", reason="a test")

        outcomes = await redrive(at.cluster, letters[:2], by="ben", reason="because")
        again = await redrive(at.cluster, letters[:1], by="ben", reason="because", again=True)
        states = [one.state for one in await at.letters(len(letters))]

        assert outcomes[0].refused is not None
        assert outcomes[0].refused.startswith("was discarded by anna")
        assert outcomes[1].action is not None
        assert again[0].action is not None
        assert again[0].action.again
        assert states.count(State.REDRIVEN) == 2
        assert (await at.verify()).ok


@pytest.mark.full
async def test_a_stop_ends_after_the_transaction_under_way(
    kafka: str, prefix: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "LETTERS_AT_ONCE", 3)
    async with stage(kafka, prefix, folder) as at:
        letters = await refused_purchases(at)
        stop = asyncio.Event()

        outcomes = await redrive(
            at.cluster,
            letters,
            by="anna",
            reason="because",
            stop=stop,
            crash_hook=lambda point: stop.set() if point is CrashPoint.SENT else None,
        )

        assert len(outcomes) == 3
        assert len(await at.ledger()) == 3
        await redrive(at.cluster, letters[3:], by="anna", reason="because")
        await check_once(at)


async def test_the_right_to_act_is_taken_from_an_idle_one_too(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        letters = await refused_purchases(at)
        async with Operator(at.cluster):
            outcomes = await redrive(at.cluster, letters, by="anna", reason="because")

        assert all(outcome.action for outcome in outcomes)
        await check_once(at)


async def test_a_cluster_without_the_ledger_says_what_to_do(kafka: str, prefix: str) -> None:
    cluster = Cluster({"bootstrap_servers": kafka}, Topics("billing-stream", prefix), 4)

    with pytest.raises(DeadLettersError, match=f"{names.DEAD_LETTER_ACTIONS} is not there"):
        await redrive(cluster, [], by="anna", reason="because")


def test_money_is_shown_as_it_was_written() -> None:
    value = b'{"amount": 9.990000000000000000001, "name": "\\u202e\xc3\xa4"}'

    lines = "\n".join(value_lines(value))

    assert "9.990000000000000000001" in lines
    assert json.loads(lines)["name"] == "\u202eä"
