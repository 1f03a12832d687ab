"""The receiver of docs/outgoing-webhooks.md, run as it is printed."""

import asyncio
import re
import sys
from pathlib import Path

from tests.support.delivery import MERCHANT, delivered, event
from tests.support.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "outgoing-webhooks.md"
SECONDS_MAX = 60.0


async def test_the_example_verifies_and_takes_each_event_once(postgres_url: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    port = free_port()
    async with delivered(postgres_url) as running:
        secret = await running.add("e", f"http://127.0.0.1:{port}/")
        receiver = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code,
            env={"WEBHOOK_SECRET": secret, "PORT": str(port)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert receiver.stdout is not None
            async with asyncio.timeout(SECONDS_MAX):
                await connectable(port)
                await running.store(event(n) for n in (1, 2))
                lines = [await receiver.stdout.readline() for _ in range(2)]
        finally:
            receiver.kill()
            await receiver.wait()
    shown = f"evt.billing.credits.purchased.v1 {{'merchant_id': '{MERCHANT}'}}\n"
    assert [line.decode() for line in lines] == [f"{n} {shown}" for n in (1, 2)]


async def connectable(port: int) -> None:
    """Wait until something listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
