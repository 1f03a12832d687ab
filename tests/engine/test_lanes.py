"""What the lanes of a worker promise around a rebalance."""

from billing_stream import topics as names
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
