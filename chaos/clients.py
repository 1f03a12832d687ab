"""The steady load of HTTP clients: the apps of shops, which repeat what was not answered."""

import asyncio
import base64
import json
import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from billing_stream.records import topics as names
from chaos.promises import Bought
from chaos.sender import Sender, Unsure
from chaos.stage import Stage
from chaos.workers import Worker

# Of one session, without repetitions.
REQUESTS_EACH = 8.0
SESSIONS_AT_ONCE_MAX = 100
PURCHASES_EACH = 2
REPEAT_SECONDS_MAX = 15.0
# "Not now", or "not known": the same again, with the same key.
AGAIN = (429, 503, 504)
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=2)


class Unanswered(Exception):
    """The run is over, and there was no answer."""


class Clients:
    """Begins about `per_second` requests a second at random workers, until stopped."""

    def __init__(
        self,
        stage: Stage,
        sender: Sender,
        workers: Callable[[], Sequence[Worker]],
        per_second: float,
        seed: int,
    ) -> None:
        self._stage = stage
        self._sender = sender
        self._workers = workers
        self._pause = REQUESTS_EACH / per_second if per_second else 0.0
        self._random = random.Random(seed)
        self._session: aiohttp.ClientSession
        self._tasks: set[asyncio.Task[None]] = set()
        self._going: asyncio.Task[None] | None = None
        self._last_call = float("inf")
        self.answers: Counter[str] = Counter()
        self.answered_seconds: deque[float] = deque(maxlen=100_000)
        # From the acknowledgement of a merchant's record until its first answer other than 404.
        self.known_seconds: deque[float] = deque(maxlen=100_000)

    def start(self) -> None:
        """Begin."""
        connector = aiohttp.TCPConnector(limit=300)
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector)
        if self._pause:
            self._going = asyncio.create_task(self._run(), name="clients")

    async def stop(self, seconds: float) -> None:
        """Begin nothing new, and get an answer to everything that was asked."""
        self._last_call = time.monotonic() + seconds
        if self._going is not None:
            self._going.cancel()
            await asyncio.gather(self._going, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds + 30)
        for task in self._tasks:
            task.cancel()
        await self._session.close()

    async def _run(self) -> None:
        while True:
            if len(self._tasks) < SESSIONS_AT_ONCE_MAX:
                task = asyncio.create_task(self._shop(self._random.getrandbits(128)))
                self._tasks.add(task)
                task.add_done_callback(self._done)
            await asyncio.sleep(self._pause)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Unsure):
            self._stage.problem(f"a client: {error!r}")

    async def _shop(self, seed: int) -> None:
        chance = random.Random(seed)
        merchant = str(uuid.UUID(int=seed, version=4))
        await self._sender.create_merchant(merchant)
        shop = Shop(self, self._stage, merchant, chance)
        await shop.start_trial()
        for number in range(PURCHASES_EACH):
            await shop.buy(number, self._sender)
        await shop.read_total()

    async def insist(
        self, method: str, path: str, headers: dict[str, str], chance: random.Random, **options: Any
    ) -> tuple[int, bytes]:
        """Ask random workers until one gives an answer that is one."""
        began = time.monotonic()
        while True:
            workers = self._workers()
            url = chance.choice(workers).url + path
            try:
                async with self._session.request(method, url, headers=headers, **options) as got:
                    status, raw = got.status, await got.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                status, raw = 0, type(error).__name__.encode()
            self.answers[str(status or raw.decode())] += 1
            if status and status not in AGAIN:
                self.answered_seconds.append(time.monotonic() - began)
                return status, raw if status < 300 else raw + f" from {url}".encode()
            if time.monotonic() > self._last_call:
                raise Unanswered(f"{method} {path}: {status} {raw[:300]!r}")
            await asyncio.sleep(chance.uniform(0.2, 1.0))


class Shop:
    """One merchant's app."""

    def __init__(
        self, clients: Clients, stage: Stage, merchant: str, chance: random.Random
    ) -> None:
        self._clients = clients
        self._stage = stage
        self._merchant = merchant
        self._chance = chance
        self._headers = stage.headers(stage.promises.domains[merchant])
        self._known = False

    async def start_trial(self) -> None:
        """The trial, with a key."""
        await self._post("/api/billing/trials", None, "trial")
        self._stage.promises.trials.add(self._merchant)
        await self._maybe_again("/api/billing/trials", None, "trial")

    async def buy(self, number: int, sender: Sender) -> None:
        """A purchase, and what the person does on its checkout page."""
        pack = self._chance.choice(["small", "medium", "large"])
        body = {"pack": pack, "platform": "shopify", "return_url": "https://shop.example/back"}
        raw = await self._post("/api/billing/purchases", body, f"buy-{number}")
        data = json.loads(raw)["data"]
        purchase = data["purchase_id"]
        if purchase in self._stage.promises.purchases:
            raise AssertionError(f"purchase {purchase} was given twice")
        bought = self._stage.promises.purchases[purchase] = Bought(self._merchant, pack)
        # What an answer says can be read at once, from any worker.
        await self._read(f"/api/billing/purchases/{purchase}")
        page = "/dev/checkout/" + data["checkout_url"].rsplit("/", 1)[1]
        fate = self._chance.choices(["pay", "decline", "webhook", "leave"], [40, 15, 25, 20])[0]
        if fate in ("pay", "decline"):
            status, said = await self._clients.insist(
                "POST", page, {}, self._chance, data={"action": fate}
            )
            if status != 200:
                raise AssertionError(f"the checkout page: {status} {said!r}")
        if fate == "webhook":
            told = {"merchant_id": self._merchant, "charge_id": charge_of(page)}
            await sender.send(names.PURCHASE_UPDATED, self._merchant, {**told, "status": "active"})
        bought.paid = fate in ("pay", "webhook")
        bought.declined = fate == "decline"
        await self._maybe_again("/api/billing/purchases", body, f"buy-{number}")

    async def read_total(self) -> None:
        """The overview; the credits in it may not be there yet, the trial must."""
        body = await self._read("/api/billing")
        if body["data"]["trial"]["started_at"] is None:
            raise AssertionError(f"{self._merchant} read no trial after it was told of one")

    async def _read(self, path: str) -> Any:
        status, raw = await self._clients.insist("GET", path, self._headers, self._chance)
        if status != 200:
            raise AssertionError(f"GET {path} of {self._merchant}: {status} {raw!r}")
        return json.loads(raw)

    async def _maybe_again(self, path: str, body: Any, key: str) -> None:
        """Often the same again, some time later: it must get the same answer."""
        if self._chance.random() < 0.4:
            await asyncio.sleep(self._chance.uniform(0, REPEAT_SECONDS_MAX))
            await self._post(path, body, key)

    async def _post(self, path: str, body: Any, key: str) -> bytes:
        headers = {**self._headers, "Idempotency-Key": key}
        began = time.monotonic()
        while True:
            status, raw = await self._clients.insist("POST", path, headers, self._chance, json=body)
            # A new shop is not known at once; one that was known is never unknown again.
            if status != 404 or self._known:
                break
            await asyncio.sleep(0.2)
        if status != 201:
            raise AssertionError(f"POST {path}, {key} of {self._merchant}: {status} {raw!r}")
        if not self._known:
            self._known = True
            self._clients.known_seconds.append(time.monotonic() - began)
        differs = self._stage.promises.answered(self._merchant, path, key, raw)
        if differs:
            raise AssertionError(differs)
        return raw


def charge_of(page: str) -> str:
    """The charge that a local checkout page pays."""
    payload = page.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["charge_id"])
