"""A clock that is never far ahead of the brokers' time, and says when the machine's is wrong."""

from datetime import UTC, datetime, timedelta

import pytest

from billing_stream.domain.commands import CreateMerchant, StartTrial
from billing_stream.engine.broker_time import AHEAD_MAX, BrokerTime
from billing_stream.engine.partition_processor import Request
from tests.support.partition import START, Partition
from tests.support.world import M1

DAYS_20 = timedelta(days=20)


class Machine:
    """A machine whose wall clock is off by `error`, next to brokers whose clock is right."""

    def __init__(self, error: timedelta = timedelta()) -> None:
        self.error = error
        self.passed = timedelta()
        self.clock = BrokerTime(lambda: self.truth + self.error, self.monotonic)

    @property
    def truth(self) -> datetime:
        """The brokers' time."""
        return START + self.passed

    def monotonic(self) -> float:
        """Seconds since this machine was started."""
        return 1000.0 + self.passed.total_seconds()

    def transaction(self, seconds: float = 0.02) -> None:
        """A transaction that takes so long; the broker notes its middle."""
        since = self.monotonic()
        started = self.truth + timedelta(seconds=seconds / 2)
        self.passed += timedelta(seconds=seconds)
        self.clock.note(int(started.timestamp() * 1000), since)


@pytest.mark.parametrize("error", [DAYS_20, timedelta(seconds=30)])
def test_clock_that_is_ahead_counts_as_the_brokers_time_and_a_little(error: timedelta) -> None:
    machine = Machine(error)
    machine.transaction()

    assert (
        machine.truth <= machine.clock.now() <= machine.truth + AHEAD_MAX + timedelta(seconds=0.1)
    )
    assert machine.clock.ahead is not None
    assert abs(machine.clock.ahead - error) < timedelta(seconds=0.1)
    assert "ahead of the brokers'" in (machine.clock.wrong or "")


@pytest.mark.parametrize("error", [timedelta(), timedelta(seconds=2), timedelta(seconds=-2)])
def test_clock_that_is_right_is_not_changed(error: timedelta) -> None:
    machine = Machine(error)
    for _ in range(50):
        machine.transaction()
        machine.passed += timedelta(hours=1)
        assert machine.clock.now() == machine.truth + error
        assert machine.clock.wrong is None


def test_clock_that_is_behind_stays_behind_and_is_reported() -> None:
    machine = Machine(-DAYS_20)
    machine.transaction()

    assert machine.clock.now() == machine.truth - DAYS_20
    assert "1728000 s behind the brokers': timers are late" in (machine.clock.wrong or "")


def test_clock_that_jumps_after_the_last_transaction_is_noticed() -> None:
    machine = Machine()
    machine.transaction()
    machine.passed += timedelta(hours=3)
    machine.error = DAYS_20

    assert machine.clock.now() < machine.truth + timedelta(minutes=1)
    assert machine.clock.wrong is not None


def test_slow_transaction_neither_hides_nor_invents_a_wrong_clock() -> None:
    machine = Machine()
    machine.transaction(seconds=50)
    assert (machine.clock.wrong, machine.clock.now()) == (None, machine.truth)

    machine.transaction()
    machine.transaction(seconds=50)
    machine.error = timedelta(seconds=20)
    assert machine.clock.wrong is not None


def test_brokers_whose_clock_is_corrected_are_followed() -> None:
    machine = Machine()
    machine.transaction()
    machine.clock.note(int((machine.truth - DAYS_20).timestamp() * 1000), machine.monotonic())
    assert machine.clock.now() < machine.truth - DAYS_20 + timedelta(seconds=6)

    machine.transaction()
    assert machine.clock.now() == machine.truth


def test_before_the_first_transaction_nothing_is_known() -> None:
    machine = Machine(DAYS_20)

    assert (machine.clock.ahead, machine.clock.wrong, machine.clock.due) == (None, None, True)
    machine.transaction()
    assert not machine.clock.due
    machine.passed += timedelta(minutes=1)
    assert machine.clock.due


async def test_worker_with_a_clock_ahead_ends_no_trial_early() -> None:
    machine, partition = Machine(DAYS_20), Partition()
    machine.transaction()
    partition.clock = machine.clock.now
    await partition.restart()

    async def ask(command: CreateMerchant | StartTrial) -> None:
        await partition.lane.ask(Request(command, "http", "c-1"))

    await ask(CreateMerchant(M1, "shopify", "a.example", "create"))
    await ask(StartTrial(M1))
    (started,) = partition.events("trial.started")
    ends_at = datetime.fromisoformat(started["data"]["ends_at"]).astimezone(UTC)
    assert machine.truth + timedelta(days=14) <= ends_at <= machine.truth + timedelta(days=14.01)

    for _ in range(27):
        machine.passed += timedelta(hours=12)
        machine.transaction()
        partition.lane.wake_if_due()
        await ask(StartTrial(M1, idempotency_key=str(machine.passed)))
        assert partition.events("trial.expired") == []
    machine.passed += timedelta(hours=13)
    machine.transaction()
    partition.lane.wake_if_due()
    await ask(StartTrial(M1, idempotency_key="last"))
    assert len(partition.events("trial.expired")) == 1
