"""What the README shows runs as it is printed, and nothing else is needed."""

import asyncio
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from billing_stream.dev.cluster import Cluster
from tests.documents.tutorial import Shell, reader
from tests.support.worker import BIN, create_topics, environment, run, worker

README = (Path(__file__).parent.parent / "README.md").read_text()
SOLD = "Anna has 100 credits"


def blocks(language: str) -> list[str]:
    """The examples in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@contextmanager
def terminal(shell: Shell, commands: str) -> Iterator["subprocess.Popen[str]"]:
    """A terminal in the folder of the reader's shell, with commands that do not end."""
    process = subprocess.Popen(
        # Ctrl-C in a terminal reaches what runs in the foreground.
        ["bash", "-c", commands.replace("\n.venv", "\nexec .venv")],
        cwd=shell.folder,
        env={**shell.env, "BILLING_API_EXTERNAL_PORT": shell.port},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.full
@pytest.mark.timeout(300)
def test_quick_start_ends_with_credits_and_stops_its_servers() -> None:
    start, buy = blocks("bash")
    (delete,) = re.findall(r"`([^`]+ dev down --delete)`", README)
    with reader() as shell, terminal(shell, start) as first:
        (shell.folder / "buy.py").write_text(blocks("python")[0])
        assert first.stdout is not None
        said = []
        for line in first.stdout:
            said.append(line)
            if line.startswith("Ready."):
                break
        assert said[-1].startswith("Ready."), "".join(said)
        shell.run("export BILLING_URL=http://127.0.0.1:8000")
        code, output = shell.run(buy)
        assert (code, output.strip()) == (0, SOLD), output
        first.send_signal(signal.SIGINT)
        output = first.communicate()[0]
        assert first.returncode == 0, output
        assert not (shell.folder / ".data" / "dev.env").exists()
        assert not Cluster(shell.folder / ".data").running()
        code, output = shell.run(delete)
        assert code == 0, output
        assert not (shell.folder / ".data" / "kafka").exists()


async def test_python_example_ends_with_credits(kafka: str, prefix: str, folder: Path) -> None:
    env = environment(kafka, prefix, APP_ENV="development")
    await create_topics(env)
    async with worker(env, folder) as one:
        assert (await run(env, "dev", "merchant", "anna.example"))[0] == 0
        code, token = await run(env, "dev", "token", "anna.example")
        assert code == 0, token
        (folder / "buy.py").write_text(blocks("python")[0])
        process = await asyncio.create_subprocess_exec(
            str(BIN.parent / "python"),
            str(folder / "buy.py"),
            env={**env, "BILLING_URL": one.url, "TOKEN": token.strip()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()

    assert (process.returncode, output.strip()) == (0, SOLD), output


def test_two_commands_are_enough_to_see_and_to_test_it() -> None:
    assert re.search(r"^make demo +# .*\nmake test +# ", README, re.MULTILINE)
