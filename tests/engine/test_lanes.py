"""What the lanes of a worker promise around a rebalance."""

import asyncio
from collections.abc import Sequence

import pytest

from billing_stream.engine.fatal import EXIT_FENCED, exit_code_of
from billing_stream.engine.lanes import RebalancedAgain
from billing_stream.engine.log import Fenced, OnRows, OnTotal, Writer
from billing_stream.engine.losses import LOSSES_MAX
from billing_stream.processor import BillingProcessor
from billing_stream.records import topics as names
from tests.support.partition import Partition, record
from tests.support.world import M1

CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "a.example"}


async def test_a_lane_adopted_before_another_rebalance_starts_with_the_next_recovery() -> None:
    partition = await Partition().restart()
    adopted = await partition.lanes.restore([0])
    await partition.lanes.drop([0])
    partition.lanes.adopt(adopted)
    partition.lane = adopted[0]
    # Here the assignment changed again, and the partition stayed.
    partition.lanes.next_epoch()
    partition.lanes.start()

    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))

    assert M1 in partition.processor.rows.merchants


async def test_lanes_are_ready_only_while_they_commit() -> None:
    partition = await Partition().restart()
    assert partition.lanes.ready

    await partition.lanes.pause()
    assert not partition.lanes.ready

    partition.lanes.next_epoch()
    partition.lanes.start()
    assert partition.lanes.ready


async def test_a_kept_partition_is_not_read_again() -> None:
    partition = await Partition().restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    kept = partition.lane

    restored = await partition.lanes.restore(set())

    assert restored == {}
    assert partition.lanes[0] is kept


async def test_how_far_a_restore_is_can_be_seen_while_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    lanes, read, go = partition.lanes, asyncio.Event(), asyncio.Event()

    async def slowly(_: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None) -> int:
        assert on_total is not None
        on_total(3)
        on_rows(0, names.SHOPS_TABLE, [(b"shopify:a.example", M1.encode())])
        on_rows(0, names.SHOPS_TABLE, [(b"shopify:b.example", M1.encode())])
        read.set()
        await go.wait()
        return 2

    monkeypatch.setattr(partition.log, "restore", slowly)
    assert lanes.restoring is None

    restore = asyncio.ensure_future(lanes.restore([0]))
    await read.wait()
    seen = lanes.restoring

    assert seen is not None
    assert (seen.partitions, seen.records, seen.at_most) == ((0,), 2, 3)
    assert seen.seconds >= 0
    go.set()
    restored = await restore
    assert lanes.restoring is None
    processor = restored[0].processor
    assert isinstance(processor, BillingProcessor)
    assert len(processor.rows.shops) == 2


async def test_a_restore_fences_nothing_more_once_the_partitions_are_revoked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    lanes, fence, began = partition.lanes, partition.log.fence, asyncio.Event()
    fenced: list[int] = []

    async def slowly(number: int) -> Writer:
        began.set()
        await asyncio.sleep(0.05)
        fenced.append(number)
        return await fence(number)

    monkeypatch.setattr(partition.log, "fence", slowly)
    restore = asyncio.ensure_future(lanes.restore([0, 1]))
    await began.wait()

    await lanes.pause()
    await asyncio.sleep(0.1)

    assert fenced == []
    with pytest.raises(RebalancedAgain):
        await restore
    assert lanes.restoring is None


async def test_a_fence_that_another_worker_ends_is_taken_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    fence, fenced = partition.log.fence, iter([True, True, False])

    async def contended(number: int) -> Writer:
        if next(fenced):
            raise Fenced("another producer has the transactional id")
        return await fence(number)

    monkeypatch.setattr(partition.log, "fence", contended)

    restored = await partition.lanes.restore([0])

    assert set(restored) == {0}
    assert next(fenced, None) is None


async def test_a_fence_that_another_worker_ends_each_time_ends_the_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    tries = 0

    async def contended(number: int) -> Writer:
        nonlocal tries
        tries += 1
        raise Fenced("another producer has the transactional id")

    monkeypatch.setattr(partition.log, "fence", contended)

    with pytest.raises(ExceptionGroup) as caught:
        await partition.lanes.restore([0])
    assert exit_code_of(caught.value) == EXIT_FENCED
    assert tries == LOSSES_MAX + 1


async def test_a_restore_that_is_cancelled_is_no_rebalance(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = await Partition().restart()
    began = asyncio.Event()

    async def never(_: int) -> Writer:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(partition.log, "fence", never)
    restore = asyncio.ensure_future(partition.lanes.restore([0]))
    await began.wait()

    restore.cancel()

    with pytest.raises(asyncio.CancelledError):
        await restore
