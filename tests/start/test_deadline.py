"""A start repeats what can pass, until its deadline; all else ends it at once."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import pytest
from aiokafka import errors as kafka

from billing_stream.console.error_messages import error_message
from billing_stream.errors import KafkaNotReady
from billing_stream.kafka.start_deadline import StartDeadline

LONG, SHORT = 60.0, 0.05


class Broker:
    """Answers requests with these errors in turn, then with its name."""

    def __init__(self, *errors: Exception) -> None:
        self.errors: Sequence[Exception] = errors
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        if self.asked <= len(self.errors):
            raise self.errors[self.asked - 1]
        return "answer"


def wrapped(error: Exception) -> Exception:
    """As aiokafka's producer passes on what it did not expect of a coordinator."""
    outer: Exception = kafka.KafkaError(repr(error))
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        kafka.GroupCoordinatorNotAvailableError(),
        kafka.GroupLoadInProgressError(),
        kafka.NotCoordinatorForGroupError(),
        kafka.LeaderNotAvailableError(),
        kafka.NotLeaderForPartitionError(),
        kafka.NotControllerError(),
        kafka.ConcurrentTransactions(),
        kafka.NodeNotReadyError(),
        kafka.RequestTimedOutError(),
        wrapped(kafka.GroupLoadInProgressError()),
    ],
    ids=repr,
)
async def test_what_can_pass_is_retried_and_named_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(error, error)

    with caplog.at_level(logging.WARNING):
        answer = await StartDeadline(LONG).retry("the coordinator of group app", broker.ask)

    assert (answer, broker.asked) == ("answer", 3)
    (line,) = [
        r.getMessage() for r in caplog.records if r.name == "billing_stream.kafka.start_deadline"
    ]
    assert "for the coordinator of group app" in line
    assert str(error) in line


@pytest.mark.parametrize(
    "error",
    [
        kafka.KafkaConnectionError("Unable to bootstrap"),
        kafka.UnknownTopicOrPartitionError("topic"),
        kafka.GroupAuthorizationFailedError("group"),
        kafka.TransactionalIdAuthorizationFailed("id"),
        kafka.UnsupportedVersionError(),
        wrapped(kafka.InvalidTransactionTimeout()),
    ],
    ids=repr,
)
async def test_what_no_waiting_changes_is_an_error_at_once(error: Exception) -> None:
    broker = Broker(error)

    with pytest.raises(type(error)):
        await StartDeadline(LONG).retry("a broker", broker.ask)

    assert broker.asked == 1


async def test_broker_that_goes_away_after_an_answer_is_awaited() -> None:
    deadline = StartDeadline(LONG)
    await deadline.retry("the list of topics", Broker().ask)
    restarts = Broker(kafka.KafkaConnectionError("connection refused"))

    assert await deadline.retry("a broker", restarts.ask) == "answer"


async def hang() -> None:
    await asyncio.Event().wait()


async def unavailable() -> None:
    raise kafka.GroupCoordinatorNotAvailableError


@pytest.mark.parametrize(
    ("request_", "reason"),
    [(unavailable, "GroupCoordinatorNotAvailableError"), (hang, "no answer")],
    ids=["unavailable", "hangs"],
)
async def test_deadline_ends_the_wait_with_what_was_awaited(
    request_: Callable[[], "asyncio.Future[None]"], reason: str
) -> None:
    with pytest.raises(KafkaNotReady) as caught:
        await StartDeadline(SHORT).retry("the coordinator of group app", request_)

    message = error_message(caught.value)
    assert message is not None
    assert "the coordinator of group app is not available after 0.05 s" in message
    assert reason in message
    assert "BILLING_START_DEADLINE" in message


async def test_all_requests_of_a_start_share_its_deadline() -> None:
    deadline = StartDeadline(SHORT)
    with pytest.raises(KafkaNotReady):
        await deadline.retry("a broker", hang)

    with pytest.raises(KafkaNotReady, match="the list of topics"):
        await deadline.retry("the list of topics", hang)


async def test_timeout_of_the_request_itself_is_passed_on() -> None:
    with pytest.raises(TimeoutError):
        await StartDeadline(LONG).retry("a broker", Broker(TimeoutError()).ask)


@pytest.mark.parametrize(
    "error",
    [e for e in vars(kafka).values() if isinstance(e, type) and getattr(e, "retriable", False)],
)
def test_retriable_error_is_never_reported_as_a_fault(error: type[kafka.KafkaError]) -> None:
    assert error_message(error()) is not None
