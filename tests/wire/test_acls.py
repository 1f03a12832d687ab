"""`billing-stream topics acls` prints what the table says, as lines for kafka-acls."""

import itertools
import json
import shlex

import pytest

from billing_stream.engine.kafka_log import old_ids
from billing_stream.kafka.acls import Process, Resource, acls
from billing_stream.kafka.earlier_transactions import member_ids
from billing_stream.kafka.overlapping_apps import overlaps
from billing_stream.records import topics as names
from billing_stream.records.topics import Role, Topics
from tests.support.worker import create_topics, environment, run

TOPICS = Topics("billing-stream", "p.")


@pytest.mark.parametrize("process", list(Process))
async def test_the_lines_are_those_of_the_table(process: Process) -> None:
    env = environment("broker:9093", "p.")
    words = ("topics", "acls", str(process), "--user", "User:CN=one", "--offline")

    code, output = await run(env, *words)

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


@pytest.mark.parametrize(
    ("ours", "theirs", "overlap"),
    [
        ("billing", "billing-staging", True),
        ("billing-staging", "billing", True),
        ("billing", "billing-0", True),
        ("billing", "billing2", False),
        ("billing", "other-billing", False),
        ("billing-eu", "billing-us", False),
    ],
)
async def test_names_that_begin_with_those_of_another_app_are_refused(
    kafka: str, prefix: str, ours: str, theirs: str, overlap: bool
) -> None:
    for app in (ours, theirs):
        await create_topics(environment(kafka, prefix, BILLING_APP_ID=app))
    env = environment(kafka, prefix, BILLING_APP_ID=ours)

    for process in ("worker", "projector", "deliver", "operator", "topics"):
        code, output = await run(env, "topics", "acls", process, "--user", "User:one")
        assert code == (2 if overlap else 0), output
        assert ("kafka-acls.sh" in output) is not overlap
    _, told = await run(env, "doctor", "--json")
    rights = [one for one in json.loads(told) if one["check"] == "rights"]
    assert [one["verdict"] for one in rights] == ["FAIL" if overlap else "OK"]
    if overlap:
        assert f"the names of {prefix}{ours} overlap with those of {prefix}{theirs}" in output
        assert rights[0]["said"] in output


def ids(app: str) -> list[str]:
    """Those under which a worker writes, now and in releases before."""
    return [*member_ids(app, 3, "0" * 32, 2), *old_ids(app, 7)]


def test_an_overlap_by_the_rule_is_one_of_rights() -> None:
    """The rule is checked against the table of rights itself, whichever names there are."""
    apps = ("a", "a-b", "a-b-c", "ab", "a.b", "b", "a-0", "a-0-1", "A")
    for ours, theirs in itertools.permutations(apps, 2):
        own = acls(Process.WORKER, Topics(ours))
        (prefix,) = [one.name for one in own if one.resource is Resource.TRANSACTIONAL_ID]
        covered = any(one.startswith(prefix) for one in ids(theirs))
        back = any(one.startswith(f"{theirs}-") for one in ids(ours))
        topics = [Topics(app).changelog(names.BILLING_RECORDS) for app in (ours, theirs)]
        assert bool(list(overlaps(ours, topics))) is (covered or back), (ours, theirs)


def test_a_worker_may_write_what_its_lanes_write_and_not_what_is_upstreams() -> None:
    rules = acls(Process.WORKER, TOPICS)
    written = {rule.name for rule in rules if "Write" in rule.operations}
    (own,) = [rule for rule in rules if rule.resource is Resource.TRANSACTIONAL_ID]

    assert {topic for topic, _ in TOPICS.written_by(3, 8)} <= written
    assert "p.evt.merchant.created.v1" not in written
    assert all(one.startswith(own.name) for one in ids("p.billing-stream"))


def test_a_projector_may_write_nothing_and_nobody_may_delete_or_alter() -> None:
    assert not [r for r in acls(Process.PROJECTOR, TOPICS) if "Write" in r.operations]
    everything = [rule for process in Process for rule in acls(process, TOPICS)]
    allowed = {operation for rule in everything for operation in rule.operations}
    assert allowed == {"Create", "Describe", "DescribeConfigs", "Read", "Write"}
    assert not [rule for rule in everything if rule.resource is Resource.CLUSTER]
    events = {topic.name for topic in TOPICS.all() if topic.role is Role.EVENT}
    assert events <= {rule.name for rule in acls(Process.PROJECTOR, TOPICS)}
