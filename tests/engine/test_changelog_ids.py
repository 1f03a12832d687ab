"""A partition does not start with a changelog that was created again behind its back."""

import asyncio

import msgspec
import pytest

from billing_stream.engine.log import CHANGELOGS_KEY
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.kafka.topic_logs import ChangelogIds
from billing_stream.records import topics as names
from billing_stream.records.upcasting.versions import WRITTEN
from tests.support.partition import TOPICS, Partition, record
from tests.support.world import M1

pytestmark = pytest.mark.logs_errors

CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
A = ChangelogIds("k", {table: f"{table}-a" for table in names.TABLES})


def replaced(*tables: str, cluster: str = "k") -> ChangelogIds:
    """The changelogs of these tables are other topics."""
    return ChangelogIds(cluster, {**A.tables, **{table: f"{table}-b" for table in tables}})


async def written() -> Partition:
    """A partition whose changelogs have rows, and the ids of all of them."""
    partition = Partition()
    partition.log.ids = A
    await partition.restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    return partition


async def again(partition: Partition, ids: ChangelogIds) -> str | None:
    """Why the partition does not start with these topics, or None."""
    partition.log.ids = ids
    try:
        await partition.restart()
    except KeyError:
        return partition.lanes.unreadable[0]
    for _ in range(20):
        await asyncio.sleep(0)
    return None


def create_again(partition: Partition, table: str) -> None:
    partition.log.topics[TOPICS.changelog(table), 0] = []


async def test_each_changelog_has_the_ids_of_all_once() -> None:
    partition = await written()

    assert await again(partition, A) is None

    for table in names.TABLES:
        found = [r for r in partition.log.read(TOPICS.changelog(table)) if r.key == CHANGELOGS_KEY]
        assert len(found) == 1, table


async def test_log_of_an_older_release_adopts_the_ids() -> None:
    partition = await Partition().restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))

    assert await again(partition, A) is None
    create_again(partition, names.SHOPS_TABLE)

    assert await again(partition, replaced(names.SHOPS_TABLE)) is not None


@pytest.mark.parametrize("table", names.TABLES)
async def test_changelog_that_was_created_again_is_named(table: str) -> None:
    partition = await written()
    create_again(partition, table)
    if table == names.BILLING_RECORDS:
        # A worker that had not noticed wrote to it.
        await partition.feed(record(names.COMMANDS, 0, b"{"))

    why = await again(partition, replaced(table))

    assert why is not None
    assert f"the changelog of {table} was deleted and created again" in why


async def test_lost_changelog_that_was_accepted_is_read_on() -> None:
    partition = await written()
    create_again(partition, names.SHOPS_TABLE)
    now = replaced(names.SHOPS_TABLE)
    assert await again(partition, now) is not None

    for table in names.TABLES:
        # What `inputs accept-changelog` writes.
        accepted = Outgoing(
            TOPICS.changelog(table), CHANGELOGS_KEY, msgspec.json.encode(now), WRITTEN
        )
        partition.log.append(accepted.topic, 0, accepted)

    assert await again(partition, now) is None


@pytest.mark.parametrize("cluster", ["k", "l"])
async def test_copy_of_all_changelogs_is_read_on(cluster: str) -> None:
    partition = await written()

    assert await again(partition, replaced(*names.TABLES, cluster=cluster)) is None
    assert await again(partition, replaced(*names.TABLES, cluster=cluster)) is None

    assert M1 in partition.processor.rows.merchants


async def test_copy_of_one_changelog_among_others_is_refused() -> None:
    partition = await written()

    why = await again(partition, replaced(names.SHOPS_TABLE))

    assert why is not None
    assert "the changelog of shops is a copy" in why


async def test_table_that_a_release_adds_is_no_loss() -> None:
    partition = Partition()
    partition.log.ids = ChangelogIds("k", {names.BILLING_RECORDS: "a"})
    await partition.restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))

    more = ChangelogIds("k", {names.BILLING_RECORDS: "a", names.SHOPS_TABLE: "b"})

    assert await again(partition, more) is None


async def test_worker_ends_when_a_changelog_is_another_topic_while_it_runs() -> None:
    partition = await written()

    partition.lanes.note_changelogs(A)
    partition.lanes.note_changelogs(ChangelogIds("k", {}))
    assert partition.deaths.causes == []
    partition.lanes.note_changelogs(replaced(names.SHOPS_TABLE))

    assert "changelog of shops was deleted and created again" in partition.deaths.causes[0][0]
