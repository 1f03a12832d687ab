"""Whatever partitions topics have, all that a lane reads is on the worker with its rows."""

from collections import defaultdict
from typing import Any, cast

import pytest
from faust.types import TP

from billing_stream.app import build
from billing_stream.config.settings import Settings
from billing_stream.config.shared_settings import shared_settings
from billing_stream.kafka.group_members import member_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.ports import free_port
from tests.support.worker import environment

LANES = 4
TOPICS = Topics("billing-stream", "x.")
CHANGELOGS = [TOPICS.changelog(table) for table in names.TABLES]
SUBSCRIBED = {*TOPICS.inputs(), *CHANGELOGS}


class Cluster:
    """Numbers of partitions, as a client knows them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(lambda: LANES)

    def partitions_for_topic(self, topic: str) -> set[int]:
        """The partitions of a topic."""
        return set(range(self.counts[topic]))


def member() -> Any:
    """The assignor of a worker that is not started."""
    port = str(free_port())
    env = environment("127.0.0.1:1", "x.", BILLING_API_EXTERNAL_PORT=port)
    return cast(Any, build(Settings.model_validate(env)).faust.assignor)


def rebalance(cluster: Cluster, members: list[Any]) -> list[set[TP]]:
    """What each has after the first of them has assigned."""
    told = {str(n): one.metadata(SUBSCRIBED) for n, one in enumerate(members)}
    for name, assignment in members[0].assign(cluster, told).items():
        members[int(name)].on_assignment(assignment)
    return [one.assigned_actives() for one in members]


def require_together(cluster: Cluster, assigned: list[set[TP]]) -> None:
    """Each partition of an input once, on the worker that has the rows of its lane."""
    every = sorted(tp for tps in assigned for tp in tps)
    inputs = [TP(t, p) for t in TOPICS.inputs() for p in range(cluster.counts[t])]
    assert every == sorted([*inputs, *(TP(t, p) for t in CHANGELOGS for p in range(LANES))])
    for tps in assigned:
        lanes = {tp.partition for tp in tps if tp.topic in CHANGELOGS}
        assert {tp.partition % LANES for tp in tps} == lanes


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_added_partitions_are_on_the_worker_of_their_lane(workers: int) -> None:
    cluster, members = Cluster(), [member() for _ in range(workers)]
    before = rebalance(cluster, members)
    require_together(cluster, before)

    cluster.counts.update({TOPICS.inputs()[0]: 11, TOPICS.inputs()[3]: 5, CHANGELOGS[0]: 9})
    grown = rebalance(cluster, members)
    require_together(cluster, grown)
    assert [tps & old for tps, old in zip(grown, before, strict=True)] == before, "nothing moved"

    cluster.counts[TOPICS.inputs()[1]] = 30
    require_together(cluster, rebalance(cluster, [*members, member()]))
    if workers > 1:
        require_together(cluster, rebalance(cluster, members[1:]))


def test_member_gives_hashes_of_its_settings_to_the_group() -> None:
    given = member().metadata(SUBSCRIBED)
    found = member_of("client", "/host", given.encode())

    expected = shared_settings(Settings.model_validate(environment("127.0.0.1:1", "x.")))
    assert found.settings == expected
    assert member_of("console", "/10.0.0.1", b"\x00\x00").settings is None
    assert member_of("console", "/10.0.0.1", b"").name == "console at /10.0.0.1"
