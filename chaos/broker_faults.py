"""The faults of three brokers: one is away, frozen, slow or out of reach; leaders move."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import MappingProxyType
from typing import Protocol

from billing_stream.records import topics as names
from chaos.broker import Broker
from chaos.cluster import GROUP, Cluster, Placement, in_sync
from chaos.faults import Hit, Scene, Strike
from chaos.plan import TWO_AWAY, Step
from chaos.proxy import Proxy
from chaos.workers import Worker

CUT_OFF_SECONDS = 25.0
SLOW_SECONDS = 25.0
SLOW_BY_SECONDS = 0.2
TWO_AWAY_SECONDS = 30.0
IN_SYNC_SECONDS_MAX = 180.0
READY_SECONDS_MAX = 120.0
MOVED_AT_ONCE = 12


class Choose(Protocol):
    """The broker that a fault is for."""

    def __call__(self, scene: Scene, step: Step) -> Awaitable[Broker]:
        """That broker. Raises KafkaError or OSError."""


def cluster_of(scene: Scene) -> Cluster:
    """The cluster, seen by way of the brokers that are up."""
    return Cluster(scene.brokers.answering)


async def wait_in_sync(scene: Scene) -> None:
    """Until every replica is; a problem of the stage when it takes too long."""
    if not await cluster_of(scene).until(in_sync, IN_SYNC_SECONDS_MAX):
        scene.stage.problem(f"replicas are not in sync after {IN_SYNC_SECONDS_MAX:.0f} s")


def _with_id(scene: Scene, id: int) -> Broker:
    return next(broker for broker in scene.brokers.each if broker.id == id)


async def leader(scene: Scene, step: Step) -> Broker:
    """Of the commands of some partition."""
    placed = await cluster_of(scene).partitions()
    partition = random.Random(step.seed).randrange(scene.stage.partitions)
    return _with_id(scene, placed[scene.stage.topics.name(names.COMMANDS), partition].leader)


async def transactions(scene: Scene, step: Step) -> Broker:
    """A coordinator of the transactions of some worker."""
    found = await cluster_of(scene).transaction_coordinators(f"{scene.stage.group}-w.")
    return _with_id(scene, random.Random(step.seed).choice(found))


async def group(scene: Scene, step: Step) -> Broker:
    """The coordinator of the workers' group."""
    return _with_id(scene, await cluster_of(scene).coordinator(GROUP, scene.stage.group))


async def controller(scene: Scene, step: Step) -> Broker:
    """The active controller."""
    return _with_id(scene, await cluster_of(scene).controller())


def _restarted(scene: Scene, *brokers: Broker) -> Callable[[], Awaitable[None]]:
    async def restore() -> None:
        await asyncio.gather(*(broker.back() for broker in brokers))
        await wait_in_sync(scene)

    return restore


def _kill(choose: Choose) -> Strike:
    async def strike(scene: Scene, step: Step, victim: Worker) -> Hit:
        broker = await choose(scene, step)
        struck, over = time.time(), time.monotonic()
        await broker.kill()
        return Hit(over, struck, f"broker {broker.id}", restore=_restarted(scene, broker))

    return strike


def _freeze(choose: Choose) -> Strike:
    async def strike(scene: Scene, step: Step, victim: Worker) -> Hit:
        broker = await choose(scene, step)
        struck, over = time.time(), time.monotonic()
        broker.freeze()

        async def restore() -> None:
            broker.resume()
            await wait_in_sync(scene)

        return Hit(over, struck, f"broker {broker.id}", restore=restore)

    return strike


async def stop_leader(scene: Scene, step: Step, victim: Worker) -> Hit:
    """A clean stop, which hands over first."""
    broker = await leader(scene, step)
    struck, over = time.time(), time.monotonic()
    await broker.stop()
    return Hit(over, struck, f"broker {broker.id}", restore=_restarted(scene, broker))


async def rolling(scene: Scene, step: Step, victim: Worker) -> Hit:
    """Each broker is stopped and started, when all replicas are in sync again. Over at the end."""
    struck, began = time.time(), time.monotonic()
    for broker in scene.brokers.each:
        await broker.stop()
        await broker.back()
        await wait_in_sync(scene)
    return Hit(time.monotonic(), struck, f"all three in {time.monotonic() - began:.0f} s")


async def _hinder(
    scene: Scene, broker: Broker, begin: Callable[[Proxy], None], seconds: float
) -> int:
    """Hinder what the workers exchange with one broker; how much data that was."""
    proxies = [proxies[broker.number] for proxies in scene.proxies]
    for proxy in proxies:
        begin(proxy)
    await asyncio.sleep(seconds)
    affected = sum(proxy.affected for proxy in proxies)
    for proxy in proxies:
        proxy.heal()
    return affected


async def cut_off(scene: Scene, step: Step, victim: Worker) -> Hit:
    """No worker reaches one broker, which the other brokers do."""
    broker = await leader(scene, step)
    struck, began = time.time(), time.monotonic()
    affected = await _hinder(scene, broker, Proxy.blackhole, CUT_OFF_SECONDS)
    text = f"broker {broker.id} for {CUT_OFF_SECONDS:.0f} s, {affected} hindered"
    return Hit(began, struck, text, "" if affected else "no data came")


async def slow(scene: Scene, step: Step, victim: Worker) -> Hit:
    """Each way between the workers and one broker takes longer."""
    broker = await leader(scene, step)
    struck, began = time.time(), time.monotonic()
    slowly = partial(Proxy.delay, seconds=SLOW_BY_SECONDS)
    affected = await _hinder(scene, broker, slowly, SLOW_SECONDS)
    text = f"broker {broker.id} by {SLOW_BY_SECONDS * 1000:.0f} ms for {SLOW_SECONDS:.0f} s"
    return Hit(began, struck, text, "" if affected else "no data came")


async def reassign(scene: Scene, step: Step, victim: Worker) -> Hit:
    """Some of a broker's partitions are moved off it while it leads them, and back."""
    broker, cluster = await leader(scene, step), cluster_of(scene)
    struck, began = time.time(), time.monotonic()
    placed = await cluster.partitions()
    led = sorted(
        one
        for one, at in placed.items()
        if at.leader == broker.id and one[0].startswith(scene.stage.prefix)
    )
    chosen = random.Random(step.seed).sample(led, min(MOVED_AT_ONCE, len(led)))
    others = {one: [id for id in placed[one].replicas if id != broker.id] for one in chosen}
    await cluster.reassign(others)

    def moved(now: dict[tuple[str, int], Placement]) -> bool:
        return in_sync(now) and all(set(now[one].replicas) == set(others[one]) for one in chosen)

    good = await cluster.until(moved, IN_SYNC_SECONDS_MAX)
    await cluster.reassign({one: [*others[one], broker.id] for one in chosen})
    good &= await cluster.until(
        lambda now: in_sync(now) and all(len(now[one].replicas) == 3 for one in chosen),
        IN_SYNC_SECONDS_MAX,
    )
    if not good:
        scene.stage.problem("a reassignment was not done in time")
    text = f"{len(chosen)} off broker {broker.id} and back in {time.monotonic() - began:.0f} s"
    return Hit(time.monotonic(), struck, text, "" if chosen else "it led nothing")


async def elect(scene: Scene, step: Step, victim: Worker) -> Hit:
    """All our partitions get another preferred leader, and then it is elected everywhere."""
    cluster = cluster_of(scene)
    placed = {
        one: at
        for one, at in (await cluster.partitions()).items()
        if one[0].startswith(scene.stage.prefix)
    }
    wanted = {one: [*at.replicas[1:], at.replicas[0]] for one, at in placed.items()}
    await cluster.reassign(wanted)
    struck, began = time.time(), time.monotonic()
    await cluster.elect_preferred()
    good = await cluster.until(
        lambda now: all(now[one].leader == wanted[one][0] for one in wanted), IN_SYNC_SECONDS_MAX
    )
    if not good:
        scene.stage.problem("preferred leaders were not elected in time")
    changed = sum(placed[one].leader != wanted[one][0] for one in wanted)
    text = f"{changed} leaders changed in {time.monotonic() - began:.1f} s"
    return Hit(began, struck, text, "" if changed else "no leader changed")


async def join_without(scene: Scene, step: Step, victim: Worker) -> Hit:
    """A worker is started again, and one more, while one broker is away."""
    broker = await leader(scene, step)
    struck, began = time.time(), time.monotonic()
    await broker.stop()
    done = victim.term()
    new = next((worker for worker in scene.extras if not worker.wanted), None)
    if new is not None:
        new.want(True)
    text = f"without broker {broker.id}: worker {victim.number} again"
    text += f", {new.number} too" if new is not None else ""
    restore = _restarted(scene, broker)
    return Hit(began, struck, text, "" if done else "no process", restore)


async def two_away(scene: Scene, step: Step, victim: Worker) -> Hit:
    """Two brokers are killed, and started again later. Over when both listen again."""
    staying = random.Random(step.seed).choice(scene.brokers.each)
    away = [broker for broker in scene.brokers.each if broker is not staying]
    struck, began = time.time(), time.monotonic()
    for broker in away:
        await broker.kill()
    await asyncio.sleep(TWO_AWAY_SECONDS)
    await asyncio.gather(*(broker.back() for broker in away))

    async def restore() -> None:
        await wait_in_sync(scene)

    text = f"all but broker {staying.id}, for {time.monotonic() - began:.0f} s"
    return Hit(time.monotonic(), struck, text, restore=restore)


STRIKES_OF_THREE = MappingProxyType(
    {
        "kill-leader": _kill(leader),
        "kill-txn": _kill(transactions),
        "kill-group": _kill(group),
        "kill-controller": _kill(controller),
        "freeze-leader": _freeze(leader),
        "freeze-txn": _freeze(transactions),
        "freeze-group": _freeze(group),
        "freeze-controller": _freeze(controller),
        "stop-leader": stop_leader,
        "cut-off": cut_off,
        "slow": slow,
        "rolling": rolling,
        "reassign": reassign,
        "elect": elect,
        "join-without": join_without,
        TWO_AWAY: two_away,
    }
)
