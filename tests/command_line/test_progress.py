"""Who looks sees how far it is; a log gets a line now and then; results stay alone on stdout."""

import errno
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from billing_stream.console import progress
from tests.support.worker import BIN

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# As a command of ours does it, in no time instead of many seconds.
SCRIPT = """
import billing_stream.console.progress as progress
progress.QUIET_SECONDS = progress.LINE_SECONDS = progress.REDRAW_SECONDS = {seconds}
with progress.progress() as show:
    show("reading", 5, 10)
    show("reading", 10, 10)
    show("replaying", 1, 2_000)
print("the result")
"""


def at_a_terminal(command: list[str], **env: str) -> tuple[str, str]:
    """What a command prints, and what a terminal gets that is its standard error."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=theirs, text=True
        )
        os.close(theirs)
        out, _ = done.communicate(timeout=60)
        return out, all_of(ours)
    finally:
        os.close(ours)


def all_of(terminal: int) -> str:
    """What came, up to the end of whoever wrote it."""
    came = b""
    while True:
        try:
            some = os.read(terminal, 65536)
        except OSError as error:
            # Linux says so when nobody writes to it any more.
            if error.errno != errno.EIO:
                raise
            some = b""
        if not some:
            return came.decode()
        came += some


def script(seconds: float) -> list[str]:
    return [sys.executable, "-c", SCRIPT.format(seconds=seconds)]


def test_a_terminal_gets_a_bar_for_each_thing_and_none_of_it_stays() -> None:
    out, shown = at_a_terminal(script(0), TERM="xterm")

    assert out == "the result\n"
    assert re.search(r"reading.*5/10", shown)
    assert re.search(r"replaying.*1/2000", shown)
    assert shown.endswith("\x1b[?25h\r\x1b[1A\x1b[2K"), "the cursor is back, the line is wiped"
    assert not COLOUR.search(shown)


def test_what_is_soon_over_shows_nothing() -> None:
    assert at_a_terminal(script(60), TERM="xterm") == ("the result\n", "")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_elsewhere_there_are_plain_lines(term: str) -> None:
    if term == "dumb":
        out, shown = at_a_terminal(script(0), TERM=term)
        shown = shown.replace("\r\n", "\n")
    else:
        done = subprocess.run(script(0), capture_output=True, text=True)
        out, shown = done.stdout, done.stderr

    assert out == "the result\n"
    assert shown == "reading: 5 of 10\nreading: 10 of 10\nreplaying: 1 of 2,000\n"


def test_a_line_is_not_said_for_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress() as show:
        for done in range(10_000):
            show("reading", done, 10_000)

    assert capsys.readouterr().err == ""


def test_a_total_that_grows_and_a_count_that_falls_are_drawn_as_they_are() -> None:
    lines = (
        '    show("reading", 5, 10)\n    show("reading", 6, 20)\n    show("reading", 2, 20)\n'
        '    show("reading", 0, 0)'
    )
    code = SCRIPT.format(seconds=0).replace('    show("reading", 5, 10)', lines)

    _, shown = at_a_terminal([sys.executable, "-c", code], TERM="xterm")

    for text in ("5/10", "6/20", "2/20", "0/1"):
        assert text in shown


def test_waiting_says_for_how_long_and_is_wiped() -> None:
    code = (
        "import time, billing_stream.console.progress as progress\n"
        "progress.QUIET_SECONDS = 0\n"
        "with progress.waiting('waiting for a worker'):\n"
        "    while not progress.drawn.wait(0.01): pass\n"
    )
    code = code.replace(
        "with progress",
        "import threading\n"
        "progress.drawn, draw = threading.Event(), progress._draw\n"
        "def drawn(*given):\n    draw(*given)\n    progress.drawn.set()\n"
        "progress._draw = drawn\n"
        "with progress",
    )

    _, shown = at_a_terminal([sys.executable, "-c", code], TERM="xterm")

    assert "waiting for a worker, 0 s" in shown
    assert shown.endswith("\x1b[1A\x1b[2K")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_doctor_is_coloured_on_a_terminal_only_and_not_with_no_color(
    no_color: str, tmp_path: Path
) -> None:
    env = {
        "APP_ENV": "test",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "CLIENT_JWT_SECRET": "c" * 32,
        "INTERNAL_JWT_SECRET": "i" * 32,
        "BILLING_DATA_DIR": str(tmp_path),
        "NO_COLOR": no_color,
        "TERM": "xterm",
    }
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen([BIN, "doctor"], env={**os.environ, **env}, stdout=theirs)
        os.close(theirs)
        shown = all_of(ours)
        assert process.wait() == 1
    finally:
        os.close(ours)
    piped = subprocess.run([BIN, "doctor"], env={**os.environ, **env}, capture_output=True)

    assert "FAIL" in shown
    assert bool(COLOUR.search(shown)) is (no_color == "")
    assert not COLOUR.search(piped.stdout.decode())
