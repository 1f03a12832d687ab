"""The whole way: a real PostgreSQL of the old service, a real Kafka, real processes.

`make import-trial` runs it with 200,000 merchants.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from billing_stream.audit.verify.verifier import verify
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.importing.old_service import EVERY, REJECTS, REPAIRS, TOTALS_DIFFER, fill
from tests.support.audit import Audit, read_committed
from tests.support.catalogue import CATALOGUE
from tests.support.process import Process, start
from tests.support.worker import create_topics, environment, run, worker

MERCHANTS = int(os.environ.get("BILLING_IMPORT_MERCHANTS", "4000"))
SECONDS_MAX = 120 + MERCHANTS / 100
BLOCKS = 256

pytestmark = pytest.mark.timeout(3 * SECONDS_MAX)


def environment_of(kafka: str, prefix: str, folder: Path, url: str) -> dict[str, str]:
    """The environment of an import."""
    own = {"OLD_DATABASE_URL": url, "BILLING_DATA_DIR": str(folder / "data")}
    return environment(kafka, prefix, **own)


async def import_merchant(
    env: Mapping[str, str], folder: Path, *options: str
) -> tuple[int, dict[str, Any], str]:
    """Run an import to its end: exit code, report, output."""
    file = folder / "report.json"
    file.unlink(missing_ok=True)
    began = time.monotonic()
    code, output = await run(env, "import", "--json", str(file), "--wait", "2m", *options)
    print(f"\nimport {' '.join(options)}: {time.monotonic() - began:.1f} s, exit {code}\n{output}")
    return code, json.loads(file.read_text()) if file.exists() else {}, output


async def acknowledged(folder: Path, process: Process, blocks: int) -> int:
    """Wait until so many blocks are; how many there are then."""
    while process.returncode is None:
        lines = [path.read_bytes().count(b"\n") for path in (folder / "data").glob("import-*")]
        if sum(lines) >= blocks:
            return sum(lines)
        await asyncio.sleep(0.002)
    raise AssertionError("the import ended before")


@pytest.mark.full
async def test_killed_import_continues_and_a_repetition_counts_nothing_twice(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    filled = await fill(postgres_url, MERCHANTS)
    times = MERCHANTS // EVERY
    env = environment_of(kafka, prefix, folder, postgres_url)
    topics = Topics("billing-stream", prefix)
    await create_topics(env)

    # A dry run: everything is found, nothing is sent.
    rejects = folder / "rejects.jsonl"
    code, dry, _ = await import_merchant(env, folder, "--dry-run", "--rejects", str(rejects))
    assert code == 1
    assert dry["repairs"] == {rule: count * times for rule, count in REPAIRS.items()}
    assert dry["rejects"] == {reason: count * times for reason, count in REJECTS.items()}
    assert dry["totals_differ"] == TOTALS_DIFFER * times
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert len(lines) == REJECTS.total() * times
    assert {line["reason"] for line in lines} == set(REJECTS)
    assert await read_committed(kafka, [topics.name(names.COMMANDS)]) == []

    # SIGKILL in the middle.
    process = start(("import",), env, folder / "killed.log")
    done = await acknowledged(folder, process, 1)
    process.kill()
    assert await process.wait() == -signal.SIGKILL

    async with worker(env, folder):
        code, first, output = await import_merchant(env, folder, "--rejects", str(rejects))
        assert (code, first["faults"], first["differences"]) == (1, 0, []), output
        assert first["commands"] >= first["sent"]
        assert done == BLOCKS or first["sent"] > 0
        _check_tables(first)

        # Once more, from the beginning: every command is there twice now, and changes nothing.
        told = await _events(kafka, topics)
        code, again, output = await import_merchant(env, folder)
        assert (code, again["faults"], again["differences"]) == (1, 0, []), output
        assert again["sent"] == again["commands"] == first["commands"]
        assert again["tables"] == first["tables"]
        assert await _events(kafka, topics) == told

        await _check_credits(kafka, topics, filled.credits, dry)
        await _check_shadow(env, folder, postgres_url)

    report = await verify({"bootstrap_servers": kafka}, topics, 4, CATALOGUE, test_clock=True)
    assert report.ok, "\n".join(report.lines())
    assert not [note for note in report.notes if "orders" in note]


def _check_tables(report: Mapping[str, Any]) -> None:
    for table, said in report["tables"].items():
        assert said["here"] == said["expected"] > 0, table
        assert said["checksum_here"] == said["checksum_expected"], table


async def _events(kafka: str, topics: Topics) -> dict[str, int]:
    events = await Audit(kafka, topics).events()
    # Trials and pending purchases go on ending meanwhile.
    ours = ("trial.imported", "credits.imported", "credits.purchased", "purchase.refunded")
    return {kind: len(events[kind]) for kind in ours}


async def _check_credits(kafka: str, topics: Topics, paid: int, dry: Mapping[str, Any]) -> None:
    """Credits of all that was paid for, but for what was rejected, each told once."""
    events = (await Audit(kafka, topics).events())["credits.imported"]
    purchases = [event["data"]["purchase_id"] for event in events]
    rows = await Audit(kafka, topics).table(names.BILLING_RECORDS)
    told = sum(event["data"]["credits"] for event in events)
    assert len(set(purchases)) == len(purchases)
    assert told == sum(row.get("total_credits_purchased", 0) for row in rows.values())
    times = MERCHANTS // EVERY
    # Of the rejected, a copy with 77 credits was never counted; one was paid and is of no
    # known status, one has lost its credits, and each of these was for 500.
    lost = dry["rejected_credits"] - 77 * times + 2 * 500 * times
    # A record without any time loses its purchases, too: they were deleted.
    assert told == paid - lost - 1500 * times


async def _check_shadow(env: Mapping[str, str], folder: Path, url: str) -> None:
    same = await _look(env, folder)
    assert same == (0, [])

    changed = await _change(url)

    code, differences = await _look(env, folder)
    assert code == 1
    found = {(d["kind"], d["merchant"]) for d in differences}
    assert found == {
        ("only there", changed[0]),
        ("only here", changed[1]),
        ("status", changed[2]),
        ("total", changed[2]),
        ("time", changed[2]),
        ("value", changed[3]),
    }


async def _look(env: Mapping[str, str], folder: Path) -> tuple[int, list[dict[str, Any]]]:
    file = folder / "shadow.json"
    code, output = await run(env, "import", "shadow", "--grace", "500ms", "--json", str(file))
    print(output)
    return code, json.loads(file.read_text())["differences"]


async def _change(url: str) -> list[str]:
    """A new merchant there, one that is lost, one that is paid, one with another price."""
    connection = await asyncpg.connect(url, timeout=20)
    try:
        new = "0b1f6a5e-6c3d-4c58-9b77-2f6f4f0f6f11"
        await connection.execute(
            "INSERT INTO billing_records (id, merchant_id, updated_at) VALUES ('x', $1, now())", new
        )
        chosen = [f"merchant {number}" for number in (61, 67, 69)]
        rows = await connection.fetch("SELECT md5(n)::uuid::text FROM unnest($1::text[]) n", chosen)
        lost, paid, priced = (str(row[0]) for row in rows)
        statements = (
            ("DELETE FROM credit_purchases WHERE merchant_id = $1", lost),
            ("DELETE FROM billing_records WHERE merchant_id = $1", lost),
            (
                "UPDATE credit_purchases SET status = 'COMPLETED', completed_at = now() "
                "WHERE merchant_id = $1 AND status = 'PENDING'",
                paid,
            ),
            ("UPDATE credit_purchases SET amount = '1.23' WHERE merchant_id = $1", priced),
        )
        for statement, merchant in statements:
            await connection.execute(statement, merchant)
        return [new, lost, paid, priced]
    finally:
        await connection.close()


async def test_an_import_that_is_asked_to_stop_stops_and_goes_on_later(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await fill(postgres_url, 600, faults=False)
    env = environment_of(kafka, prefix, folder, postgres_url)
    await create_topics(env)

    # No worker runs: it waits for one.
    process = start(("import", "--wait", "5m"), env, folder / "stopped.log")
    await acknowledged(folder, process, 1)
    process.send_signal(signal.SIGTERM)
    code = await process.wait()
    nobody, waited, output = await import_merchant(env, folder, "--wait", "1s")
    async with worker(env, folder):
        good, report, _ = await import_merchant(env, folder)

    assert code == 130
    assert "run the same again" in (folder / "stopped.log").read_text()
    assert (nobody, waited["processed"]) == (1, False)
    assert "are any running?" in output
    assert (good, report["differences"]) == (0, [])
    # All of it was acknowledged before.
    assert (report["commands"], report["sent"]) == (waited["commands"], 0)


async def test_what_cannot_be_done_says_so_with_exit_code_2(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    env = environment_of(kafka, prefix, folder, postgres_url)
    shops = folder / "shops.csv"
    shops.write_text("merchant,domain\n")

    no_topics = await import_merchant(env, folder)
    no_tables = await import_merchant(env, folder, "--dry-run")
    no_shops = await import_merchant(env, folder, "--dry-run", "--shops", str(shops))
    no_address = await import_merchant({**env, "OLD_DATABASE_URL": ""}, folder)

    codes = [found[0] for found in (no_topics, no_tables, no_shops, no_address)]
    assert codes == [2, 2, 2, 2]
    assert "billing-stream topics create" in no_topics[2]
    assert "no table billing_records" in no_tables[2]
    assert "merchant_id,platform,domain" in no_shops[2]
    assert "--from" in no_address[2]


async def test_the_shops_of_a_file_make_merchants_known_to_the_web(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await fill(postgres_url, 3, faults=False)
    env = environment_of(kafka, prefix, folder, postgres_url)
    connection = await asyncpg.connect(postgres_url, timeout=20)
    merchants = [
        row[0] for row in await connection.fetch("SELECT merchant_id::text FROM billing_records")
    ]
    await connection.close()
    shops = folder / "shops.csv"
    lines = [
        f"{merchant.upper()}, Shopify ,Shop{n}.Example" for n, merchant in enumerate(merchants)
    ]
    shops.write_text("\n".join(["merchant_id,platform,domain", *lines]))
    await create_topics(env)

    async with worker(env, folder):
        code, _, _ = await import_merchant(env, folder, "--shops", str(shops))
        topics = Topics("billing-stream", prefix)
        known: dict[str, str] = {}
        while len(known) < len(merchants):
            known = await Audit(kafka, topics).table_of_shops()

    assert code == 0
    assert known == {f"shopify:shop{n}.example": merchant for n, merchant in enumerate(merchants)}
