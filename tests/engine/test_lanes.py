"""What the lanes of a worker promise around a rebalance."""

import asyncio
from collections.abc import Collection, Sequence

import pytest

from billing_stream.engine.fatal import EXIT_FENCED, exit_code_of
from billing_stream.engine.lanes import RebalancedAgain
from billing_stream.engine.lease import Lease
from billing_stream.engine.log import Fenced, OnRows, OnTotal, Writer
from billing_stream.engine.losses import LOSSES_MAX
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.processor import BillingProcessor
from billing_stream.records import topics as names
from tests.support.partition import Partition, record
from tests.support.world import M1

CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "a.example"}


async def test_a_lane_adopted_before_a_rebalance_starts_with_the_next_one() -> None:
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


async def test_a_restore_joins_no_more_once_the_partitions_are_revoked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    lanes, join, began = partition.lanes, partition.log.join, asyncio.Event()
    joined: list[Collection[int]] = []

    async def slowly(member: Member, partitions: Collection[int]) -> Writer:
        began.set()
        await asyncio.sleep(0.05)
        joined.append(partitions)
        return await join(member, partitions)

    monkeypatch.setattr(partition.log, "join", slowly)
    restore = asyncio.ensure_future(lanes.restore([0, 1]))
    await began.wait()

    await lanes.pause()
    await asyncio.sleep(0.1)

    assert joined == []
    with pytest.raises(RebalancedAgain):
        await restore
    assert lanes.restoring is None


async def test_all_lanes_write_as_the_member_of_the_last_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    lanes, join, before = partition.lanes, partition.log.join, partition.writer
    joined: list[tuple[Member, list[int]]] = []
    closed = []

    async def note(member: Member, partitions: Collection[int]) -> Writer:
        joined.append((member, sorted(partitions)))
        return await join(member, partitions)

    async def close() -> None:
        closed.append(before)

    monkeypatch.setattr(partition.log, "join", note)
    monkeypatch.setattr(before, "close", close)
    member = Member("app", 7, "one")

    await lanes.pause()
    lanes.adopt(await lanes.restore([3], member))
    lanes.next_epoch()
    lanes.start()

    # The partition that was kept is among them: its lane writes as that, too.
    assert joined == [(member, [0, 3])]
    assert closed == [before]
    assert partition.writer is not before
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    assert M1 in partition.processor.rows.merchants
    assert partition.deaths.causes == []


async def test_a_new_partition_ends_the_old_release_once_and_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = Partition()
    end, restore = partition.log.end_old_release, partition.log.restore
    calls: list[tuple[str, list[int]]] = []

    async def note_end(number: int) -> None:
        calls.append(("end", [number]))
        await end(number)

    async def note_restore(
        partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        calls.append(("read", list(partitions)))
        return await restore(partitions, on_rows, on_total)

    monkeypatch.setattr(partition.log, "end_old_release", note_end)
    monkeypatch.setattr(partition.log, "restore", note_restore)

    await partition.restart()
    # What a worker of 0.5.1 committed until it was fenced is read.
    assert calls == [("read", [0]), ("end", [0]), ("read", [0])]

    await partition.restart()
    assert calls[3:] == [("read", [0])]


async def test_contended_end_of_an_old_release_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    end, contended = partition.log.end_old_release, iter([True, True, False])
    ended: list[int] = []

    async def end_old_release(number: int) -> None:
        if next(contended):
            raise Fenced("another producer has the transactional id")
        ended.append(number)
        await end(number)

    monkeypatch.setattr(partition.log, "end_old_release", end_old_release)

    restored = await partition.lanes.restore([1])

    assert set(restored) == {1}
    assert ended == [1]
    assert next(contended, None) is None


async def test_old_release_that_is_contended_each_time_ends_the_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    tries = 0

    async def contended(number: int) -> None:
        nonlocal tries
        tries += 1
        raise Fenced("another producer has the transactional id")

    monkeypatch.setattr(partition.log, "end_old_release", contended)

    with pytest.raises(ExceptionGroup) as caught:
        await partition.lanes.restore([1])
    assert exit_code_of(caught.value) == EXIT_FENCED
    assert tries == LOSSES_MAX + 1


async def test_contended_end_waits_until_the_group_confirms_the_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    now, tries, refused = 0.0, 0, asyncio.Event()
    lease = partition.lanes._lease = Lease(8.0, lambda: now)
    lease.renew(0.0)
    end = partition.log.end_old_release

    async def once_contended(number: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            refused.set()
            raise Fenced("another producer has the transactional id")
        await end(number)

    monkeypatch.setattr(partition.log, "end_old_release", once_contended)
    restore = asyncio.ensure_future(partition.lanes.restore([1]))
    await refused.wait()
    await asyncio.sleep(0.1)
    assert not restore.done()
    assert tries == 1

    now = 1.0
    lease.renew(now)

    assert set(await asyncio.wait_for(restore, 5)) == {1}
    assert tries == 2


async def test_a_restore_that_is_cancelled_is_no_rebalance(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = await Partition().restart()
    began = asyncio.Event()

    async def never(_: Member, __: Collection[int]) -> Writer:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(partition.log, "join", never)
    restore = asyncio.ensure_future(partition.lanes.restore([0]))
    await began.wait()

    restore.cancel()

    with pytest.raises(asyncio.CancelledError):
        await restore
