"""200 seeds with `make test`, 500 with `make test-all`; any number with `make simulate`."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from tests.simulation.__main__ import command_of
from tests.simulation.run import run, run_many

ROOT = Path(__file__).parents[2]
SEEDS = 500
ARRIVES = re.compile(r"a late (\w+) of \S+ arrives ([a-z ]+):")


@pytest.mark.parametrize(
    "seeds", [range(200), pytest.param(range(200, SEEDS), marks=pytest.mark.full)], ids=str
)
def test_all_seeds_end_as_they_must(seeds: range) -> None:
    found = list(run_many(seeds))

    failed = [f"{r.problem}\n    {command_of(r.seed)}" for r in found if r.problem]
    assert not failed, "\n".join([f"{len(failed)} of {len(seeds)} seeds failed", *failed[:3]])
    assert len(found) == len(seeds)
    # Else nothing was tried: a world commits, and most lose workers.
    assert sum(r.commits for r in found) > 10 * len(seeds)
    assert sum(r.nodes for r in found) > 3 * len(seeds)


def test_the_seeds_meet_every_kind_of_bad_luck() -> None:
    lines = [line for seed in range(120) for line in run(seed).trace]

    for what in (
        "shall crash at",
        "Crashed(<CrashPoint.JOINED",
        "Crashed(<CrashPoint.FENCED",
        "Crashed(<CrashPoint.RECOVERING",
        "Crashed(<CrashPoint.SOUGHT",
        "Crashed(<CrashPoint.STAGED",
        "Crashed(<CrashPoint.HALF_SENT",
        "Crashed(<CrashPoint.SENT",
        "Crashed(<CrashPoint.ACCEPTED",
        "Crashed(<CrashPoint.COMMITTED",
        "Crashed(<CrashPoint.APPLIED",
        "stands still at half_sent",
        "stands still at sent",
        "stands still at committed",
        "loses its connection at sent",
        "loses its connection at committed",
        "lost its transactions",
        "takes back",
        "reads (",
        "deliver what",
        "times out",
        "is cut off",
        "starts in the place of",
        "compact ",
        "the clock of",
        "refused http/",
        "catalogue=SetCatalogue",
        "deliver billing.operator-commands.v1[1]",
        "answer http/",
        "lost Produce",
        "repeated EndTxn",
    ):
        assert any(what in line for line in lines), f"never seen: {what}"
    late = {tuple(found.groups()) for line in lines if (found := ARRIVES.match(line))}
    kinds = ("EndTxn", "Produce", "AddPartitions", "AddOffsets", "InitProducerId")
    assert late == set(product(kinds, ("in an open transaction", "between transactions")))


@pytest.mark.parametrize("seed", [1, 140, 271])
def test_the_same_seed_is_the_same_world_in_another_process(seed: int) -> None:
    trace = run(seed).trace

    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--trace"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == [*trace, f"seed {seed}: as it must be"]


def test_another_seed_is_another_world() -> None:
    assert run(1).trace != run(2).trace
