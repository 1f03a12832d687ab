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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.producer.sender import Sender

from bench.meter import Meter, wall
from billing_stream.config.settings import Settings
from billing_stream.engine.kafka_writer import KafkaWriter
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.log import Part
from billing_stream.engine.partition_inputs import StagedInputs
from billing_stream.faust_adapter.transport import EngineConsumer
from billing_stream.processor import BillingStage
from billing_stream.records import schemas
from billing_stream.worker import run_worker

OUTPUT = "BENCH_TIMINGS"
FETCH, DECODE, VALIDATE, DECIDE, ENCODE, SEND, APPLY = (
    "fetch",
    "decode",
    "validate",
    "decide",
    "encode",
    "send",
    "apply",
)
STAGES = (FETCH, DECODE, VALIDATE, DECIDE, ENCODE, SEND, APPLY)


class Timings:
    """What the meter does not know: commits, counts, and the CPU of the threads."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.meter.reset()
        self.counts: dict[str, int] = defaultdict(int)
        self.commit_ms: list[float] = []
        self.wait_ms: list[float] = []
        self.began = self.ended = wall()
        self._cpu_began = self._cpu_ended = self._cpu()
        self._seconds: dict[str, float] = {}

    def committed(self) -> None:
        """Note the time of a commit."""
        self.ended = wall()
        self._cpu_ended = self._cpu()
        self._seconds = self.meter.seconds()

    @staticmethod
    def _cpu() -> tuple[float, float]:
        main = threading.main_thread().ident or 0
        mine = time.clock_gettime(time.pthread_getcpuclockid(main))
        return mine, time.process_time() - mine

    def found(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        main, rest = (e - b for b, e in zip(self._cpu_began, self._cpu_ended, strict=True))
        return {
            "elapsed": self.ended - self.began,
            "main_thread_cpu": main,
            "other_threads_cpu": rest,
            "commit_ms": sorted(self.commit_ms),
            "wait_ms": sorted(self.wait_ms),
            "seconds": self._seconds,
            "metering": self.meter.cost_seconds(),
            "counts": self.counts,
        }


timings = Timings()


def _time_stages() -> None:
    """Meter what runs on the worker's main thread; the consumer has a thread of its own."""
    calls, steps = timings.meter.calls, timings.meter.steps
    for owner, name, stage in (
        (schemas, "decode", DECODE),
        (schemas, "_decode_payload", VALIDATE),
        (BillingStage, "_decide", DECIDE),
        (BillingStage, "_collect", ENCODE),
        (BillingStage, "apply", APPLY),
        (AIOKafkaConnection, "_handle_frame", SEND),
    ):
        setattr(owner, name, calls(stage, getattr(owner, name)))
    outgoing = BillingStage.outgoing
    # A generator does its work when it is read.
    listed = calls(ENCODE, lambda stage: list(outgoing(stage)))
    BillingStage.outgoing = listed  # type: ignore[method-assign]
    for owner, name, stage in (
        (KafkaWriter, "_send", SEND),
        (Sender, "_sender_routine", SEND),
        (Sender, "_send_produce_req", SEND),
        (Sender, "_do_add_partitions_to_txn", SEND),
        (Sender, "_do_txn_offset_commit", SEND),
        (Sender, "_do_txn_commit", SEND),
        (EngineConsumer, "_fetched_records", FETCH),
    ):
        setattr(owner, name, steps(stage, getattr(owner, name)))


def _time_records() -> None:
    """Count the records; what a lane does around each of them is part of deciding."""
    add = timings.meter.calls(DECIDE, StagedInputs.add)

    def timed_add(self: StagedInputs, batches: Any) -> None:
        add(self, batches)
        timings.counts["records"] += sum(len(batch.records) for batch in batches)

    StagedInputs.add = timed_add  # type: ignore[method-assign]


def _time_commits() -> None:
    """Time what waits for the broker: lanes overlap, so this is a latency and no cost."""
    commit, send, start = KafkaWriter.commit, KafkaWriter._send, Lanes.start
    handed_over: dict[KafkaWriter, float] = {}

    async def timed_send(self: KafkaWriter, *args: Any) -> None:
        await send(self, *args)
        handed_over[self] = wall()

    async def timed_commit(self: KafkaWriter, parts: Sequence[Part]) -> None:
        began = wall()
        await commit(self, parts)
        ended = wall()
        timings.commit_ms.append((ended - began) * 1000)
        timings.wait_ms.append((ended - handed_over.get(self, began)) * 1000)
        timings.counts["transactions"] += 1
        timings.counts["written"] += sum(len(part.records) for part in parts)
        timings.committed()

    def timed_start(self: Lanes[Any]) -> None:
        start(self)
        timings.start()

    KafkaWriter._send = timed_send  # type: ignore[method-assign,assignment]
    KafkaWriter.commit = timed_commit  # type: ignore[method-assign]
    Lanes.start = timed_start  # type: ignore[method-assign]


def _write() -> None:
    Path(os.environ[OUTPUT]).write_text(json.dumps(timings.found()))


if __name__ == "__main__":
    _time_stages()
    _time_records()
    _time_commits()
    atexit.register(_write)
    run_worker(Settings.from_env())
