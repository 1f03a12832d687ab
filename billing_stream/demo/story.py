"""The story. Each scene sends records, shows the published events, and says why."""

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from billing_stream.demo.demo_stage import Stream, Worker
from billing_stream.domain.ids import derived_id
from billing_stream.records import topics as names

TRIAL_SECONDS = 6
PURCHASE_SECONDS = 8
ANNA = "a0000000-0000-4000-8000-00000000000a"
BEN = "b0000000-0000-4000-8000-00000000000b"
CLEO = "c0000000-0000-4000-8000-00000000000c"
NAMES = {ANNA: "Anna", BEN: "Ben", CLEO: "Cleo"}
DOMAINS = {ANNA: "anna.example", BEN: "ben.example", CLEO: "cleo.example"}
EXPECTED_EVENTS = {
    "trial.started": 1,
    "trial.expired": 1,
    "credits.purchased": 3,
    "purchase.failed": 1,
    "purchase.expired": 1,
}
EXPECTED_CREDITS = {ANNA: 500, BEN: 100, CLEO: 1000}
COLOURS = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def say(text: str = "") -> None:
    """A line of the story."""
    print(text, flush=True)


def scene(number: int, title: str) -> None:
    """A heading."""
    say()
    say(f"\x1b[1m{number}. {title}\x1b[0m" if COLOURS else f"{number}. {title}")


class Story:
    """The merchants, what they do, and the expected outcome."""

    def __init__(self, kafka: str, folder: Path) -> None:
        self.stream = Stream(kafka)
        self.one_answer = False
        self.worker = Worker(
            kafka,
            folder,
            TRIAL_DURATION=f"{TRIAL_SECONDS}s",
            PENDING_PURCHASE_EXPIRY=f"{PURCHASE_SECONDS}s",
        )

    async def begin(self) -> None:
        """Topics and a worker."""
        scene(1, "A broker, topics and one worker")
        await self.worker.run("topics", "create")
        seconds = await self.worker.start_ready()
        await self.stream.start()
        say(f"   worker {self.worker.pid} is ready after {seconds:.1f} s, {self.worker.url}")

    async def merchants(self) -> None:
        """Three installations; the second one of Anna changes nothing."""
        scene(2, "Anna, Ben and Cleo install the app; Anna's event comes twice")
        for merchant in (ANNA, BEN, CLEO, ANNA):
            payload = {
                "merchant_id": merchant,
                "platform_name": "shopify",
                "platform_shop_id": "1",
                "domain": DOMAINS[merchant],
                "name": NAMES[merchant],
                "email": f"{NAMES[merchant]}@example.com",
                "installed_at": "2026-01-01T00:00:00Z",
            }
            await self.stream.send(names.MERCHANT_CREATED, merchant, payload)
        for merchant in (ANNA, BEN, CLEO):
            await self.show_status(merchant)

    async def trial(self) -> None:
        """Cleo tries it for free."""
        scene(3, f"Cleo starts her free trial ({TRIAL_SECONDS} s here, 14 days by default)")
        await self.post(CLEO, "/api/billing/trials")
        await self.show(1)

    async def paid(self) -> None:
        """A purchase as it should be: asked for twice, paid twice, granted once."""
        scene(4, "Anna's app asks twice for the medium pack, with one key; she pays, and again")
        body = {"pack": "medium", "platform": "shopify", "return_url": "https://anna.example/ok"}
        answers = [await self.post(ANNA, "/api/billing/purchases", body, "anna-1") for _ in "12"]
        # The ids are those of each request.
        first, second = ((told["data"], told["meta"]["timestamp"]) for told in answers)
        self.one_answer = first == second
        page = answers[0]["data"]["checkout_url"]
        say(f"   her checkout page: {page[:70]}...")
        for _ in range(2):
            await self.worker.pay(page)
        await self.show(1)

    async def early(self) -> None:
        """The webhook is faster than the checkout's own answer."""
        scene(5, "Cleo's payment is reported before her charge is known: parked, then applied")
        purchase = await self.reserve(CLEO, "large")
        await self.webhook(CLEO, "charge-cleo", "ACTIVE")
        await asyncio.sleep(0.5)
        say("   (nothing yet: no purchase has the charge)")
        await self.attach(CLEO, purchase, "charge-cleo")
        await self.show(1)

    async def declined(self) -> None:
        """Ben's card is declined, and something sends rubbish."""
        scene(6, "Ben's payment is declined; a bad record comes in between")
        purchase = await self.reserve(BEN, "large")
        await self.attach(BEN, purchase, "charge-ben-1")
        await self.stream.send(names.PURCHASE_UPDATED, BEN, b'{"merchant_id": 7, "oops')
        await self.webhook(BEN, "charge-ben-1", "DECLINED")
        await self.show(2)

    async def crash(self) -> str:
        """Kill the worker while records wait; start it again."""
        scene(7, "The worker is killed with SIGKILL while Ben opens a purchase")
        pid = self.worker.pid
        await self.worker.kill()
        purchase = await self.reserve(BEN, "small")
        await self.attach(BEN, purchase, "charge-ben-2")
        say(f"   worker {pid} is dead; its records wait in Kafka")
        seconds = await self.worker.start_ready()
        say(f"   worker {self.worker.pid} took over after {seconds:.1f} s, from its changelogs")
        for merchant in (ANNA, CLEO):
            await self.show_status(merchant)
        return purchase

    async def time_passes(self) -> None:
        """The trial ends, and Ben's purchase waits for too long."""
        scene(8, "Time passes: Cleo's trial ends, Ben has not paid in time")
        await self.show(2, seconds=PURCHASE_SECONDS + 6)

    async def late(self) -> None:
        """Money that came late is still money."""
        scene(9, "Ben pays after all: late, and honoured")
        await self.webhook(BEN, "charge-ben-2", "ACTIVE")
        await self.show(1)

    async def check(self) -> bool:
        """Nothing lost, nothing doubled."""
        scene(10, "The check")
        await self.show(1, seconds=1.5)
        good = True
        found = Counter(topic for topic, _ in self.stream.seen)
        for kind, wanted in EXPECTED_EVENTS.items():
            good &= verdict(f"{kind}: {wanted}", found[names.event_type(kind)] == wanted)
        total = sum(EXPECTED_EVENTS.values())
        ids = [v["event_id"] for topic, v in self.stream.seen if topic != names.DEAD_LETTERS]
        good &= verdict(f"{total} events, all ids different", len(set(ids)) == len(ids) == total)
        good &= verdict("asked twice with one key, one answer", self.one_answer)
        good &= verdict("dead letters: 1", found[names.DEAD_LETTERS] == 1)
        for merchant, credits in EXPECTED_CREDITS.items():
            status = await self.show_status(merchant)
            right = status["credits_purchased"] == credits
            good &= verdict(f"{NAMES[merchant]} has {credits} credits", right)
        good &= verdict("the worker stops when asked to", await self.worker.stop() == 0)
        say()
        say("All is correct." if good else "Something is WRONG.")
        return good

    async def post(
        self, merchant: str, path: str, body: dict[str, str] | None = None, key: str = ""
    ) -> dict[str, Any]:
        """Ask over HTTP, as the merchant's app does, and show the answer's status."""
        code, answer = await self.worker.post(DOMAINS[merchant], path, body, key)
        say(f"   POST {path}  {NAMES[merchant]} -> {code}")
        if code != 201:
            raise RuntimeError(f"POST {path}: {code} {answer}")
        return dict(answer)

    async def command(self, merchant: str, **fields: str) -> str:
        """Send a command, as another system does; its reference."""
        return await self.stream.send(names.COMMANDS, merchant, {**fields, "merchant_id": merchant})

    async def reserve(self, merchant: str, pack: str) -> str:
        """Open a purchase; its id, which is derived from the reference of the command."""
        ref = await self.command(
            merchant, command="reserve_purchase", pack=pack, platform="shopify"
        )
        return derived_id("purchase", merchant, ref)

    async def attach(self, merchant: str, purchase: str, charge: str) -> None:
        """Tie a platform's charge to a purchase."""
        await self.command(
            merchant,
            command="attach_charge",
            purchase_id=purchase,
            charge_id=charge,
            checkout_url=f"https://pay.example/{charge}",
        )

    async def webhook(self, merchant: str, charge: str, status: str) -> None:
        """A platform's report, in the envelope that upstream puts it in."""
        await self.stream.send(
            names.PURCHASE_UPDATED,
            merchant,
            {
                "event_id": f"{charge}-{status}",
                "event_type": "webhook.app.purchase_updated",
                "correlation_id": f"demo-{charge}",
                "source_service": "webhook-gateway",
                "timestamp": "2026-01-01T00:00:00Z",
                "data": {"charge_id": charge, "status": status, "merchant_id": merchant},
            },
        )

    async def show(self, wanted: int, seconds: float = 10.0) -> None:
        """Show the published events."""
        for topic, value in await self.stream.read(wanted, seconds):
            say(f"   -> {line(topic, value)}")

    async def show_status(self, merchant: str) -> dict[str, Any]:
        """Show the status by HTTP; it is there as soon as its record was committed."""
        for _ in range(100):
            code, body = await self.worker.get(DOMAINS[merchant], "/api/billing")
            if code == 200:
                break
            await asyncio.sleep(0.1)
        else:
            raise RuntimeError(f"no status of {NAMES[merchant]}: {code} {body}")
        status: dict[str, Any] = body["data"]
        trial = status["trial"]
        state = (
            "trial active"
            if trial["active"]
            else "trial available"
            if trial["available"]
            else "trial used"
        )
        purchases = ", ".join(p["status"] for p in status["recent_purchases"]) or "none"
        say(
            f"   GET /api/billing  {NAMES[merchant]:5} {status['credits_purchased']:4} credits, "
            f"{state}, purchases: {purchases}"
        )
        return status


def line(topic: str, value: dict[str, Any]) -> str:
    """An event or a dead letter in one line."""
    if topic == names.DEAD_LETTERS:
        ref = f"{value['topic']}[{value['partition']}]@{value['offset']}"
        return f"{topic}: {ref}: {value['reason']}"
    data = {k: v for k, v in value["data"].items() if k not in ("merchant_id", "purchase_id")}
    who = NAMES.get(value["data"]["merchant_id"], "?")
    return f"{topic}: {who} {' '.join(f'{k}={v}' for k, v in data.items())}"


def verdict(what: str, good: bool) -> bool:
    """One line of the check."""
    say(f"   {'ok   ' if good else 'WRONG'} {what}")
    return good


async def tell(kafka: str, folder: Path) -> bool:
    """Show the whole story; whether all came out right."""
    began = time.monotonic()
    story = Story(kafka, folder)
    try:
        await story.begin()
        await story.merchants()
        await story.trial()
        await story.paid()
        await story.early()
        await story.declined()
        await story.crash()
        await story.time_passes()
        await story.late()
        good = await story.check()
    except RuntimeError as error:
        say(f"\nThe story broke off: {error}")
        good = False
    finally:
        await story.worker.kill()
        await story.stream.close()
    say(f"({time.monotonic() - began:.0f} s)")
    return good
