from pathlib import Path

import pytest

from bench import http
from bench.setting import Setting

pytestmark = pytest.mark.full


async def test_purchases_are_measured_at_peak_and_half(kafka: str, folder: Path) -> None:
    setting = Setting(kafka, folder, partitions=8)
    try:
        found = await http.purchases(setting, seconds=1)
    finally:
        await setting.delete_topics()

    assert found["peak_per_s"] > 0
    assert found["per_second"] == max(1, int(found["peak_per_s"] / 2))
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]
