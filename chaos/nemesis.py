"""Makes one fault after the other, sees that each hit something, and measures the recovery."""

import asyncio
import random
import time
from dataclasses import dataclass

import aiohttp

from chaos.broker_faults import STRIKES_OF_THREE
from chaos.faults import JOINS, OF_ALL, STRIKES, Hit, Scene
from chaos.plan import KINDS_OF_THREE, Plan, Step
from chaos.probes import Probes, Seen
from chaos.service import Gaps, Service
from chaos.workers import Readiness, Worker

PROBE_EVERY_SECONDS = 0.5
PROBES_BEFORE_A_FAULT = 25
READY_SECONDS_MAX = 120.0
RECOVER_SECONDS_MAX = 180.0
ACK_SECONDS_MAX = 10.0
TRIES_MAX = 3
# Between a recovery and the next fault.
PAUSE_SECONDS = (0.5, 3.0)


@dataclass(frozen=True)
class Fault:
    """A fault that was made, and what came of it. `seconds` None: it did not recover."""

    number: int
    kind: str
    at: float
    victim: int | None
    text: str
    seconds: float | None
    # The longest that a record sent just before the fault had to wait.
    held_up: float
    invalid: str
    in_flight: int
    exits: list[str]
    # How many of these ends nobody had asked for.
    unasked: int = 0
    # Seconds without an answer to those who buy: of half of the partitions, and the longest.
    service_p50: float = 0.0
    service_max: float = 0.0

    @property
    def line(self) -> str:
        """One line."""
        took = "NOT RECOVERED" if self.seconds is None else f"{self.seconds:5.1f} s"
        who = "all" if self.victim is None else f"worker {self.victim}"
        ended = f"  exits: {', '.join(self.exits)}" if self.exits else ""
        result = f"INVALID: {self.invalid}" if self.invalid else f"recovered in {took}"
        held_up = f"{self.in_flight:3} in flight held up {self.held_up:5.1f} s"
        if self.service_max:
            held_up += f", no service for {self.service_p50:.1f} to {self.service_max:.1f} s"
        return f"#{self.number:<3} {self.kind:17} {who:9} {result:22} {held_up}  {self.text}{ended}"


class NotRecovered(Exception):
    """The service does not come back: nothing more can be tried."""


class Nemesis:
    """Carries out a plan."""

    def __init__(
        self,
        scene: Scene,
        probes: Probes,
        session: aiohttp.ClientSession,
        seed: int,
        service: Service | None = None,
    ) -> None:
        self._scene = scene
        self._probes = probes
        self._session = session
        self._service = service
        self._strikes = {**STRIKES, **STRIKES_OF_THREE}
        self._random = random.Random(seed)
        self._all = frozenset(range(scene.stage.partitions))
        self.faults: list[Fault] = []

    async def run(self, plan: Plan, seconds: float) -> None:
        """Until the time is over. Raises NotRecovered."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            step = plan.next(time.monotonic() - began)
            if step is None:
                await asyncio.sleep(0.5)
                continue
            for _ in range(TRIES_MAX):
                fault = await self._make(step)
                self._scene.stage.say(fault.line)
                self.faults.append(fault)
                if fault.seconds is None and not fault.invalid:
                    raise NotRecovered(fault.line)
                if not fault.invalid:
                    break
            await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))

    async def settled(self, seconds: float = READY_SECONDS_MAX) -> dict[Worker, Readiness]:
        """What the workers say when all are ready and own all partitions. Raises NotRecovered."""
        end = time.monotonic() + seconds
        while True:
            readiness = await self._readiness()
            if self._is_settled(readiness):
                return readiness
            if time.monotonic() > end:
                said = {worker.number: one for worker, one in readiness.items()}
                raise NotRecovered(f"not all workers are ready: {said}")
            await asyncio.sleep(0.1)

    async def _readiness(self) -> dict[Worker, Readiness]:
        workers = self._scene.wanted()
        readiness = await asyncio.gather(*(w.readiness(self._session) for w in workers))
        return dict(zip(workers, readiness, strict=True))

    def _is_settled(self, readiness: dict[Worker, Readiness]) -> bool:
        owned = frozenset[int]().union(*(one.partitions for one in readiness.values()))
        return owned == self._all and all(one.ready for one in readiness.values())

    async def _make(self, step: Step) -> Fault:
        scene = self._scene
        readiness, victim = await self._choose(step.kind)
        of_three = step.kind in KINDS_OF_THREE
        of_all = step.kind in OF_ALL or of_three
        partitions = self._all if of_all else readiness[victim].partitions
        at = time.monotonic() - scene.stage.began
        exits = {worker: len(worker.exits) for worker in scene.workers}
        sent = time.monotonic()
        acks, events = self._probes.send(partitions, PROBES_BEFORE_A_FAULT)
        # The first is acknowledged: the rest is on its way, to Kafka and through the lanes.
        await asyncio.wait(acks, timeout=ACK_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
        hit = await self._strikes[step.kind](scene, step, victim)
        seconds = await self._recover(hit)
        if hit.restore is not None:
            await hit.restore()
            again = await self._recover(Hit(time.monotonic(), time.time()))
            seconds = None if seconds is None or again is None else max(seconds, again)
        gaps = Gaps(0.0, 0.0)
        if self._service is not None:
            gaps = self._service.gaps(sent, time.monotonic())
        in_flight, last = await self._in_flight(events, hit)
        # What three brokers go through takes long: there is always work meanwhile.
        idle = not in_flight and not of_three
        missed = hit.missed or ("all work was done before" if idle else "")
        ended = [one for worker in scene.workers for one in worker.exits[exits[worker] :]]
        if step.kind == "leave":
            victim.want(victim in scene.base)
        return Fault(
            step.number,
            step.kind,
            at,
            None if of_all else victim.number,
            hit.text,
            seconds,
            last - sent,
            missed,
            in_flight,
            [f"{one.worker}:{one.code}" for one in ended],
            sum(not one.asked for one in ended),
            gaps.p50,
            gaps.longest,
        )

    async def _choose(self, kind: str) -> tuple[dict[Worker, Readiness], Worker]:
        """All workers, ready; and one with partitions. Extra ones leave first."""
        extras = [worker for worker in self._scene.extras if worker.wanted]
        if kind in JOINS and len(extras) == len(self._scene.extras):
            await extras.pop().leave()
        readiness = await self.settled()
        owners = [worker for worker, one in readiness.items() if one.partitions]
        if kind == "leave":
            owners = [worker for worker in owners if worker in extras] or owners
        return readiness, self._random.choice(owners)

    async def _in_flight(self, events: "list[asyncio.Future[Seen]]", hit: Hit) -> tuple[int, float]:
        """How many records sent before it were processed after it began only; the last's time."""
        done, late = await asyncio.wait(events, timeout=30)
        seen = [event.result() for event in done]
        last = time.monotonic() if late else max(one.at for one in seen)
        return sum(one.written_ms >= hit.struck * 1000 for one in seen), last

    async def _recover(self, hit: Hit) -> float | None:
        """The longest that any record sent from the end of the fault on had to wait.

        Records are sent to every partition, again and again, until all workers are ready and
        a record sent after that was processed. None when that does not happen in time.
        """
        batches: set[asyncio.Task[float]] = set()
        longest = time.monotonic() - hit.over

        def collect() -> None:
            nonlocal longest
            for task in [task for task in batches if task.done()]:
                batches.discard(task)
                longest = max(longest, task.result())

        first = asyncio.create_task(self._probes.batch(self._all))
        batches.add(first)
        ready = False
        try:
            async with asyncio.timeout(RECOVER_SECONDS_MAX):
                while not (ready and first.done()):
                    await asyncio.sleep(PROBE_EVERY_SECONDS)
                    collect()
                    ready = self._is_settled(await self._readiness())
                    batches.add(asyncio.create_task(self._probes.batch(self._all)))
                # Those under way may still meet a rebalance that has just begun.
                await asyncio.gather(*batches)
                collect()
        except TimeoutError:
            for task in batches:
                task.cancel()
            return None
        return longest
