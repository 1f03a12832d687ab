"""The faults: how each is made, when it is over, and whether it hit anything."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from chaos.broker import Brokers
from chaos.plan import Step
from chaos.proxy import Mode, Proxy
from chaos.stage import Stage
from chaos.workers import Worker

BURST_KILLS = 30


@dataclass
class Scene:
    """What faults can be made with. `base` workers always run, `extras` come and go.

    `proxies[worker][broker]` is between the two.
    """

    stage: Stage
    brokers: Brokers
    base: list[Worker]
    extras: list[Worker]
    proxies: list[list[Proxy]]
    churn_seconds: float = 60.0
    outage_seconds: float = 300.0

    @property
    def workers(self) -> list[Worker]:
        """All."""
        return [*self.base, *self.extras]

    def wanted(self) -> list[Worker]:
        """Those that shall run now."""
        return [worker for worker in self.workers if worker.wanted]

    def heal(self) -> None:
        """Undo every fault that lasts."""
        for proxies in self.proxies:
            for proxy in proxies:
                proxy.heal()
        for broker in self.brokers.each:
            broker.resume()
        for worker in self.workers:
            worker.resume()


@dataclass
class Hit:
    """What a fault did. `over` is when it ended (monotonic), `struck` when it began (epoch).

    `restore` undoes what still lasts, after the service has recovered from it.
    """

    over: float
    struck: float
    text: str = ""
    # Why it was none: there was no process to kill, no data to hold up.
    missed: str = ""
    restore: Callable[[], Awaitable[None]] | None = None


Strike = Callable[[Scene, Step, Worker], Awaitable[Hit]]


async def kill(scene: Scene, step: Step, victim: Worker) -> Hit:
    """SIGKILL; the supervisor starts it again."""
    struck, done = time.time(), victim.kill()
    return Hit(time.monotonic(), struck, missed="" if done else "no process")


async def term(scene: Scene, step: Step, victim: Worker) -> Hit:
    """SIGTERM; the supervisor starts it again."""
    struck, done = time.time(), victim.term()
    return Hit(time.monotonic(), struck, missed="" if done else "no process")


async def stop(scene: Scene, step: Step, victim: Worker) -> Hit:
    """SIGSTOP for 1.2 to 2 session timeouts: long enough to lose its partitions."""
    seconds = scene.stage.session_seconds * step.between(1.2, 2.0)
    struck, done = time.time(), victim.pause()
    await asyncio.sleep(seconds)
    victim.resume()
    return Hit(time.monotonic(), struck, f"{seconds:.1f} s", "" if done else "no process")


async def join(scene: Scene, step: Step, victim: Worker) -> Hit:
    """One worker more."""
    new = next((worker for worker in scene.extras if not worker.wanted), None)
    struck = time.time()
    if new is None:
        return Hit(time.monotonic(), struck, missed="all workers run already")
    new.want(True)
    return Hit(time.monotonic(), struck, f"worker {new.number}")


async def leave(scene: Scene, step: Step, victim: Worker) -> Hit:
    """One worker less."""
    struck, over = time.time(), time.monotonic()
    code = await victim.leave()
    text = f"ended with {code}, {time.monotonic() - over:.1f} s after"
    return Hit(over, struck, text, "" if code is not None else "no process")


async def broker_kill(scene: Scene, step: Step, victim: Worker) -> Hit:
    """kill -9 of the broker, which is started again at once. Over when it listens again."""
    struck, began = time.time(), time.monotonic()
    [broker] = scene.brokers.each
    await broker.kill()
    await broker.back()
    return Hit(time.monotonic(), struck, f"away for {time.monotonic() - began:.1f} s")


async def broker_bounce(scene: Scene, step: Step, victim: Worker) -> Hit:
    """A clean restart of the broker. Over when it listens again."""
    struck, began = time.time(), time.monotonic()
    [broker] = scene.brokers.each
    await broker.stop()
    await broker.back()
    return Hit(time.monotonic(), struck, f"away for {time.monotonic() - began:.1f} s")


async def outage(scene: Scene, step: Step, victim: Worker) -> Hit:
    """No broker for long. Over when it listens again."""
    struck, began = time.time(), time.monotonic()
    [broker] = scene.brokers.each
    await broker.stop()
    await asyncio.sleep(scene.outage_seconds)
    await broker.back()
    return Hit(time.monotonic(), struck, f"away for {time.monotonic() - began:.1f} s")


async def net_reset(scene: Scene, step: Step, victim: Worker) -> Hit:
    """All connections of a worker to the broker are reset."""
    struck = time.time()
    cut = sum(proxy.reset() for proxy in scene.proxies[victim.number])
    text = f"{cut} connections"
    return Hit(time.monotonic(), struck, text, "" if cut else "no connection")


def _network(mode: Mode) -> Strike:
    async def strike(scene: Scene, step: Step, victim: Worker) -> Hit:
        proxies = scene.proxies[victim.number]
        seconds = 5 + random.Random(step.seed).random() * 15
        text = f"{seconds:.1f} s"
        struck = time.time()
        delay, rate = step.between(0.2, 0.8), int(step.between(4_000, 40_000))
        for proxy in proxies:
            if mode is Mode.BLACKHOLE:
                proxy.blackhole()
            elif mode is Mode.HALF_OPEN:
                proxy.half_open()
            elif mode is Mode.DELAY:
                proxy.delay(delay)
            else:
                proxy.throttle(rate)
        if mode is Mode.DELAY:
            text += f" of {delay * 1000:.0f} ms"
        if mode is Mode.THROTTLE:
            text += f" of {rate / 1000:.0f} kB/s"
        await asyncio.sleep(seconds)
        affected = sum(proxy.affected for proxy in proxies)
        for proxy in proxies:
            proxy.heal()
        text += f", {affected} hindered"
        return Hit(time.monotonic(), struck, text, "" if affected else "no data came")

    return strike


async def kill_storm(scene: Scene, step: Step, victim: Worker) -> Hit:
    """30 SIGKILLs, 0.1 to 1 s apart, each of a process that runs."""
    chance = random.Random(step.seed)
    struck, done = time.time(), 0
    end = time.monotonic() + 120
    while done < BURST_KILLS and time.monotonic() < end:
        alive = [worker for worker in scene.workers if worker.pid is not None]
        if alive:
            done += chance.choice(alive).kill()
        await asyncio.sleep(chance.uniform(0.1, 1.0))
    return Hit(time.monotonic(), struck, f"{done} killed", "" if done == BURST_KILLS else "too few")


async def churn_storm(scene: Scene, step: Step, victim: Worker) -> Hit:
    """Workers join and leave every 1 to 20 s; one of the three always stays."""
    chance = random.Random(step.seed)
    movable: Sequence[Worker] = scene.workers[1:]
    struck, moves = time.time(), 0
    end = time.monotonic() + scene.churn_seconds
    leaving: set[asyncio.Task[int | None]] = set()
    while time.monotonic() < end or moves < 2:
        worker = chance.choice(movable)
        moves += 1
        if worker.wanted:
            leaving.add(asyncio.create_task(worker.leave()))
        else:
            worker.want(True)
        left = max(1.0, end - time.monotonic())
        await asyncio.sleep(min(left, chance.uniform(1.0, 20.0)))
    await asyncio.gather(*leaving)
    for worker in scene.base:
        worker.want(True)
    for worker in scene.extras:
        if worker.wanted:
            leaving.add(asyncio.create_task(worker.leave()))
    await asyncio.gather(*leaving)
    return Hit(time.monotonic(), struck, f"{moves} joins and leaves")


STRIKES: dict[str, Strike] = {
    "kill": kill,
    "term": term,
    "stop": stop,
    "join": join,
    "leave": leave,
    "broker-kill": broker_kill,
    "broker-bounce": broker_bounce,
    "net-blackhole": _network(Mode.BLACKHOLE),
    "net-reset": net_reset,
    "net-delay": _network(Mode.DELAY),
    "net-throttle": _network(Mode.THROTTLE),
    "net-half-open": _network(Mode.HALF_OPEN),
    "outage": outage,
    "kill-storm": kill_storm,
    "churn-storm": churn_storm,
}

# They hit all workers at once.
OF_ALL = ("broker-kill", "broker-bounce", "outage", "kill-storm", "churn-storm", "join")
# They begin with one worker more.
JOINS = ("join", "join-without")
