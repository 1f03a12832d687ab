"""What everything in a run shares: names, the environment of workers, what was found wrong."""

import logging
import os
import secrets
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from billing_stream.dev.client import client_headers
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka import topic_admin
from billing_stream.records.topics import Topics
from chaos.promises import Promises

PARTITIONS = 8
SESSION_SECONDS = 6.0
# Five seconds after the start of a trial of 14 days it is announced to end.
REMINDER = timedelta(days=14) - timedelta(seconds=5)
PROBLEMS_SHOWN_MAX = 20


@dataclass
class Stage:
    """One run. `kafka` is the brokers without a proxy."""

    kafka: str
    folder: Path
    prefix: str = "chaos."
    partitions: int = PARTITIONS
    replication: int = 1
    session_seconds: float = SESSION_SECONDS
    client_secret: str = field(default_factory=lambda: secrets.token_hex(32))
    internal_secret: str = field(default_factory=lambda: secrets.token_hex(32))
    promises: Promises = field(default_factory=Promises)
    problems: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    # Of each problem that is shown at once.
    problem_characters: int = 2000

    @property
    def topics(self) -> Topics:
        """The names of the topics."""
        return Topics("billing-stream", self.prefix)

    @property
    def group(self) -> str:
        """The group of the workers."""
        return self.prefix + self.topics.app_id

    def partition_of(self, key: str) -> int:
        """The partition of a merchant."""
        return partition_of(key, self.partitions)

    def headers(self, domain: str) -> dict[str, str]:
        """Of a client of this shop."""
        return client_headers(domain, self.client_secret)

    def environment(self, kafka: str) -> dict[str, str]:
        """Of a worker that reaches the broker there."""
        inherited = ("PATH", "HOME", "LANG", "PYTHONPATH")
        return {
            **{name: value for name, value in os.environ.items() if name in inherited},
            "APP_ENV": "test",
            "BILLING_ENV_FILE": "",
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "CLIENT_JWT_SECRET": self.client_secret,
            "INTERNAL_JWT_SECRET": self.internal_secret,
            "BILLING_TOPIC_PREFIX": self.prefix,
            "BILLING_APP_ID": "billing-stream",
            "BILLING_PARTITIONS": str(self.partitions),
            "BILLING_REPLICATION_FACTOR": str(self.replication),
            "BILLING_SESSION_TIMEOUT": f"{self.session_seconds:.0f}s",
            "BILLING_DRAIN_DELAY": "100ms",
            "TRIAL_REMINDER": f"{REMINDER.total_seconds():.0f}s",
            "BILLING_REQUESTS_PER_MINUTE": "1000000",
            "BILLING_OPEN_PURCHASES_MAX": "100000",
        }

    async def create_topics(self) -> None:
        """Make them."""
        await topic_admin.create_topics(
            {"bootstrap_servers": self.kafka},
            self.topics.all(),
            partitions=self.partitions,
            replication=self.replication,
        )

    def problem(self, text: str) -> None:
        """Something is wrong with the service: the run has failed."""
        self.problems.append(text)
        if len(self.problems) <= PROBLEMS_SHOWN_MAX:
            self.say(f"FAULT FOUND: {text[: self.problem_characters]}")

    def say(self, text: str) -> None:
        """A line of the story, with the time since the beginning."""
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(f"{clear}{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def progress(self, text: str) -> None:
        """A line that the next one replaces, on a terminal only."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def quiet() -> None:
    """Our own clients complain of every fault that we make."""
    for name in ("aiokafka", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
