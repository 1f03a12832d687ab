"""The examples in the README do what it says."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.support.worker import BIN, create_topics, environment, worker

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    """The examples in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(90)
async def test_the_examples_of_the_http_api_run_as_they_stand(
    kafka: str, prefix: str, folder: Path
) -> None:
    (shell,) = blocks("bash")
    (python,) = blocks("python")
    env = environment(kafka, prefix, APP_ENV="development")
    await create_topics(env)
    async with worker(env, folder) as one:
        (folder / "client.py").write_text(python)
        # The merchant's record takes a moment; a person does too.
        script = f"set -e\n{shell}\nsleep 2\npython {folder / 'client.py'}"
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            script,
            env={**env, "PATH": f"{BIN.parent}:{os.environ['PATH']}", "BILLING_URL": one.url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()

    assert process.returncode == 0, output
    lines = output.splitlines()
    assert "'credits_granted': 500" in lines[1]
    assert lines[2] == "200"
    assert "'status': 'pending'" in lines[3] or "'status': 'completed'" in lines[3]
