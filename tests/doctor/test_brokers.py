"""What the doctor says of brokers that are away, and of replicas that are not in sync."""

import pytest

from billing_stream.kafka.replicas import Partition, Seen
from billing_stream.ops.doctor.broker_checks import of_brokers, of_partitions
from billing_stream.ops.doctor.finding import Finding, Verdict

THREE = {1: "a:1", 2: "b:2", 3: "c:3"}
NEEDED = {"billing.commands.v1": 2}


def partition(number: int, leader: int, *in_sync: int) -> Partition:
    """A partition of the commands, on brokers 1 to 3."""
    return Partition(
        "billing.commands.v1", number, leader, frozenset({1, 2, 3}), frozenset(in_sync)
    )


def of_replicas(seen: Seen) -> list[Finding]:
    """What is said of the partitions."""
    return list(of_partitions(seen, NEEDED))


def test_brokers_that_all_answer_are_fine() -> None:
    seen = Seen(THREE, {}, [partition(0, 1, 1, 2, 3)])

    assert of_brokers(seen, 3).verdict is Verdict.OK
    assert seen.most
    [finding] = of_replicas(seen)
    assert (finding.verdict, finding.message) == (Verdict.OK, "all in sync, of 1 partitions")


@pytest.mark.parametrize(
    "seen",
    [
        # Killed a moment ago: the others still count it.
        Seen(THREE, {"c:3": "Connection refused"}, [partition(0, 1, 1, 2, 3)]),
        # Later: only its replicas, and the settings, tell of it.
        Seen({1: "a:1", 2: "b:2"}, {"c:3": "Connection refused"}, [partition(0, 1, 1, 2)]),
        # Before there are topics.
        Seen({1: "a:1", 2: "b:2"}, {"c:3": "Connection refused"}, []),
    ],
)
def test_a_broker_that_is_away_is_counted_and_named(seen: Seen) -> None:
    finding = of_brokers(seen, 3)

    assert finding.verdict is Verdict.FAIL
    assert "2 of 3 answer (a:1, b:2); away: c:3: Connection refused" in finding.message
    assert "BILLING_REPLICATION_FACTOR" not in finding.action
    assert seen.most


def test_a_broker_that_left_without_an_address_is_named_by_its_id() -> None:
    seen = Seen({1: "a:1", 2: "b:2"}, {}, [partition(0, 1, 1, 2)])

    assert "2 of 3 answer (a:1, b:2); not in the cluster: broker 3" in of_brokers(seen, 3).message


@pytest.mark.parametrize("known", [THREE, {1: "a:1"}])
def test_one_of_three_brokers_is_not_a_quorum(known: dict[int, str]) -> None:
    away = {"b:2": "no answer", "c:3": "no answer"}

    assert not Seen(known, away, [partition(0, 1, 1, 2, 3)]).most


def test_too_few_brokers_of_which_none_is_away_are_told() -> None:
    finding = of_brokers(Seen({1: "a:1"}, {}, []), 3)

    assert finding.verdict is Verdict.FAIL
    assert "fewer than the 3 replicas" in finding.message


def test_a_replica_that_is_behind_is_a_warning() -> None:
    seen = Seen(THREE, {}, [partition(0, 1, 1, 2), partition(1, 2, 1, 2, 3)])

    [finding] = of_replicas(seen)

    assert finding.verdict is Verdict.WARN
    assert "1 partition (billing.commands.v1[0]) of 2 lack a replica" in finding.message


def test_partitions_that_cannot_be_written_are_a_failure() -> None:
    seen = Seen(THREE, {}, [partition(0, 1, 1)])

    [finding] = of_replicas(seen)

    assert finding.verdict is Verdict.FAIL
    assert "fewer replicas in sync than min.insync.replicas" in finding.message


def test_partitions_without_a_leader_are_a_failure() -> None:
    seen = Seen(THREE, {}, [partition(number, -1, 1, 2) for number in range(5)])

    [finding] = of_replicas(seen)

    assert finding.verdict is Verdict.FAIL
    assert "5 partitions (billing.commands.v1[0]," in finding.message
    assert "without a leader" in finding.message


def test_replicas_of_brokers_out_of_reach_do_not_count_as_in_sync() -> None:
    """Without a quorum the last broker goes on saying what was before."""
    away = {"b:2": "Connection refused", "c:3": "Connection refused"}
    seen = Seen(THREE, away, [partition(0, 1, 1, 2, 3), partition(1, 2, 1, 2, 3)])

    leaderless, few = of_replicas(seen)

    assert "1 partition (billing.commands.v1[1]) without a leader" in leaderless.message
    assert "2 partitions" in few.message
