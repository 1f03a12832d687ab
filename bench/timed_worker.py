"""A worker whose stages are timed, for `--profile`. Writes what it found when it ends.

Run as `python -m bench.timed_worker`, with the environment of a worker. The clock starts
when the lanes do, so that start-up and restore are left out, and stops at the last commit.
"""

import atexit
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from billing_stream.engine import kafka_log
from billing_stream.engine.kafka_log import KafkaWriter
from billing_stream.engine.lane import Lane
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.processor import Outgoing
from billing_stream.processor import BillingStage
from billing_stream.settings import Settings
from billing_stream.worker import run_worker

OUTPUT = "BENCH_TIMINGS"

cpu = time.thread_time


class Timings:
    """Seconds by stage, and the CPU seconds of the main thread and of all others."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self.commit_ms: list[float] = []
        self.began = self.ended = time.perf_counter()
        self._cpu_began = self._cpu_ended = (0.0, 0.0)

    def start(self) -> None:
        """Begin anew."""
        fresh = Timings()
        self.seconds, self.counts, self.commit_ms = fresh.seconds, fresh.counts, fresh.commit_ms
        self.began = self.ended = fresh.began
        self._cpu_began = self._cpu_ended = self._cpu()

    def committed(self) -> None:
        """Note the time of a commit."""
        self.ended = time.perf_counter()
        self._cpu_ended = self._cpu()

    @staticmethod
    def _cpu() -> tuple[float, float]:
        main = threading.main_thread().ident or 0
        mine = time.clock_gettime(time.pthread_getcpuclockid(main))
        return mine, time.process_time() - mine

    def found(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        main, rest = (e - b for b, e in zip(self._cpu_began, self._cpu_ended, strict=True))
        ordered = sorted(self.commit_ms) or [0.0]
        return {
            "elapsed": self.ended - self.began,
            "main_thread_cpu": main,
            "other_threads_cpu": rest,
            "commit_p50_ms": ordered[len(ordered) // 2],
            "commit_p99_ms": ordered[int(len(ordered) * 0.99)],
            "seconds": self.seconds,
            "counts": self.counts,
        }


timings = Timings()


def _time_work() -> None:
    """Wrap what never waits; its own CPU counts, not what else the machine was busy with."""
    stage_batches, outgoing, apply = Lane._stage_batches, BillingStage.outgoing, BillingStage.apply

    def timed_stage_batches(self: Lane, stage: Any, batches: Any) -> dict[str, int]:
        began = cpu()
        reached = stage_batches(self, stage, batches)
        timings.seconds["decode, decide, encode events"] += cpu() - began
        timings.counts["records"] += sum(len(batch.records) for batch in batches)
        return reached

    def timed_outgoing(self: BillingStage) -> Iterable[Outgoing]:
        began = cpu()
        records = list(outgoing(self))
        timings.seconds["encode changed rows"] += cpu() - began
        return records

    def timed_apply(self: BillingStage) -> None:
        began = cpu()
        apply(self)
        timings.seconds["apply to the rows, deadlines"] += cpu() - began

    Lane._stage_batches = timed_stage_batches  # type: ignore[method-assign]
    BillingStage.outgoing = timed_outgoing  # type: ignore[method-assign]
    BillingStage.apply = timed_apply  # type: ignore[method-assign]


def _time_appends() -> None:
    """Time the batches record by record, for the sending in between waits."""
    append = kafka_log._append

    def timed_append(batch: Any, record: Outgoing) -> bool:
        began = cpu()
        added = append(batch, record)
        timings.seconds["append to batches"] += cpu() - began
        return added

    kafka_log._append = timed_append


def _time_commits() -> None:
    """Time what waits for the broker: lanes overlap, so this is a latency and no cost."""
    commit, start = KafkaWriter.commit, Lanes.start

    async def timed_commit(self: KafkaWriter, records: Sequence[Outgoing]) -> None:
        began = time.perf_counter()
        await commit(self, records)
        timings.commit_ms.append((time.perf_counter() - began) * 1000)
        timings.counts["transactions"] += 1
        timings.counts["written"] += len(records)
        timings.committed()

    def timed_start(self: Lanes) -> None:
        start(self)
        timings.start()

    KafkaWriter.commit = timed_commit  # type: ignore[method-assign]
    Lanes.start = timed_start  # type: ignore[method-assign]


def _write() -> None:
    Path(os.environ[OUTPUT]).write_text(json.dumps(timings.found()))


if __name__ == "__main__":
    _time_work()
    _time_appends()
    _time_commits()
    atexit.register(_write)
    run_worker(Settings.from_env())
