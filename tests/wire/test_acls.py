"""`billing-stream topics acls` prints what the table says, as lines for kafka-acls."""

import shlex

import pytest

from billing_stream.engine.kafka_log import transactional_ids
from billing_stream.kafka.acls import Process, Resource, acls
from billing_stream.records.topics import Role, Topics
from tests.support.worker import environment, run

TOPICS = Topics("billing-stream", "p.")


@pytest.mark.parametrize("process", list(Process))
async def test_the_lines_are_those_of_the_table(process: Process) -> None:
    env = environment("broker:9093", "p.")

    code, output = await run(env, "topics", "acls", str(process), "--user", "User:CN=one")

    lines = [shlex.split(line) for line in output.splitlines()]
    assert code == 0
    assert len(lines) == len(acls(process, TOPICS))
    for rule, line in zip(acls(process, TOPICS), lines, strict=True):
        assert line[:3] == ["kafka-acls.sh", "--bootstrap-server", "broker:9093"]
        assert line[line.index("--allow-principal") + 1] == "User:CN=one"
        assert line[line.index(f"--{rule.resource}") + 1] == rule.name
        told = [line[at + 1] for at, word in enumerate(line) if word == "--operation"]
        assert told == list(rule.operations)
        assert ("prefixed" in line) == rule.prefixed


def test_a_worker_may_write_what_its_lanes_write_and_not_what_is_upstreams() -> None:
    rules = acls(Process.WORKER, TOPICS)
    written = {rule.name for rule in rules if "Write" in rule.operations}
    (own,) = [rule for rule in rules if rule.resource is Resource.TRANSACTIONAL_ID]

    assert {topic for topic, _ in TOPICS.written_by(3, 8)} <= written
    assert "p.evt.merchant.created.v1" not in written
    assert all(one.startswith(own.name) for one in transactional_ids("p.billing-stream", 7))


def test_a_projector_may_write_nothing_and_nobody_may_delete_or_alter() -> None:
    assert not [r for r in acls(Process.PROJECTOR, TOPICS) if "Write" in r.operations]
    everything = [rule for process in Process for rule in acls(process, TOPICS)]
    allowed = {operation for rule in everything for operation in rule.operations}
    assert allowed == {"Create", "Describe", "DescribeConfigs", "Read", "Write"}
    assert not [rule for rule in everything if rule.resource is Resource.CLUSTER]
    events = {topic.name for topic in TOPICS.all() if topic.role is Role.EVENT}
    assert events <= {rule.name for rule in acls(Process.PROJECTOR, TOPICS)}
