"""A process that does not stop is ended, and its log lists all that still ran."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable

import pytest
from mode import Service

from billing_stream.errors import EXIT_FATAL
from billing_stream.faust_adapter.unfinished import describe, finish, unfinished

STUCK = """
import asyncio, time
from billing_stream.faust_adapter.unfinished import end_hard_after

async def never_ends():
    await asyncio.Event().wait()

async def main():
    task = asyncio.create_task(never_ends(), name="a task of the test")
    await asyncio.sleep(0)
    end_hard_after(0.1, asyncio.get_running_loop())
    {wait}

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "wait", ["await task", "time.sleep(600)"], ids=["loop runs", "loop is stuck"]
)
def test_a_stuck_process_ends_with_70_and_says_where(wait: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK.format(wait=wait)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == EXIT_FATAL
    assert "a task of the test: never_ends:6 > Event.wait" in done.stderr
    assert "thread MainThread" in done.stderr


def test_a_process_that_ends_in_time_is_not_ended() -> None:
    script = STUCK.format(wait="task.cancel()").replace("(0.1", "(600")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


class Held(Service):
    """Its stop does not end before `go_on`."""

    def __post_init__(self) -> None:
        self.go_on = asyncio.Event()

    async def on_stop(self) -> None:
        await self.go_on.wait()


class Parent(Service):
    """With two children, of which the second is stopped first, and does not end."""

    def on_init_dependencies(self) -> list[Service]:
        self.held = Held(beacon=self.beacon)
        return [Service(beacon=self.beacon), self.held]


async def test_the_service_that_holds_up_a_stop_is_in_the_list() -> None:
    parent = Parent()
    await parent.start()
    stopping = asyncio.create_task(parent.stop(), name="the stop")
    await asyncio.sleep(0.01)
    lines = await asyncio.to_thread(unfinished, asyncio.get_running_loop(), parent)
    parent.held.go_on.set()
    await stopping

    assert any("Held.on_stop" in line for line in lines)
    assert [line for line in lines if line.startswith("service")] == ["service Service"]
    assert any(line.startswith("thread MainThread") for line in lines)


async def cancelled() -> None:
    raise asyncio.CancelledError


async def failing() -> None:
    raise OSError("gone")


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("work", "logged"),
    [(cancelled, "it was cancelled"), (failing, "it failed: OSError('gone')"), (never, "never:")],
)
async def test_work_that_does_not_finish_is_logged_not_raised(
    work: "type[Awaitable[None]]", logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    await finish(work(), 0.05, "it")

    assert logged in caplog.text


async def test_a_future_that_is_no_task_is_described_too() -> None:
    assert "Future pending" in describe(asyncio.get_running_loop().create_future())
