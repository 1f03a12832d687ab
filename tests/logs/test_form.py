"""What a log line looks like, whoever wrote it, and what is never in one."""

import io
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from billing_stream.config.log_settings import LogFormat
from billing_stream.observability.logs import RepeatFilter, formatter

SECRET = "internal-secret-0123456789"


def written(
    form: LogFormat, *, colours: bool = False, name: str = "aiokafka.x", **extra: Any
) -> str:
    """A line that the logger `name` wrote with an error that carries what it should not."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(form, colours=colours, secrets=[SECRET]))
    logger = logging.Logger(name)
    logger.addHandler(handler)
    try:
        raise ValueError(
            f"postgresql://me:open-sesame@db/x anna@anna.example {SECRET} "
            "Bearer eyJhbGciOi.eyJzdWIi.c2ln shpat_0123abcd anna.myshopify.com"
        )
    except ValueError:
        logger.exception("no broker %s", "b:9092", extra=extra)
    return stream.getvalue()


def test_a_line_of_a_library_is_one_json_object_with_the_time_in_utc() -> None:
    with bound_contextvars(correlation_id="c-1"):
        line = written(LogFormat.JSON, partition=3)

    assert line.count("\n") == 1
    found = json.loads(line)
    assert found["event"] == "no broker b:9092"
    assert (found["level"], found["logger"]) == ("error", "aiokafka.x")
    assert (found["partition"], found["correlation_id"]) == (3, "c-1")
    at = datetime.fromisoformat(found["timestamp"])
    assert at.utcoffset() == datetime.now(UTC).utcoffset()
    assert "ValueError" in found["exception"]


@pytest.mark.parametrize("form", list(LogFormat))
def test_secrets_and_addresses_are_taken_out_of_what_a_library_says(form: LogFormat) -> None:
    line = written(form)

    for poison in (SECRET, "open-sesame", "anna@", "eyJ", "shpat_", "anna.myshopify"):
        assert poison not in line
    assert "ValueError" in line
    assert "@db/x" in line


def test_there_are_colours_only_where_they_are_asked_for() -> None:
    assert "\x1b" not in written(LogFormat.CONSOLE)
    assert "\x1b" not in written(LogFormat.JSON, colours=True)
    assert "\x1b" in written(LogFormat.CONSOLE, colours=True)
    assert "[ERROR    ] no broker b:9092 [aiokafka.x]" in written(LogFormat.CONSOLE)


def test_what_is_said_each_second_is_told_at_once_and_then_counted() -> None:
    sparing = RepeatFilter(seconds=10)

    def record(created: float, text: str = "partition 1 is stopped") -> logging.LogRecord:
        made = logging.LogRecord("billing_stream.x", logging.ERROR, "a.py", 7, text, (), None)
        made.created = created
        return made

    records = [record(second) for second in range(25)]

    told = [one for one in records if sparing.filter(one)]
    assert [one.created for one in told] == [0, 10, 20]
    assert [one.__dict__.get("suppressed") for one in told] == [None, 9, 9]
    assert sparing.filter(record(25, "partition 2 is stopped")), "another message is not held back"


def test_what_is_critical_is_always_told() -> None:
    sparing = RepeatFilter(seconds=10)
    record = logging.LogRecord("billing_stream.x", logging.CRITICAL, "a.py", 7, "end", (), None)

    assert all(sparing.filter(record) for _ in range(3))
