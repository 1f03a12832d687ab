"""The peers: how each is run, prepared and checked, and what ours is held against."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.load import Load, Record
from bench.peers import java, reading
from bench.setting import Setting, WorkerProcess
from bench.throughput import caught_up
from billing_stream.records import topics as names

PYTHON_OF_QUIX = Path(__file__).parents[2] / ".venv" / "bench" / "bin" / "python"

Prepared = Callable[[Setting, WorkerProcess, int], Awaitable[None]]
"""Waits until so many purchases are prepared."""

Total = Callable[[Setting], Awaitable[int]]
"""The credits of all merchants, in the state that the peer keeps."""


class OneTopicLoad(Load):
    """Commands go to the topic of the webhooks, for peers that read one topic only."""

    async def send(self, topic: str, records: list[Record]) -> list[str]:
        """Send in large batches; the place of each record."""
        return await super().send(names.PURCHASE_UPDATED, records)


@dataclass(frozen=True)
class Peer:
    """One system. `scale` is its share of the records: the slow ones need not do them all."""

    name: str
    title: str
    command: list[str] | None
    settings: str
    scale: float = 1.0
    goal: float | None = None
    load: type[Load] = OneTopicLoad
    options: dict[str, str] = field(default_factory=dict)
    prepared: Prepared | None = None
    total: Total | None = None
    # Stock Faust keeps the rows that `decide` reads in memory only.
    restarts: bool = True
    events_topic: str | None = None


def _script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"bench.peers.{name}", *arguments]


def _drained(group: str, topic: str) -> Prepared:
    async def wait(setting: Setting, worker: WorkerProcess, purchases: int) -> None:
        name = setting.topics.name(topic)
        await reading.drained(setting, f"{setting.prefix}{group}", name, worker)

    return wait


async def _total_of_ours(setting: Setting) -> int:
    topic = setting.topics.changelog(names.BILLING_RECORDS)
    return await reading.total_credits(setting, topic, lambda row: row)


async def _total_of_stock(setting: Setting) -> int:
    topic = f"{setting.prefix}stock-{setting.prefix}merchants-changelog"
    topics = await reading.topics_with(setting, "stock-merchants-changelog")
    return await reading.total_credits(setting, topics[0] if topics else topic, lambda row: row)


async def _total_of_quix(setting: Setting) -> int:
    (topic,) = await reading.topics_with(setting, "changelog__")
    return await reading.total_credits(setting, topic, _merchant_of_quix)


def _merchant_of_quix(row: Any) -> Any:
    return row.get("merchant") if isinstance(row, dict) else None


async def _total_of_sql(setting: Setting) -> int:
    import asyncpg

    connection = await asyncpg.connect(setting.extra["DATABASE_URL"])
    try:
        rows = await connection.fetch("SELECT row FROM merchants")
        return sum(msgspec.json.decode(row).get("total_credits_purchased", 0) for (row,) in rows)
    finally:
        await connection.execute("DROP TABLE merchants, purchases")
        await connection.close()


QUIX = {
    "QUIX_COMMIT_INTERVAL": "5.0",
    "QUIX_COMMIT_EVERY": "20000",
    "QUIX_STORE": "memory",
    "QUIX_LINGER_MS": "20",
}
_QUIX_SETTINGS = (
    "Quix Streams 3.28: one topic, state as bytes (msgspec), {store} store, "
    "commit_interval {commit} s, commit_every {every}, linger.ms {linger}, batch.size 1 MiB, "
    "no compression, acks all, fetch.wait.max.ms 10, max.partition.fetch.bytes 4 MiB, "
    "queued.min.messages 100,000, consumer_poll_timeout 5 ms, loglevel ERROR"
)


def quix(name: str, guarantee: str, goal: float | None, **changed: str) -> Peer:
    """Quix Streams with these settings."""
    options = {**QUIX, "QUIX_GUARANTEE": guarantee, **changed}
    settings = _QUIX_SETTINGS.format(
        store=options["QUIX_STORE"],
        commit=options["QUIX_COMMIT_INTERVAL"],
        every=options["QUIX_COMMIT_EVERY"],
        linger=options["QUIX_LINGER_MS"],
    )
    return Peer(
        name,
        f"Quix Streams, {guarantee}",
        [str(PYTHON_OF_QUIX), "-m", "bench.peers.quix"],
        f"{guarantee}; {settings}",
        goal=goal,
        options=options,
        prepared=_drained("quix", names.PURCHASE_UPDATED),
        total=_total_of_quix,
    )


KSTREAMS = {
    "KSTREAMS_STORE": "memory",
    "KSTREAMS_COMMIT_MS": "100",
    "KSTREAMS_CACHE_MIB": "64",
    "KSTREAMS_POLL_RECORDS": "5000",
    "KSTREAMS_BATCH_KIB": "256",
    "KSTREAMS_LINGER_MS": "20",
}
# Compiler threads that end would take their CPU time with them, and it is to be left out.
JVM = ("-Xms512m", "-Xmx2g", "-XX:+UseG1GC", "-XX:-UseDynamicNumberOfCompilerThreads")
_KSTREAMS_SETTINGS = (
    "Kafka Streams 4.4, exactly_once_v2, processor API, Jackson's streaming parser, {store} "
    "stores, commit.interval.ms {commit}, poll.ms half of it, one thread, cache 64 MiB (RocksDB), "
    "linger.ms 20, batch.size 256 KiB, no compression, max.poll.records 5,000, "
    "buffered.records.per.partition 5,000, restoring 20,000 a poll, static member; java {jvm}"
)


async def _total_of_kstreams(setting: Setting) -> int:
    (topic,) = await reading.topics_with(setting, "kstreams-merchants-changelog")
    return await reading.total_credits(setting, topic, lambda row: row)


def kstreams(name: str, store: str, commit_ms: int = 100) -> Peer:
    """Kafka Streams with `memory` or `rocksdb` stores; `bench.peers.java.build` compiles it."""
    changed = {"KSTREAMS_STORE": store, "KSTREAMS_COMMIT_MS": str(commit_ms)}
    log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return Peer(
        name,
        f"Kafka Streams, {store}",
        ["java", *JVM, log, "-cp", java.class_path(), "bench.peers.kstreams.Main"],
        _KSTREAMS_SETTINGS.format(store=store, commit=commit_ms, jvm=" ".join(JVM)),
        options={**KSTREAMS, **changed},
        prepared=_drained("kstreams", names.PURCHASE_UPDATED),
        total=_total_of_kstreams,
    )


RAW = {"RAW_BATCH": "5000", "RAW_PRODUCERS": "2"}
_RAW_SETTINGS = (
    f"aiokafka, one loop over all partitions, uvloop, {RAW['RAW_BATCH']} records a transaction, "
    f"{RAW['RAW_PRODUCERS']} transactional producers in turn (a batch is made while the last "
    "one commits), create_batch/send_batch of 1 MiB, positions in the transaction, "
    "read_committed, acks all"
)

OURS = Peer(
    "ours",
    "billing-stream",
    None,
    "one worker as it is deployed: one transaction for all partitions, of up to 2,000 records, "
    "exactly once, changelogs, events with headers",
    load=Load,
    prepared=caught_up,
    total=_total_of_ours,
)
PEERS = [
    OURS,
    Peer(
        "stock",
        "stock Faust",
        [sys.executable, "-m", "bench.stock_app", "worker", "-l", "error"],
        "Faust 0.15, an agent per topic, event by event, two tables (memory store and "
        "changelogs), plain sends; producer_max_batch_size 512 KiB, broker_max_poll_records "
        "500, stream_buffer_maxsize 4,096, quiet loggers; at least once at best",
        scale=0.03,
        goal=12.0,
        load=Load,
        prepared=_drained("stock", names.COMMANDS),
        total=_total_of_stock,
        restarts=False,
        events_topic="stock-events",
    ),
    quix("quix-eo", "exactly-once", 1.3),
    quix("quix-alo", "at-least-once", None),
    kstreams("kstreams", "memory"),
    kstreams("kstreams-rocksdb", "rocksdb"),
    Peer(
        "raw",
        "aiokafka alone, without the domain",
        _script("raw"),
        _RAW_SETTINGS + "; JSON parsed, two rows and an event of the real sizes, no decide",
        options=RAW,
    ),
    Peer(
        "raw-decide",
        "aiokafka alone, the same work",
        _script("raw", "decide"),
        _RAW_SETTINGS + "; rows in plain dicts, each changed row written once a transaction",
        goal=0.7,
        options=RAW,
        prepared=caught_up,
        total=_total_of_ours,
    ),
    Peer(
        "sql",
        "one SQL transaction per webhook",
        _script("sql"),
        "asyncpg, 16 connections, each with its own merchants, prepared statements, four "
        "round trips a webhook (begin, select for update, write of both rows, commit), "
        "synchronous_commit on; events by an idempotent producer, linger 5 ms, acks all, "
        "after the commit; at least once",
        scale=0.05,
        goal=5.0,
        options={"SQL_CONNECTIONS": "16"},
        prepared=_drained("sql", names.PURCHASE_UPDATED),
        total=_total_of_sql,
    ),
]
BY_NAME = {peer.name: peer for peer in PEERS}
