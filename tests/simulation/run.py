"""Runs worlds by their seeds."""

import gc
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.simulation.audit import check
from tests.simulation.loop import simulate
from tests.simulation.world import World


@dataclass(frozen=True)
class Result:
    """What came of a seed; `problem` is None when all is as it must be."""

    seed: int
    problem: str | None
    trace: tuple[str, ...]
    commits: int
    nodes: int


def run(seed: int, make: Callable[[int], World] = World) -> Result:
    """One world, from its first record to its audit."""
    world = make(seed)
    problem = None
    try:
        simulate(world.run())
        check(world)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__}: {error} ({last.name}, line {last.lineno})"
    finally:
        # The lanes freeze what they restored, for ever: here worlds come and go.
        gc.unfreeze()
    commits = len(world.log.history)
    return Result(seed, problem, tuple(world.trace), commits, len(world.nodes))


def _short(seed: int) -> Result:
    found = run(seed)
    return found if found.problem else Result(seed, None, (), found.commits, found.nodes)


def run_many(seeds: Iterable[int], processes: int | None = None) -> Iterator[Result]:
    """Many worlds on all cores, as they end; traces only of those that fail."""
    count = processes or os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    with context.Pool(count, maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(_short, seeds, chunksize=10)
