"""A broker comes back without the end of a log, which is then written on."""

import struct
from pathlib import Path

import pytest

from billing_stream.dev.cluster import Cluster
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.inputs.test_changed_topics_on_kafka import (
    CREATED,
    MERCHANTS,
    PARTITIONS,
    WHY,
    P,
    until_listed,
)
from tests.inputs.test_on_kafka import created, inputs, known, send
from tests.support.audit import Audit
from tests.support.worker import create_topics, environment, worker

pytestmark = pytest.mark.full


def cut(folder: Path, topic: str, batches: int) -> None:
    """Leave so many batches in the log of partition P."""
    (log,) = folder.rglob(f"{topic}-{P}/00000000000000000000.log")
    raw, end = log.read_bytes(), 0
    for _ in range(batches):
        end += 12 + struct.unpack_from(">i", raw, end + 8)[0]
    log.write_bytes(raw[:end])
    for index in log.parent.glob("*index"):
        index.unlink()


@pytest.mark.timeout(300)
async def test_truncated_log_is_read_on_where_it_was_cut_once_accepted(folder: Path) -> None:
    with Cluster(folder / "kafka", kafka=True) as cluster:
        kafka = cluster.bootstrap_servers
        env = environment(kafka, "", BILLING_PARTITIONS=str(PARTITIONS))
        await create_topics(env)
        audit = Audit(kafka, Topics("billing-stream"))
        async with worker(env, folder) as running:
            await send(kafka, CREATED, *map(created, MERCHANTS[:6]))
            await known(audit, MERCHANTS[5])
            cluster.kafka.kill()
            cut(folder / "kafka", CREATED, 3)
            cluster.kafka.start()
            # More than were lost: the position is within the log again.
            await send(kafka, CREATED, *map(created, MERCHANTS[10:15]))
            found = await until_listed(env, CREATED, state="stopped", position=6)
            assert "those from 3 on are gone or hold other records" in found["reason"]
            assert "reading continues at offset 3" in found["reason"]
            assert MERCHANTS[14] not in await audit.table(names.BILLING_RECORDS)

            assert "accepted" in await inputs(env, "accept", *WHY)
            await known(audit, MERCHANTS[14])
            rows = await audit.table(names.BILLING_RECORDS)
            assert set(rows) == {*MERCHANTS[:6], *MERCHANTS[10:15]}
            assert await running.stop() == 0
