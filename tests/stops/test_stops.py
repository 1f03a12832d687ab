"""Workers and projectors stopped at random moments, beside others that go on."""

from pathlib import Path

import pytest

from tests.stops.moments import plan_of
from tests.stops.stage import Stage

SEEDS = 20


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_a_process_stopped_at_any_moment_ends_with_0_and_in_time(
    kafka: str, postgres_url: str, prefix: str, folder: Path
) -> None:
    problems, stops = [], 0
    async with Stage(kafka, postgres_url, prefix, folder).open() as stage:
        for seed in range(SEEDS):
            for outcome in await stage.run(plan_of(seed)):
                stops += 1
                if outcome.problem:
                    problems.append(f"{outcome}\n{outcome.log}")
        assert stage.stays.running, stage.stays.tail()

    assert stops >= SEEDS
    assert not problems, "\n".join(problems)
