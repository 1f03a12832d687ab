"""The verifier names inputs whose log is not the one that was read, as workers do."""

from typing import Any

import pytest

from billing_stream.audit.verify.changed_logs import difference
from billing_stream.engine.input_logs import Changed, judge
from billing_stream.kafka.topic_logs import FoundLog, LogMark
from tests.engine.test_input_logs import AT, CHANGES, SAME

MARK = LogMark("k", "A", 5, AT + 5)


@pytest.mark.parametrize("change", CHANGES)
def test_change_that_stops_an_input_is_a_fault(change: str) -> None:
    found, _, _ = CHANGES[change]

    assert isinstance(judge(6, MARK, found), Changed)
    assert difference(6, MARK, found) is not None


@SAME
def test_log_that_is_read_on_is_no_fault(found: FoundLog) -> None:
    assert difference(6, MARK, found) is None


@pytest.mark.parametrize("mark", [LogMark("k", "A"), LogMark("k", "A", 2, AT + 2)])
@pytest.mark.parametrize(
    "log",
    [
        {"begin": 3, "end": 9},
        {"begin": 6, "end": 6},
        {"begin": 7, "end": 9},
        {"begin": 3, "end": 5},
        {"begin": 3, "end": 9, "topic_id": "B"},
        {"begin": 3, "end": 9, "topic_id": "B", "cluster": "l"},
    ],
)
def test_verifier_and_workers_agree_without_a_record_to_compare(
    log: dict[str, Any], mark: LogMark
) -> None:
    found = FoundLog(**{"cluster": "k", "topic_id": "A", **log})

    stops = isinstance(judge(6, mark, found), Changed)

    assert (difference(6, mark, found) is not None) == stops
