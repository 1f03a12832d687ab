"""Outgoing webhooks per second of one `billing-stream deliver`, on one core, to a receiver here."""

import asyncio
import sys
import time
from collections import defaultdict
from typing import Any

import msgspec
import psutil
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.committed import CommittedLog
from bench.setting import Setting, say
from billing_stream.dev.server_process import free_port

MERCHANTS = 500
RUN_SECONDS_MAX = 300.0
LOOK_SECONDS = 0.05


class _Event(msgspec.Struct):
    sequence: int
    data: dict[str, Any]


class _Receiver:
    """Answers 204, and records which event of which merchant came when."""

    def __init__(self) -> None:
        self.came: dict[str, list[int]] = defaultdict(list)
        self.count = 0
        self.first = self.last = 0.0

    async def handle(self, request: web.Request) -> web.Response:
        """One webhook."""
        event = msgspec.json.decode(await request.read(), type=_Event)
        self.came[event.data["merchant_id"]].append(event.sequence)
        self.count += 1
        self.last = time.monotonic()
        self.first = self.first or self.last
        return web.Response(status=204)


async def measure(setting: Setting, *, database_url: str, events: int) -> dict[str, float]:
    """Deliveries per second, from the first to the last.

    Raises RuntimeError unless each event came once, and each merchant's in order.
    """
    await setting.create_topics()
    log = CommittedLog(setting.kafka, setting.topics, setting.partitions, MERCHANTS)
    say(f"writing {events} events of {MERCHANTS} merchants")
    await log.write(events)
    receiver = _Receiver()
    app = web.Application()
    app.router.add_post("/", receiver.handle)
    env = {
        **setting.environment(),
        "DATABASE_URL": database_url,
        "BILLING_DELIVER_PORT": str(free_port()),
        "BILLING_DELIVER_RETENTION": "36500d",
        "BILLING_WEBHOOKS_ALLOW_PRIVATE": "true",
    }
    async with TestServer(app, host="127.0.0.1") as server:
        url, since = str(server.make_url("/")), ("--since", "2020-01-01")
        adding = await _start(setting, env, "endpoints", "add", "bench", url, *since)
        if await adding.wait():
            raise RuntimeError((setting.folder / "deliver.log").read_text()[-3000:])
        say("delivering them")
        process = await _start(setting, env)
        running = psutil.Process(process.pid)
        running.cpu_affinity(running.cpu_affinity()[:1])
        try:
            end = time.monotonic() + RUN_SECONDS_MAX
            while receiver.count < events:
                if time.monotonic() > end:
                    raise RuntimeError(f"{receiver.count} of {events} came")
                await asyncio.sleep(LOOK_SECONDS)
            used = running.cpu_times()
        finally:
            process.terminate()
            await process.wait()
    if any(found != sorted(set(found)) for found in receiver.came.values()):
        raise RuntimeError("an event came twice, or before an earlier one")
    seconds = receiver.last - receiver.first
    return {
        "deliveries_per_s": (events - 1) / seconds,
        "events": events,
        "seconds": seconds,
        # With its start; on a machine that others use, this says more than the rate.
        "cpu_ms_per_delivery": (used.user + used.system) / events * 1e3,
    }


async def _start(
    setting: Setting, env: dict[str, str], *arguments: str
) -> asyncio.subprocess.Process:
    with (setting.folder / "deliver.log").open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "billing_stream", "deliver", *arguments,
            env=env, stdout=output, stderr=output,
        )  # fmt: skip
