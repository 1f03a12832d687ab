"""Who may write what operators decide."""

import pytest

from billing_stream.kafka.acls import Process, acls
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics

TOPICS = Topics("app", "x.")


@pytest.mark.parametrize(
    ("process", "operations"),
    [
        # The lane that decides a version of the catalogue passes it on to the others.
        (Process.WORKER, {"Describe", "DescribeConfigs", "Read", "Write"}),
        (Process.OPERATOR, {"Describe", "DescribeConfigs", "Read", "Write"}),
        (Process.PROJECTOR, set()),
        (Process.TOPICS, {"Create", "Describe", "DescribeConfigs"}),
    ],
)
def test_operators_and_lanes_write_commands_of_operators(
    process: Process, operations: set[str]
) -> None:
    topic = TOPICS.name(names.OPERATOR_COMMANDS)

    found = [acl for acl in acls(process, TOPICS) if acl.name == topic]

    assert {operation for acl in found for operation in acl.operations} == operations
