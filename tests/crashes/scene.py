"""One thing happens, somebody crashes in it, somebody recovers: what stands at the end?

On the simulated log, where half a transaction may have been sent, with the engine's own
lanes. Time stands still, so that a run with a crash can be held against one without.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    DisputeCharge,
    ExtendTrial,
    FailPurchase,
    FailRefund,
    ForgetMerchant,
    ImportMerchant,
    OldPurchase,
    RefundCharge,
    ReservePurchase,
    SetShop,
    StartTrial,
    UninstallMerchant,
    UpdateCharge,
)
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Platform
from billing_stream.domain.policy import Policy
from billing_stream.domain.reports import DisputeStatus
from billing_stream.engine.crash_points import CrashPoint
from billing_stream.engine.lane import NotReady
from billing_stream.engine.partition_processor import Request
from billing_stream.engine.partitioner import partition_of
from billing_stream.processor import BillingProcessor
from billing_stream.records import topics as names
from billing_stream.records.schemas import encode
from tests.simulation.loop import rest
from tests.simulation.node import BATCH_MAX, RECORD_BYTES_MAX, TOPICS, Node, Phase
from tests.simulation.process import Fault, Process
from tests.simulation.sim_log import SimLog
from tests.support.world import everything

PARTITIONS = 2
M = "11111111-1111-4111-8111-111111111111"
HOME = partition_of(M, PARTITIONS)
START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(
    trial_duration=timedelta(minutes=5), purchase_expiry=timedelta(minutes=10), test_clock=True
)
FIRST, SECOND = (derived_id("purchase", M, command_id) for command_id in ("p1", "p2"))
CHECKOUT = "https://pay.example/1"
IN_RECOVERY = (
    CrashPoint.JOINED,
    CrashPoint.FENCED,
    CrashPoint.RECOVERING,
    CrashPoint.SOUGHT,
)
OWNED = set(range(PARTITIONS))

# A merchant with a charge attached to the first purchase, and a webhook for another charge.
BEFORE: tuple[Command, ...] = (
    CreateMerchant(M, "shopify", "one.example", "m"),
    ReservePurchase(M, "small", Platform.SHOPIFY, command_id="p1"),
    ReservePurchase(M, "large", Platform.SHOPIFY, command_id="p2"),
    AttachCharge(M, FIRST, "c1", CHECKOUT, "a"),
    UpdateCharge(M, "c2", "ACTIVE", "parked"),
)

COMMANDS: dict[str, Command] = {
    "create_merchant": CreateMerchant(M, "shopify", "two.example", "http/1"),
    "start_trial": StartTrial(M, "k", "http/1"),
    "reserve_purchase": ReservePurchase(M, "medium", Platform.SHOPIFY, "/", "k", "http/1"),
    "attach_charge": AttachCharge(M, SECOND, "c2", CHECKOUT, "http/1"),
    "fail_purchase": FailPurchase(M, SECOND, "no checkout", "http/1"),
    "update_charge": UpdateCharge(M, "c1", "accepted", "http/1"),
    "refund_charge": RefundCharge(M, "c1", "http/1", None, "3.00"),
    "fail_refund": FailRefund(M, "c1", "r1", "http/1", None, "3.00"),
    "dispute_charge": DisputeCharge(
        M, "c1", "d1", DisputeStatus.WITHDRAWN, "http/1", None, "3.00", "9.99", "USD"
    ),
    "pass_time": AdvanceTime(M, "http/1"),
    "adjust_credits": AdjustCredits(M, 25, "a gift", "k", "http/1"),
    "extend_trial": ExtendTrial(M, "ticket", "k", days=1, command_id="http/1"),
    "set_shop": SetShop(M, "shopify", "two.example", "ticket", "k", "http/1"),
    "forget_merchant": ForgetMerchant(M, "http/1"),
    "uninstall_merchant": UninstallMerchant(M, command_id="http/1"),
    "move_clock": AdvanceClock(M, START + timedelta(minutes=11), "http/1"),
    "import_merchant": ImportMerchant(
        merchant_id=M,
        created_at=START,
        purchases=(
            OldPurchase(
                id="00000000-0000-4000-8000-00000000000f",
                credits=100,
                amount="9.99",
                status="completed",
                platform=Platform.SHOPIFY,
                created_at=START,
                expires_at=START + timedelta(days=1),
                platform_charge_id="old",
                completed_at=START,
            ),
        ),
        command_id="http/1",
    ),
}


@dataclass(frozen=True)
class Written:
    """A record of an input."""

    topic: str
    value: bytes
    partition: int = HOME


@dataclass(frozen=True)
class Happening:
    """What happens at once, and is crashed in."""

    name: str
    records: tuple[Written, ...] = ()
    requests: tuple[Command, ...] = ()
    # The trial and the purchases have fallen due; the timer notices, unless others do.
    later: bool = False
    timer: bool = False


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


CREATED = Written(
    names.MERCHANT_CREATED,
    _json({"merchant_id": M, "platform_name": "shopify", "domain": "two.example"}),
)
PAID = _json({"merchant_id": M, "charge_id": "c1", "status": "ACTIVE"})
UPDATED = Written(names.PURCHASE_UPDATED, PAID)
REFUNDED = Written(names.PURCHASE_REFUNDED, _json({"merchant_id": M, "charge_id": "c1"}))
BAD = Written(names.PURCHASE_UPDATED, b"\xff")
REFUSED = Written(names.COMMANDS, encode(FailPurchase(M, derived_id("no one's"), "x")))
# With an id of its own: else it gets one of its place, which a crash may move.
ASTRAY = Written(
    names.PURCHASE_UPDATED,
    _json({"correlation_id": "corr-1", "data": json.loads(PAID)}),
    1 - HOME,
)
ON_TOPIC = {name: Written(names.COMMANDS, encode(c)) for name, c in COMMANDS.items()}
for name in ("extend_trial", "set_shop"):
    ON_TOPIC[name] = Written(names.OPERATOR_COMMANDS, encode(COMMANDS[name]))
# What must have happened, so that a command does anything.
NEEDED: dict[str, tuple[Command, ...]] = {
    "extend_trial": (StartTrial(M, "first", command_id="http/0"),)
}
NEEDED_ON_TOPIC = {
    name: tuple(Written(names.COMMANDS, encode(c)) for c in needed)
    for name, needed in NEEDED.items()
}

HAPPENINGS = (
    *(
        Happening(
            f"record {name}", (*NEEDED_ON_TOPIC.get(name, ()), record), later=name == "pass_time"
        )
        for name, record in ON_TOPIC.items()
    ),
    *(
        Happening(
            f"request {name}", (), (*NEEDED.get(name, ()), command), later=name == "pass_time"
        )
        for name, command in COMMANDS.items()
    ),
    Happening("record of a new shop", (CREATED,)),
    Happening("webhook of a payment", (UPDATED,)),
    Happening("webhook of a refund", (REFUNDED,)),
    Happening("record that is bad", (BAD,)),
    Happening("record that is refused", (REFUSED,)),
    Happening("record on a wrong partition", (ASTRAY,)),
    Happening("timer", later=True, timer=True),
    Happening(
        "everything at once",
        (*ON_TOPIC.values(), CREATED, UPDATED, REFUNDED, BAD, REFUSED),
        (
            StartTrial(M, "k", "http/1"),
            ReservePurchase(M, "medium", Platform.SHOPIFY, "/", "k2", "http/2"),
        ),
    ),
)


@dataclass
class Outcome:
    """All that stands in the log at the end, and what was answered."""

    rows: Any
    events: list[Any] = field(default_factory=list)
    journal: list[Any] = field(default_factory=list)
    dead_letters: list[Any] = field(default_factory=list)
    forwarded: list[Any] = field(default_factory=list)
    shops: list[Any] = field(default_factory=list)
    answers: dict[str, set[bytes]] = field(default_factory=dict)


class Scene:
    """A log, and the workers one after the other."""

    def __init__(self, happening: Happening) -> None:
        self.happening = happening
        self.now = START
        self.log = SimLog(
            {table: TOPICS.changelog(table) for table in names.TABLES},
            lambda: int(self.now.timestamp() * 1000),
        )
        self.nodes: list[Node] = []
        self.answers: dict[str, set[bytes]] = {}
        self._stall_at: tuple[str, CrashPoint] | None = None

    async def begin(self) -> Node:
        """The first worker, and what was before."""
        node = await self.worker()
        for command in BEFORE:
            self.ask(node, command)
            await self.settle(node)
        self.answers.clear()
        if self.happening.later:
            self.now += timedelta(minutes=11)
        return node

    async def worker(
        self, crash_at: CrashPoint | None = None, stall_at: CrashPoint | None = None
    ) -> Node:
        """Another worker, which owns all partitions when this returns, unless it stops."""
        name = f"n{len(self.nodes)}"
        node = Node(
            name,
            self.log,
            self._fault,
            partitions=PARTITIONS,
            policy=POLICY,
            clock=lambda: self.now,
        )
        self.nodes.append(node)
        node.crash_at = crash_at
        self._stall_at = (name, stall_at) if stall_at is not None else None
        self.log.generation, self.log.members = len(self.nodes), {name}
        node.hear(OWNED, self.log.generation)
        await rest()
        return node

    def stall(self, node: Node, point: CrashPoint) -> None:
        """Have the worker stand still at its next pass of a point."""
        self._stall_at = (node.name, point)

    def _fault(self, process: Process, point: CrashPoint | None) -> Fault:
        if self._stall_at != (process.name, point):
            return Fault.NONE
        self._stall_at = None
        return Fault.STALL

    def write(self) -> None:
        """What happens is written, once, into the inputs."""
        for record in self.happening.records:
            self.log.produce((record.topic, record.partition), record.value, key=M.encode())

    def held(self) -> list[Any]:
        """The rows of those who own partitions, as their stores give them."""
        owner = next(node for node in reversed(self.nodes) if not node.dead)
        return [
            everything(cast(BillingProcessor, owner.lanes[p].processor).rows)
            for p in range(PARTITIONS)
        ]

    async def let_happen(self, node: Node) -> None:
        """Deliver, ask and tick, all before anything is committed; then come to rest."""
        await self._deliver(node)
        for command in self.happening.requests:
            self.ask(node, command)
        if self.happening.timer:
            self._tick(node)
        await rest()

    async def settle(self, node: Node) -> None:
        """Until no more records come from it."""
        count = -1
        while not node.dead and count != len(self.log.history):
            count = len(self.log.history)
            await self._deliver(node)
            self._tick(node)
            await rest()

    def ask(self, node: Node, command: Command) -> None:
        """As a client asks; its answer is kept, if there is one."""
        lane = node.lane_of(partition_of(command.merchant_id, PARTITIONS))
        if lane is None:
            return
        try:
            answer = lane.ask(Request(command, "http", "corr"))
        except NotReady:
            return

        def hear(done: Any) -> None:
            if not done.cancelled() and done.exception() is None and not node.dead:
                # Whether it is the first one or a stored one depends on what crashed.
                told = replace(done.result(), replayed=False)
                self.answers.setdefault(command.command_id, set()).add(encode(told))

        answer.add_done_callback(hear)

    async def _deliver(self, node: Node) -> None:
        for place in list(node.next):
            batch = node.fetch(place, BATCH_MAX)
            if batch is not None:
                await node.deliver(batch, place[1])

    @staticmethod
    def _tick(node: Node) -> None:
        if not node.dead and node.lanes.ready:
            for lane in node.lanes.values():
                lane.wake_if_due()

    # -- what stands at the end

    def outcome(self) -> Outcome:
        """Read from the log alone."""
        problems = [problem for node in self.nodes for problem in node.problems]
        assert problems == []
        assert self.log.open == []
        found = Outcome([everything(self._restored(p).rows) for p in range(PARTITIONS)])
        assert self.held() == found.rows, "the owner has other rows than stand in the log"
        found.answers = self.answers
        for kind in names.EVENT_TYPES:
            found.events += self._read(names.event_type(kind))
        journal = [msgspec.json.decode(value or b"{}") for _, value, _ in self._read(names.JOURNAL)]
        # With other crashes, other transactions take the records.
        found.journal = [_without_positions(entry) for entry in journal if "command" in entry]
        found.dead_letters = self._read(names.DEAD_LETTERS)
        forwarded = [e for p in OWNED for e in self.log.visible((names.COMMANDS, p)) if e.txn]
        found.forwarded = [(e.partition, e.value, list(e.headers)) for e in forwarded]
        found.shops = self._read(names.SHOPS)
        return found

    def _restored(self, partition: int) -> BillingProcessor:
        processor = BillingProcessor(
            partition,
            partitions=PARTITIONS,
            policy=POLICY,
            names=TOPICS,
            max_record_bytes=RECORD_BYTES_MAX,
        )
        for topic, table in self.log.tables.items():
            for entry in self.log.visible((topic, partition)):
                if not (entry.key or b"").startswith(b"\0"):
                    processor.restore(table, [(entry.key or b"", entry.value)])
        return processor

    def _read(self, topic: str) -> list[tuple[int, bytes | None, list[Any]]]:
        # An aborted transaction took up offsets: of a forwarded record the place differs.
        return [
            (e.partition, e.value, [(k, re.sub(rb"@\d+$", b"", v or b"")) for k, v in e.headers])
            for partition in range(PARTITIONS)
            for e in self.log.visible((topic, partition))
        ]


def _without_positions(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "positions"}


async def undisturbed(happening: Happening) -> Outcome:
    """What comes of it without any crash."""
    scene = Scene(happening)
    node = await scene.begin()
    scene.write()
    await scene.let_happen(node)
    await scene.settle(node)
    return scene.outcome()


async def crashed(happening: Happening, point: CrashPoint) -> Outcome:
    """The worker crashes at the point; it starts again and goes on."""
    scene = Scene(happening)
    node = await scene.begin()
    scene.write()
    node.crash_at = CrashPoint.SENT if point in IN_RECOVERY else point
    await scene.let_happen(node)
    assert node.dead, "it did not come to the point"
    if point in IN_RECOVERY:
        again = await scene.worker(crash_at=point)
        assert again.dead, "it did not come to the point"
    return await _recovered(scene)


async def taken_over(happening: Happening, point: CrashPoint) -> Outcome:
    """The worker stands still at the point; another one takes over; then it goes on."""
    scene = Scene(happening)
    zombie = await scene.begin()
    scene.write()
    if point in IN_RECOVERY:
        zombie.crash_at = CrashPoint.SENT
        await scene.let_happen(zombie)
        zombie = await scene.worker(stall_at=point)
    elif point is CrashPoint.APPLIED:
        # There is nothing to wait for between this point and the answers.
        await scene.let_happen(zombie)
    else:
        scene.stall(zombie, point)
        await scene.let_happen(zombie)
    assert bool(zombie.stalled) == (point is not CrashPoint.APPLIED), "it did not come to the point"
    owner = await scene.worker()
    await scene.let_happen(owner)
    await scene.settle(owner)
    count = len(scene.log.history)
    # The group has given its partitions away, and does not confirm them.
    zombie.lanes.on_loss = lambda: False
    zombie.release()
    await rest()
    # It still believes that all is its own: records, clients and the timer come to it.
    zombie.next = dict.fromkeys(zombie.next, 0)
    await scene.let_happen(zombie)
    scene.ask(zombie, AdvanceTime(M, "late"))
    await scene.settle(zombie)
    assert len(scene.log.history) == count, "a zombie wrote"
    assert zombie.phase in (Phase.DEAD, Phase.RUNNING)
    assert not owner.dead
    scene.answers.pop("late", None)
    return scene.outcome()


async def _recovered(scene: Scene) -> Outcome:
    node = await scene.worker()
    # Clients that got no answer ask again.
    await scene.let_happen(node)
    await scene.settle(node)
    assert not node.dead
    return scene.outcome()
