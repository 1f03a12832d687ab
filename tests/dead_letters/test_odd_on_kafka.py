"""Records as other producers write them, on a real broker: every reader goes on."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.dead_letters.stage import PARTITIONS, Stage, stage
from tests.support.raw_batches import GZIP, LATIN_1, ZSTD, batch, produce
from tests.support.worker import run

M1 = "11111111-1111-4111-8111-111111111111"
PARTITION = partition_of(M1, PARTITIONS)
CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
VALUE = json.dumps(CREATED).encode()
LARGE = json.dumps({**CREATED, "more": "x" * 3_200_000}).encode()
BOMB = bytes(300 << 20)


async def commands(at: Stage, *arguments: str) -> tuple[int, str]:
    return await run(at.env, *arguments)


async def known(at: Stage) -> bool:
    return M1 in await at.audit.table(names.BILLING_RECORDS)


async def send(at: Stage, raw: bytes, topic: str = names.MERCHANT_CREATED) -> None:
    await produce(at.kafka, at.topics.name(topic), PARTITION, raw)


@pytest.mark.timeout(180)
async def test_odd_records_are_dead_letters_for_every_reader(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await send(at, batch((VALUE, [(LATIN_1, b"v")]), key=M1.encode()))
        await send(at, batch((LARGE, [("x", None)]), codec=GZIP, key=M1.encode()))
        await send(at, batch((BOMB, []), codec=ZSTD, key=M1.encode()))
        await at.create(M1)
        letters = await at.letters(3)
        reasons = {one.letter.record.reason: one for one in letters}
        named, large, bomb = sorted(reasons, key=lambda r: reasons[r].letter.offset)

        assert named == "the name of a header is not UTF-8: 'caf\\xe9'"
        assert large.startswith(f"the value has {len(LARGE)} bytes")
        assert "unpacks to more than 33,554,432 bytes" in bomb
        assert await at.until(lambda: known(at))

        assert (await commands(at, "verify", "--allow-lag"))[0] == 0
        code, said = await commands(at, "replay")
        assert code == 0, said
        code, said = await commands(at, "dlq", "list")
        assert code == 0, said
        assert named in said

        name = f"{PARTITION}@{reasons[large].letter.offset}"
        code, shown = await commands(at, "dlq", "show", name, "--value-to", str(folder / "v"))
        assert f"{len(LARGE):,} bytes" in shown
        assert hashlib.sha256(LARGE).hexdigest() in shown
        assert (folder / "v").read_bytes() == LARGE
        code, said = await commands(at, "dlq", "redrive", name, "--because", "t", "--yes")
        assert code == 1
        assert "would be a dead letter again: the value has" in said
        code, said = await commands(
            at, "dlq", "redrive", name, "--because", "t", "--yes", "--force"
        )
        assert "more than" in said

        # What was odd of it is written out in the letter: so it can be sent as it is.
        name = f"{PARTITION}@{reasons[named].letter.offset}"
        code, said = await commands(at, "dlq", "redrive", name, "--because", "t", "--yes")
        assert code == 0, said
        assert (await commands(at, "doctor"))[0] in (0, 1)
        await at.worker.stop()
        assert (await commands(at, "verify"))[0] == 0


@pytest.mark.timeout(120)
async def test_odd_header_in_a_changelog_keeps_its_partition_from_starting(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stage(kafka, prefix, folder) as at:
        await at.create(M1)
        await at.until(lambda: known(at))
        await at.worker.stop()
        changelog = at.topics.changelog(names.BILLING_RECORDS)
        row: dict[str, Any] = {"merchant_id": M1}
        bad = batch((json.dumps(row).encode(), [(LATIN_1, b"v")]), key=M1.encode())
        await produce(kafka, changelog, PARTITION, bad)

        await at.worker.start()
        await at.worker.logged(f"partition {PARTITION} does not start")
        await at.worker.logged("ready with 3 partitions")
        assert f"{changelog}[{PARTITION}]@" in at.worker.text()
        assert "the name of a header is not UTF-8: 'caf\\xe9'" in at.worker.text()
        assert at.worker.running
