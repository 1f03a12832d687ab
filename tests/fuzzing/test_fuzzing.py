"""No batch that a broker takes ends a worker, and none of its records is lost or doubled."""

from pathlib import Path

import pytest

from tests.fuzzing.run import fuzz

RECORDS = 5_000


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_every_record_from_the_wire_is_processed_or_a_dead_letter_once(
    kafka: str, prefix: str, folder: Path
) -> None:
    result = await fuzz(kafka, prefix, folder, records=RECORDS, seed=1)

    assert result.problems == [], "\n".join(result.problems[:20])
    assert result.sent.records >= RECORDS
    assert result.processed > RECORDS // 10
    assert result.letters > RECORDS // 10
    assert result.sent.bombs
