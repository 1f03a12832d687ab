"""`python -m chaos run`: load, faults, healing, draining, verifying."""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from aiokafka.errors import KafkaError

from chaos import audit
from chaos.broker import Brokers
from chaos.clients import Clients
from chaos.faults import Scene
from chaos.goals import Goals
from chaos.load import Load
from chaos.nemesis import Nemesis, NotRecovered
from chaos.plan import Plan
from chaos.probes import Follower, Probes
from chaos.proxy import Proxy
from chaos.recovery import Recoveries
from chaos.report import Report
from chaos.sender import Sender
from chaos.service import Service
from chaos.stage import Stage
from chaos.stuck import FINDING_SECONDS, StuckWatch
from chaos.workers import Worker

# (base, extra) by the number of brokers. Three of these need the machine themselves.
WORKERS = {1: (3, 2), 3: (2, 1)}
# Of the workers: as it is by default, since a broker's session is to be seen against it.
SESSION_SECONDS_OF_THREE = 8.0
WARM_UP_SECONDS = 3.0
FINISH_SECONDS_MAX = 150.0
DRAIN_SECONDS_MAX = 150.0
# After a run that did not recover: what would bring it back is told by the watch.
AFTERMATH_SECONDS = 90.0
# Of the whole run: how long workers come and go in a churn storm.
CHURN_SHARE = 0.12
CHURN_SECONDS_MAX = 90.0
PROGRESS_SECONDS = 1.0


class Run:
    """All the parts of one run."""

    def __init__(self, arguments: argparse.Namespace, scene: Scene) -> None:
        stage = scene.stage
        self.scene = scene
        self.seconds = arguments.minutes * 60
        seed: int = arguments.seed
        self.plan = Plan(seed, self.seconds, arguments.only, arguments.brokers)
        scene.outage_seconds = self.plan.outage_seconds
        scene.churn_seconds = min(CHURN_SECONDS_MAX, self.seconds * CHURN_SHARE)
        self.sender = Sender(stage)
        self.follower = Follower(stage)
        self.load = Load(stage, self.sender, arguments.load, seed)
        self.clients = Clients(stage, self.sender, scene.wanted, arguments.http, seed + 1)
        self.probes = Probes(stage, self.sender, self.follower, seed + 2)
        self.watch = StuckWatch(stage, lambda: scene.brokers.up)
        self.session = aiohttp.ClientSession()
        several = arguments.brokers > 1
        self.service = Service(stage, self.sender, scene.wanted, seed + 4) if several else None
        self.nemesis = Nemesis(scene, self.probes, self.session, seed + 3, self.service)
        self.load_seconds = 0.0

    async def go(self) -> None:
        """Load and faults, then heal and drain. Problems are told to the stage."""
        stage = self.scene.stage
        await self.sender.start()
        self.follower.start()
        self.watch.start()
        for worker in self.scene.base:
            worker.want(True)
        await self.nemesis.settled()
        stage.say(f"{len(self.scene.base)} workers are ready; the load begins")
        began = time.monotonic()
        self.load.start()
        self.clients.start()
        if self.service is not None:
            await self.service.start()
        progress = asyncio.create_task(self._progress())
        try:
            await asyncio.sleep(WARM_UP_SECONDS)
            await self.nemesis.run(self.plan, self.seconds)
        except NotRecovered as error:
            stage.problem(f"not recovered: {error}")
            await asyncio.sleep(AFTERMATH_SECONDS)
        finally:
            self.load_seconds = time.monotonic() - began
            progress.cancel()
        await self._finish()

    async def _progress(self) -> None:
        while True:
            self.scene.stage.progress(
                f"{self.sender.acknowledged} records, {self.follower.count} events, "
                f"{self.sender.waiting} on their way, {len(self.nemesis.faults)} faults"
            )
            await asyncio.sleep(PROGRESS_SECONDS)

    async def _finish(self) -> None:
        stage, scene = self.scene.stage, self.scene
        stage.say("healing, and letting everything be answered")
        scene.heal()
        for worker in scene.base:
            worker.want(True)
        await asyncio.gather(*(worker.leave() for worker in scene.extras))
        stops = [self.load.stop(FINISH_SECONDS_MAX), self.clients.stop(FINISH_SECONDS_MAX)]
        if self.service is not None:
            stops.append(self.service.stop(FINISH_SECONDS_MAX))
        await asyncio.gather(*stops)
        try:
            await self.nemesis.settled()
        except NotRecovered as error:
            stage.problem(f"after healing: {error}")
        await self._drain()
        await self.follower.close()
        await self.watch.close()
        codes = await asyncio.gather(*(worker.leave() for worker in scene.base))
        if any(codes):
            stage.problem(f"idle workers that were asked to end ended with {codes}")

    async def _drain(self) -> None:
        end, left = time.monotonic() + DRAIN_SECONDS_MAX, -1
        while left and time.monotonic() < end:
            with suppress(KafkaError):
                left = await audit.lag(self.scene.stage)
            await asyncio.sleep(0.5)
        if left:
            self.scene.stage.problem(f"not drained: {left} records of the inputs are not read")

    async def close(self) -> None:
        """Let go of everything."""
        await self.follower.close()
        await self.sender.close()
        await self.session.close()


@asynccontextmanager
async def scene(folder: Path, count: int, session_ms: int | None) -> AsyncIterator[Scene]:
    """So many brokers, a proxy to each for each worker, and workers that do not run yet."""
    base, extra = WORKERS[count]
    brokers = Brokers(folder, base + extra, count, session_ms=session_ms)
    stage = Stage(brokers.direct, folder, replication=count)
    if count > 1:
        stage.session_seconds = SESSION_SECONDS_OF_THREE
    proxies = [
        [Proxy(told, port) for port, told in (broker.listeners[n] for broker in brokers.each)]
        for n in range(base + extra)
    ]
    workers = [
        Worker(n, stage.environment(",".join(f"127.0.0.1:{p.port}" for p in each)), folder)
        for n, each in enumerate(proxies)
    ]
    every = [proxy for each in proxies for proxy in each]
    try:
        await brokers.start()
        for proxy in every:
            await proxy.start()
        await stage.create_topics()
        yield Scene(stage, brokers, workers[:base], workers[base:], proxies)
    finally:
        await asyncio.gather(*(worker.close() for worker in workers))
        await asyncio.gather(*(proxy.close() for proxy in every))
        await brokers.stop()


async def run(arguments: argparse.Namespace, folder: Path) -> int:
    """The whole run; the exit code."""
    async with scene(folder, arguments.brokers, arguments.session_ms) as made:
        one, stage = Run(arguments, made), made.stage
        report = Report(
            arguments.seed, arguments.minutes, [], [], 0, 0, 0.0, one.clients.answers, [], []
        )
        report.tool = f"{arguments.load:g} records/s and {arguments.http:g} requests/s asked for"
        if one.service is not None:
            report.goals = Goals(arguments.session_ms)
            report.bought = one.service.answers
        try:
            await one.go()
            stage.say("verifying")
            try:
                report.checked = await audit.Audit(stage).check()
                report.verified = await audit.verify(stage)
            except TimeoutError:
                stage.problem("the committed records cannot be read to their end")
        finally:
            await one.close()
        report.faults = one.nemesis.faults
        report.exits = sorted((e for w in made.workers for e in w.exits), key=lambda e: e.at)
        report.records, report.events = one.sender.acknowledged, one.follower.count
        report.load_seconds = one.load_seconds
        report.problems = stage.problems
        report.stuck = [s.text for s in one.watch.found if s.seconds > FINDING_SECONDS]
        report.unmarked = made.brokers.unmarked(stage.prefix)
        report.known = Recoveries.of(one.clients.known_seconds)
        report.uncertain = len(stage.promises.uncertain)
    print("\n".join(report.lines()))
    if arguments.json:
        arguments.json.write_text(json.dumps(report.json(), indent=2))
    return report.code
