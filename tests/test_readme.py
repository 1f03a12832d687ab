"""What the README shows runs as it is printed, and nothing else is needed."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.documents.tutorial import reader
from tests.support.worker import BIN, create_topics, environment, run, worker

README = (Path(__file__).parent.parent / "README.md").read_text()
SOLD = "Anna has 100 credits"


def block(language: str) -> str:
    """The one example in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_quick_start_ends_with_credits_and_stops_its_servers() -> None:
    (stop,) = re.findall(r"^Stop with `([^`]+)`", README, re.MULTILINE)
    with reader() as shell:
        (shell.folder / "buy.py").write_text(block("python"))
        # Another port than a reader's, and so another address for buy.py.
        shell.run("export BILLING_API_EXTERNAL_PORT=8000 BILLING_URL=http://127.0.0.1:8000")
        code, output = shell.run(block("bash"))
        assert code == 0, output
        code, output = shell.run("python buy.py")
        assert (code, output.strip()) == (0, SOLD), output
        code, output = shell.run(stop)
        assert code == 0, output
        assert "stopped kafka\n" in output
        assert not (shell.folder / ".data" / "kafka").exists()


async def test_python_example_ends_with_credits(kafka: str, prefix: str, folder: Path) -> None:
    env = environment(kafka, prefix, APP_ENV="development")
    await create_topics(env)
    async with worker(env, folder) as one:
        assert (await run(env, "dev", "merchant", "anna.example"))[0] == 0
        code, token = await run(env, "dev", "token", "anna.example")
        assert code == 0, token
        (folder / "buy.py").write_text(block("python"))
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
