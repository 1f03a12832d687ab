"""Everything that workers write, projected, and judged by the verifier."""

from functools import partial
from pathlib import Path

import pytest

from billing_stream.records import topics as names
from tests.support.projection import fetch, projector, projector_environment, until
from tests.support.rich_log import projected, write_rich_log
from tests.verify.world import TOPICS

pytestmark = pytest.mark.timeout(180)
# Others may use the machine.
SECONDS_MAX = 120.0


async def test_what_is_committed_stands_in_the_tables_and_the_history(
    kafka: str, folder: Path, postgres_url: str
) -> None:
    copy = await write_rich_log(kafka)

    async with projector(
        projector_environment(kafka, TOPICS.prefix, postgres_url), folder
    ) as process:
        await process.ready(SECONDS_MAX)
        await until(partial(projected, postgres_url, copy), SECONDS_MAX, "projected")
        code = await process.stop()
    report = await copy.verify(database_url=postgres_url)
    history = await fetch(postgres_url, "SELECT * FROM billing_history")
    balances = await fetch(
        postgres_url,
        "SELECT merchant_id FROM billing_records r WHERE total_credits_purchased + "
        "credits_adjusted <> COALESCE((SELECT balance_after FROM billing_history h "
        "WHERE h.merchant_id = r.merchant_id ORDER BY sequence DESC LIMIT 1), 0)",
    )

    assert report.ok, "\n".join(report.lines())
    assert code == 0
    published = [record for kind in names.EVENT_TYPES for record in copy.events(kind)]
    assert {str(row["event_id"]) for row in history} == {r.data["event_id"] for r in published}
    assert len(history) == len(published)
    assert balances == []
    assert await fetch(postgres_url, "SELECT * FROM projection_rejects") == []
    caused = {row["cause"] for row in history}
    assert "timer" in caused
    assert any(cause.endswith("]@0") for cause in caused)
