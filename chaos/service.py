"""What merchants see: how long each partition gave no answer to those who buy."""

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import aiohttp

from chaos.clients import AGAIN
from chaos.promises import Bought
from chaos.recovery import percentile
from chaos.sender import Sender, domain_of
from chaos.stage import Stage
from chaos.workers import Worker

PATH = "/api/billing/purchases"
PACK = "small"
# Merchants are made before the run: their making must not wait for a broker that is away.
MERCHANTS_EACH = 12
PAUSE_SECONDS = (0.4, 0.8)
AGAIN_SECONDS = (0.2, 0.6)
MADE_SECONDS_MAX = 120.0
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=2)


@dataclass(frozen=True)
class Gaps:
    """Seconds between two answers that were good: the longest of each partition."""

    p50: float
    longest: float

    @classmethod
    def of(cls, longest_of_each: Sequence[float]) -> "Gaps":
        """Of these."""
        return cls(percentile(longest_of_each, 0.5), max(longest_of_each, default=0.0))


class Service:
    """In each partition somebody buys about twice a second, at any worker, until it worked."""

    def __init__(
        self, stage: Stage, sender: Sender, workers: Callable[[], Sequence[Worker]], seed: int
    ) -> None:
        self._stage = stage
        self._sender = sender
        self._workers = workers
        self._random = random.Random(seed)
        self._session: aiohttp.ClientSession
        self._buyers: list[asyncio.Task[None]] = []
        self._good: list[list[float]] = [[] for _ in range(stage.partitions)]
        self._known: set[str] = set()
        self._stopping = False
        self.answers: Counter[str] = Counter()

    async def start(self) -> None:
        """Create the merchants, and begin to buy."""
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        merchants = [
            [self._merchant_in(p) for _ in range(MERCHANTS_EACH)]
            for p in range(self._stage.partitions)
        ]
        await asyncio.gather(*(self._sender.create_merchant(m) for each in merchants for m in each))
        self._buyers = [
            asyncio.create_task(self._buy_for_long(partition, each), name=f"buyer-{partition}")
            for partition, each in enumerate(merchants)
        ]

    async def stop(self, seconds: float) -> None:
        """Buy nothing new, and get an answer to what was asked for."""
        self._stopping = True
        if not self._buyers:
            return
        _, late = await asyncio.wait(self._buyers, timeout=seconds)
        for task in late:
            task.cancel()
            self._stage.problem(f"{task.get_name()} got no answer in the end")
        for error in await asyncio.gather(*self._buyers, return_exceptions=True):
            if isinstance(error, Exception):
                self._stage.problem(f"a buyer: {error!r}")
        await self._session.close()

    def gaps(self, since: float, until: float) -> Gaps:
        """Between these times (monotonic); a gap counts as far as it lies between them."""
        longest = []
        for good in self._good:
            times = [since, *(at for at in good if since < at < until), until]
            longest.append(max(b - a for a, b in pairwise(times)))
        return Gaps.of(longest)

    def _merchant_in(self, partition: int) -> str:
        while True:
            merchant = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            if self._stage.partition_of(merchant) == partition:
                return merchant

    async def _buy_for_long(self, partition: int, merchants: Sequence[str]) -> None:
        number = 0
        while not self._stopping:
            merchant = merchants[number % len(merchants)]
            await self._buy(merchant, f"served-{number}")
            self._good[partition].append(time.monotonic())
            number += 1
            await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))

    async def _buy(self, merchant: str, key: str) -> None:
        headers = {**self._stage.headers(domain_of(merchant)), "Idempotency-Key": key}
        body = {"pack": PACK, "platform": "shopify", "return_url": "https://shop.example/back"}
        while True:
            status, raw = await self._post(headers, body)
            self.answers[str(status or raw.decode())] += 1
            if status == 201:
                break
            # A new merchant is not known at once; one that was known is never unknown again.
            unknown = status == 404 and merchant not in self._known
            if status and status not in AGAIN and not unknown:
                raise AssertionError(f"{key} of {merchant}: {status} {raw!r}")
            await asyncio.sleep(self._random.uniform(*AGAIN_SECONDS))
        self._known.add(merchant)
        purchase = json.loads(raw)["data"]["purchase_id"]
        if purchase in self._stage.promises.purchases:
            raise AssertionError(f"purchase {purchase} was given twice")
        self._stage.promises.purchases[purchase] = Bought(merchant, PACK)

    async def _post(self, headers: dict[str, str], body: dict[str, str]) -> tuple[int, bytes]:
        url = self._random.choice(self._workers()).url + PATH
        try:
            async with self._session.post(url, headers=headers, json=body) as got:
                return got.status, await got.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, type(error).__name__.encode()
