"""A command that is told to stop cleans up, and says so by its exit code."""

import signal
import subprocess
import sys

import pytest

COMMAND = """
import asyncio, click, signal
from billing_stream.audit.replay.interruptible import run

# Who starts tests in the background has it ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def work():
    print("begun", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaned up", flush=True)

@click.command()
def command():
    run(work())

command()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_told_to_stop_it_cleans_up(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == code, output
    assert output == "cleaned up\n"
