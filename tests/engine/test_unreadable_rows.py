"""A changelog record that makes no sense: its partition does not start, and it is named."""

from functools import partial
from typing import Any

import pytest

from billing_stream.domain.policy import Policy
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.watchdog import Watchdog
from billing_stream.errors import NewerState
from billing_stream.observability.metrics.worker_state import Lags, WorkerState
from billing_stream.processor import BillingLanes, BillingProcessor
from billing_stream.records import topics as names
from billing_stream.records.unreadable import unreadable
from billing_stream.records.upcasting.versions import WRITTEN
from tests.support.memory_log import MemoryLog
from tests.support.partition import TOPICS
from tests.support.world import M1

pytestmark = pytest.mark.logs_errors

ROW = b'{"merchant_id":"%s"}' % M1.encode()
MERCHANTS, PURCHASES, SHOPS = (
    TOPICS.changelog(table)
    for table in (names.BILLING_RECORDS, names.CREDIT_PURCHASES, names.SHOPS_TABLE)
)
ODD_NAME = unreadable("the name of a header is not UTF-8: 'x'", WRITTEN)


async def restored(*records: Outgoing, partition: int = 1) -> BillingLanes:
    """Lanes of partitions 0 to 2, with these records in one of them."""
    log = MemoryLog({table: TOPICS.changelog(table) for table in names.TABLES})
    for number in range(3):
        log.append(MERCHANTS, number, Outgoing(MERCHANTS, b"\0position/in", b"5", WRITTEN))
    for one in records:
        log.append(one.topic, partition, one)
    processors = partial(
        BillingProcessor, partitions=3, policy=Policy(), names=TOPICS, max_record_bytes=100_000
    )
    lanes = Lanes(log, processors, positions_topic=MERCHANTS)
    lanes.adopt(await lanes.restore([0, 1, 2]))
    lanes.next_epoch()
    lanes.start()
    return lanes


@pytest.mark.parametrize(
    ("bad", "place", "why"),
    [
        (Outgoing(MERCHANTS, b"m", b"text", WRITTEN), 1, "JSON is malformed"),
        (Outgoing(MERCHANTS, b"m", b'{"before": {}}', WRITTEN), 1, "missing required field"),
        (Outgoing(MERCHANTS, None, ROW, WRITTEN), 1, "it has no key"),
        (Outgoing(MERCHANTS, b"\0position/in", b"x", WRITTEN), 1, "invalid literal"),
        (Outgoing(MERCHANTS, M1.encode(), ROW, ODD_NAME), 1, "name of a header is not UTF-8"),
        (Outgoing(PURCHASES, b"p", b"[]"), 0, "Expected `object`"),
        (Outgoing(PURCHASES, b"p", b'{"a": 1}'), 0, ""),
        (Outgoing(SHOPS, b"a:b", b"\xff", WRITTEN), 0, "codec can't decode"),
    ],
)
async def test_unreadable_row_keeps_its_partition_from_starting(
    bad: Outgoing, place: int, why: str
) -> None:
    lanes = await restored(bad, Outgoing(MERCHANTS, M1.encode(), ROW, WRITTEN))

    assert sorted(lanes) == [0, 2]
    assert lanes[2].positions == {"in": 5}
    told = lanes.unreadable[1]
    assert f"{bad.topic}[1]@{place} cannot be read" in told
    assert why in told
    watchdog = Watchdog(lanes, die=lambda *_: None)
    (problem,) = watchdog.problems()
    assert problem == f"partition 1 does not start: {told}"
    assert gauge(watchdog, "billing_partition_not_started") == {"1": 1}
    await lanes.drop(set(lanes))


def gauge(watchdog: Watchdog, name: str) -> dict[str, float]:
    """The values of a metric by partition, as Prometheus gets them."""
    state = WorkerState(watchdog, partitions=3, ask_lags=lambda: Lags({}, 0.0))
    return {
        sample.labels["partition"]: sample.value
        for family in state.collect()
        for sample in family.samples
        if sample.name == name
    }


async def test_partition_starts_at_the_next_restore_once_it_is_repaired() -> None:
    lanes = await restored(Outgoing(MERCHANTS, b"m", b"text", WRITTEN))
    lanes._log.topics[MERCHANTS, 1].pop()  # type: ignore[attr-defined]
    lanes.adopt(await lanes.restore([1]))
    assert sorted(lanes) == [0, 1, 2]
    assert lanes.unreadable == {}
    await lanes.drop(set(lanes))


async def test_row_of_a_newer_release_ends_the_worker() -> None:
    with pytest.raises(NewerState, match=r"\[1\]@1 is of state version 99"):
        await restored(Outgoing(MERCHANTS, b"m", b"{}", (("state", b"99"),)))


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk")])
async def test_trouble_of_the_store_ends_the_worker(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr("billing_stream.processor.BillingProcessor.restore", broken)
    with pytest.raises(type(error)):
        await restored()
