"""A whole small world, made and driven by one seed: a log, workers, clients, and bad luck.

Every step is chosen by one `random.Random(seed)`, and comes to rest before the next. At the
end everything is healed and drained; then `audit` says whether what stands in the log is
what must stand there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

from billing_stream.domain.commands import (
    AdvanceTime,
    Command,
    ExtendTrial,
    ReservePurchase,
    SetShop,
    StartTrial,
)
from billing_stream.domain.outcomes import TimedReply
from billing_stream.domain.policy import OncePer, Policy
from billing_stream.engine.crash_points import CrashPoint
from billing_stream.engine.lane import Lane, NotReady
from billing_stream.engine.log import Fenced
from billing_stream.engine.partition_processor import Request
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.schemas import encode
from tests.simulation.loop import rest
from tests.simulation.node import BATCH_MAX, TOPICS, Node, Phase
from tests.simulation.process import Fault, Process
from tests.simulation.requests import EndTxn, NotMember, Refused, Txn
from tests.simulation.requests import Request as Sent
from tests.simulation.sim_log import SimLog
from tests.simulation.traffic import KINDS, OPERATORS, Meaning, Traffic

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = Policy(
    trial_duration=20 * MINUTE,
    trial_reminder=6 * MINUTE,
    trial_once_per=OncePer.SHOP,
    purchase_expiry=12 * MINUTE,
    answer_retention=15 * MINUTE,
    parked_max=3,
    answers_max=4,
    former_shops_max=1,
    test_clock=True,
    open_purchases_max=4,
    expired_per_step=1,
)
NODES_MAX = 3
STALLS_MAX = 2
ROUNDS_MAX = 400
# Nodes that may be fenced when all is healed, one after the other.
FENCED_AT_LAST_MAX = 5
# How often something that is late arrives in the middle of a transaction.
ARRIVALS = 0.4


class Unsettled(Exception):
    """Without any fault the world did not come to its end."""


@dataclass
class Attempt:
    """One request of a client, and what became of it."""

    command: Command
    node: Node
    partition: int
    # Commits of the partition that the lane could know of, from the first one that counts.
    since: int
    answered: TimedReply | None = None
    # Commits by the time of the answer: of the partition, and of all.
    until: int = -1
    by: int = -1
    refused: bool = False

    @property
    def waits(self) -> bool:
        """Whether an answer may still come."""
        return self.answered is None and not self.refused and not self.node.dead


@dataclass
class Client:
    """Somebody who wants one thing, and asks until there is an answer."""

    command: Command
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def wants(self) -> bool:
        """Whether it is worth asking again."""
        return not any(a.answered is not None or a.waits for a in self.attempts)


class World:
    """Everything there is. `trace` is what happened, line by line."""

    def __init__(self, seed: int, log_class: type[SimLog] = SimLog) -> None:
        self.random = Random(seed)
        self.partitions = self.random.randint(1, 3)
        self.steps = self.random.randint(60, 160)
        self.commit_interval = self.random.choice((0.0, 0.0, 0.02))
        self.now = BEGIN
        self.skew: dict[str, timedelta] = {}
        self.trace: list[str] = []
        changelogs = {table: TOPICS.changelog(table) for table in names.TABLES}
        version = self.random.choice((1, 2))
        self.log = log_class(changelogs, lambda: int(self.now.timestamp() * 1000), version)
        self.log.on_commit = self._committed
        self.log.network = self._network
        self.purchases: dict[str, list[str]] = {}
        merchants = self.random.randint(1, 5)
        self.traffic = Traffic(
            self.random, merchants, lambda m: self.purchases.get(m, []), lambda: self.now
        )
        self.nodes: list[Node] = []
        self.members: list[Node] = []
        # Another process has their name: the group does not take them back.
        self.replaced: list[Node] = []
        self.generation = 0
        self.clients: list[Client] = []
        self.attempts: list[Attempt] = []
        self.problems: list[str] = []
        self.faulty = True
        # How often a gate fails: some worlds are calm, some are not.
        self.stall_rate = self.random.choice((0.0, 0.03, 0.1))
        self.lost_rate = self.random.choice((0.0, 0.02, 0.05))
        self.late_rate = self.random.choice((0.0, 0.02, 0.06))

    @property
    def alive(self) -> list[Node]:
        """The nodes that live, in the group or not; there is always one."""
        return [node for node in self.nodes if not node.dead]

    def say(self, line: str) -> None:
        """A line of the trace."""
        self.trace.append(line)

    # -- the course of things

    async def run(self) -> None:
        """All steps, then heal and drain."""
        self._rebalance()
        await rest()
        self._mourn()
        steps: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (26, self._produce),
            (34, self._deliver),
            (12, self._ask),
            (5, self._ask_again),
            (9, self._tick),
            (7, self._pass_time),
            (3, self._jump),
            (5, self._read),
            (4, self._arm),
            (2, self._kill),
            (4, self._join_or_leave),
            (3, self._cut_off),
            (2, self._start_again),
            (2, self._move_with_work_waiting),
            (3, self._come_back),
            (8, self._release),
            (4, self._deliver_again),
            (4, self._hold_or_deliver_held),
            (2, self._time_out),
            (2, self._compact),
            (3, self._wait),
            (4, self._arrive_late),
        ]
        weights = [weight for weight, _ in steps]
        for _ in range(self.steps):
            step = self.random.choices(steps, weights)[0][1]
            await step()
            await rest()
            self._mourn()
            if self.problems:
                return
        await self._heal()

    def _mourn(self) -> None:
        """What died is no member, and what it broke is seen."""
        for node in self.nodes:
            self.problems += node.problems
            node.problems = []
            if node.dead and node.phase is not Phase.DEAD:
                node.die("with a lane")
        self.members = [node for node in self.members if not node.dead]
        if not self.members:
            self._rebalance()

    # -- what comes in

    async def _produce(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            topic, key, value, meaning = self.traffic.record()
            partition = 0 if key == OPERATORS else partition_of(key, self.partitions)
            if self.random.random() < 0.08:
                partition = self.random.randrange(self.partitions)
            for _ in range(1 + (self.random.random() < 0.15)):
                self._write(topic, partition, key, value, meaning)
            self.now += timedelta(milliseconds=self.random.randrange(2000))

    def _write(
        self, topic: str, partition: int, key: str, value: bytes | None, meaning: Meaning
    ) -> None:
        entry = self.log.produce((topic, partition), value, key=key.encode(), meaning=meaning)
        self.say(f"produce {topic}[{partition}]@{entry.offset} {meaning}")

    async def _deliver(self) -> None:
        for node in self.nodes:
            if self.random.random() < 0.3 or node.dead:
                continue
            for tp in list(node.next):
                if self.random.random() < 0.6:
                    await self._deliver_from(node, tp, self.random.randint(1, BATCH_MAX))

    async def _deliver_from(self, node: Node, tp: tuple[str, int], count: int) -> bool:
        batch = node.fetch(tp, count)
        if batch is None:
            return False
        await node.deliver(batch, tp[1])
        name = f"{tp[0]}[{tp[1]}]@{batch.start}-{batch.end - 1}"
        self.say(f"deliver {name} to {node.name}")
        return True

    async def _deliver_again(self) -> None:
        node = self.random.choice(self.alive)
        if not node.next:
            return
        tp = self.random.choice(list(node.next))
        node.next[tp] = self.random.randint(0, node.next[tp])
        self.say(f"{node.name} reads {tp} again from {node.next[tp]}")

    async def _hold_or_deliver_held(self) -> None:
        node = self.random.choice(self.alive)
        if node.held:
            batch = node.held.pop(0)
            self.say(f"deliver what {node.name} held of {batch.topic}")
            await node.deliver(batch, batch.records[0].partition)
            return
        for tp in list(node.next):
            batch_held = node.fetch(tp, self.random.randint(1, 5))
            if batch_held is not None:
                # As a batch in a stream's buffer; the order within a topic is kept.
                before = batch_held.start
                node.held.append(batch_held)
                node.next[tp] = before
                return

    async def _tick(self) -> None:
        for node in self.nodes:
            if not node.dead and node.lanes.ready:
                for lane in node.lanes.values():
                    lane.wake_if_due()

    async def _pass_time(self) -> None:
        self.now += timedelta(seconds=self.random.randrange(300))
        self.say(f"now {self.now:%H:%M:%S}")

    async def _jump(self) -> None:
        node = self.random.choice(self.alive)
        self.skew[node.name] = timedelta(seconds=self.random.randint(-300, 300))
        self.say(f"the clock of {node.name} is {self.skew[node.name]} off")

    async def _wait(self) -> None:
        await rest(self.random.choice((0.03, 0.5, 4.0)))

    # -- clients

    async def _ask(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            client = Client(self.traffic.command((*KINDS, ExtendTrial, SetShop)))
            self.clients.append(client)
            self._send(client)

    async def _ask_again(self) -> None:
        again = [c for c in self.clients if self._repeats(c)]
        if again:
            self._send(self.random.choice(again))

    def _repeats(self, client: Client) -> bool:
        if client.wants:
            return True
        # One with a key may also have given up on an answer, or not have seen it.
        return getattr(client.command, "idempotency_key", None) is not None

    def _send(self, client: Client) -> None:
        command = msgspec.structs.replace(client.command, command_id=f"http/{len(self.attempts)}")
        partition = partition_of(command.merchant_id, self.partitions)
        nodes = [n for n in self.nodes if n.lane_of(partition) is not None]
        if not nodes:
            return
        node = self.random.choice(nodes)
        lane = node.lanes[partition]
        since = self.log.commits.get(partition, 0)
        try:
            future = lane.ask(Request(command, "http", f"corr-{command.command_id}"))
        except NotReady:
            return
        attempt = Attempt(command, node, partition, since)
        client.attempts.append(attempt)
        self.attempts.append(attempt)
        self.say(f"ask {node.name} {command}")
        future.add_done_callback(lambda done: self._hear(attempt, done))

    def _hear(self, attempt: Attempt, done: "asyncio.Future[Any]") -> None:
        # Asked in any case: an error that is never retrieved is logged.
        failed = not done.cancelled() and done.exception() is not None
        if done.cancelled() or attempt.node.dead:
            return
        if failed:
            attempt.refused = True
            self.say(f"refused {attempt.command.command_id}")
            return
        attempt.answered = done.result()
        attempt.until = self.log.commits.get(attempt.partition, 0)
        attempt.by = len(self.log.history)
        self.say(f"answer {attempt.command.command_id} {attempt.answered}")

    async def _read(self) -> None:
        """Whoever reads sees only what is committed, at any moment."""
        for node in self.nodes:
            if node.dead:
                continue
            for partition, lane in node.lanes.items():
                processor: Any = lane.processor
                for merchant in processor.rows.merchants.values():
                    topic = TOPICS.changelog(names.BILLING_RECORDS)
                    row = (topic, merchant.merchant_id.encode(), encode(merchant))
                    if row not in self.log.rows:
                        self.problems.append(
                            f"{node.name} shows of partition {partition} what was never "
                            f"committed: {merchant}"
                        )

    # -- bad luck

    def fault(self, process: Process, point: CrashPoint | None) -> Fault:
        """What happens to a process at a gate."""
        if not self.faulty:
            return Fault.NONE
        points = (CrashPoint.HALF_SENT, CrashPoint.SENT, CrashPoint.ACCEPTED)
        if point in points and self.random.random() < ARRIVALS:
            self._arrive()
        luck = self.random.random()
        stalled = sum(len(node.stalled) for node in self.nodes if not node.dead)
        if luck < self.stall_rate and stalled < STALLS_MAX:
            self.say(f"{process.name} stands still at {point}")
            return Fault.STALL
        if luck > 1 - self.lost_rate and point in (
            CrashPoint.SENT,
            CrashPoint.ACCEPTED,
            CrashPoint.COMMITTED,
            CrashPoint.HALF_SENT,
        ):
            self.say(f"{process.name} loses its connection at {point}")
            return Fault.LOST
        return Fault.NONE

    def _network(self, request: Sent) -> Fault:
        """What happens to a request on its way."""
        if not self.faulty:
            return Fault.NONE
        luck = self.random.random() / (3 if isinstance(request, EndTxn) else 1)
        fault = Fault.NONE
        if luck < self.late_rate:
            fault = Fault.LATE
        elif luck < self.late_rate * 1.5:
            fault = Fault.REPEATED
        elif luck < self.late_rate * 1.5 + self.lost_rate / 10:
            fault = Fault.LOST
        if fault is not Fault.NONE:
            self.say(f"{fault.value} {request.name} of {request.id}")
        return fault

    async def _arrive_late(self) -> None:
        self._arrive()

    def _arrive(self) -> None:
        """Something that was sent some time ago arrives; its answer goes nowhere."""
        if not self.log.late:
            return
        request = self.log.late.pop(self.random.randrange(len(self.log.late)))
        running = any(txn.id == request.id for txn in self.log.open_transactions)
        during = "in an open transaction" if running else "between transactions"
        try:
            self.log.take(request)
            became = "taken"
        except (Fenced, Refused, NotMember) as error:
            became = f"refused: {error}"
        self.say(f"a late {request.name} of {request.id} arrives {during}: {became}")

    async def _arm(self) -> None:
        node = self.random.choice(self.alive)
        node.crash_at = self.random.choice(list(CrashPoint))
        node.passes_left = self.random.randrange(3)
        self.say(f"{node.name} shall crash at {node.crash_at}:{node.passes_left}")

    async def _kill(self) -> None:
        self.random.choice(self.alive).die("killed")

    async def _join_or_leave(self) -> None:
        if len(self.alive) < NODES_MAX and self.random.random() < 0.8:
            self.members.append(self._new_node())
        self._rebalance()

    async def _cut_off(self) -> None:
        """A member that the group gives up, and that knows nothing of it."""
        if self.members:
            zombie = self.members.pop(self.random.randrange(len(self.members)))
            self.say(f"{zombie.name} is cut off")
            self._rebalance()

    async def _start_again(self) -> None:
        """A static member starts again, in the same generation; its old process lives on."""
        running = [node for node in self.members if node.phase is Phase.RUNNING]
        if running:
            zombie = self.random.choice(running)
            node = self._new_node()
            node.worker = zombie.worker
            self.members[self.members.index(zombie)] = node
            self.replaced.append(zombie)
            self.log.members = (self.log.members - {zombie.name}) | {node.name}
            self.say(f"{node.name} starts in the place of {zombie.name}")
            node.hear(zombie.owned, self.generation)

    async def _move_with_work_waiting(self) -> None:
        """A rebalance that comes while one transaction lasts and requests wait behind it."""
        if not any(node.stalled for node in self.members):
            return
        await self._ask()
        await self._ask()
        self._rebalance()
        # Longer than a lane may take to drain.
        await rest(4.0)
        await self._release()

    async def _come_back(self) -> None:
        outside = [n for n in self.nodes if not n.dead and n not in self.members]
        outside = [n for n in outside if n.phase is not Phase.REVOKING and n not in self.replaced]
        if outside:
            self.members.append(self.random.choice(outside))
            self._rebalance()

    async def _release(self) -> None:
        stalled = [s for node in self.alive for s in node.stalled]
        waiting = [until for _, until in stalled if not until.done()]
        if waiting:
            self.random.choice(waiting).set_result(None)
            self.say("what stood still goes on")

    async def _time_out(self) -> None:
        """The broker gives up a transaction that stays open too long, and fences its writer."""
        if self.log.open_transactions:
            id = self.random.choice(self.log.open_transactions).id
            self.log.time_out(id)
            self.say(f"the open transaction of {id} times out")

    async def _compact(self) -> None:
        topic = self.random.choice(list(self.log.tables))
        self.log.compact((topic, self.random.randrange(self.partitions)))
        self.say(f"compact {topic}")

    # -- the group

    def _new_node(self) -> Node:
        name = f"n{len(self.nodes)}"
        node = Node(
            name,
            self.log,
            self.fault,
            partitions=self.partitions,
            policy=POLICY,
            clock=lambda: self.now + self.skew.get(name, timedelta(0)),
            commit_interval=self.commit_interval,
            say=self.say,
        )
        self.nodes.append(node)
        self.say(f"{name} starts")
        return node

    def _rebalance(self) -> None:
        # Who does not finish giving up what it had is not waited for.
        self.members = [n for n in self.members if not n.dead and n.phase is not Phase.REVOKING]
        if not self.members:
            self.members.append(self._new_node())
        owned: dict[str, set[int]] = {node.name: set() for node in self.members}
        for partition in range(self.partitions):
            owned[self.random.choice(self.members).name].add(partition)
        self.generation += 1
        self.say(f"generation {self.generation}: {owned}")
        self.log.generation = self.generation
        self.log.members = set(owned)
        for node in self.members:
            node.hear(owned[node.name], self.generation)

    def _committed(self, txn: Txn) -> None:
        self.say(
            f"commit {txn.number} of partition {txn.partition}, generation {txn.generation}, "
            f"by {txn.who}: {len(txn.records)} records"
        )
        purchases = TOPICS.changelog(names.CREDIT_PURCHASES)
        for (topic, _), record in txn.records:
            if topic == purchases:
                row = msgspec.json.decode(record.value or b"{}")
                own = self.purchases.setdefault(row["merchant_id"], [])
                if row["id"] not in own:
                    own.append(row["id"])

    # -- the end

    async def _heal(self) -> None:
        """No more faults; everybody who lives comes back, and all is brought to its end."""
        self.say("heal")
        self.faulty = False
        for node in self.nodes:
            node.crash_at = None
            node.release()
        while self.log.late:
            self._arrive()
        # Longer than a lane may take to drain.
        await rest(10.0)
        self._mourn()
        # A node that has just started becomes a member only when it is through.
        await rest(10.0)
        self.skew.clear()
        for node in self.replaced:
            node.die("another process has its name")
        self.members = [node for node in self.nodes if not node.dead]
        self._rebalance()
        await rest(10.0)
        await self._settle()
        await self._require_lasting_owners()
        if self.random.random() < 0.7:
            self.now += 60 * MINUTE
            self.say(f"now {self.now:%H:%M:%S}")
        # The last tick must come after every clock that was ever ahead.
        self.now += 10 * MINUTE
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(ROUNDS_MAX):
            if not await self._move_on():
                return
        raise Unsettled("there is no end to it")

    async def _require_lasting_owners(self) -> None:
        """Each owner commits several times, and is not fenced any more.

        A few may be, at first: by a node that was cut off while it recovered.
        """
        for _ in range(FENCED_AT_LAST_MAX):
            before = self._lanes()
            for _ in range(3):
                for merchant in self.traffic.merchants:
                    client = Client(AdvanceTime(merchant))
                    self.clients.append(client)
                    self._send(client)
                await rest(0.1)
            if before == self._lanes():
                return
            await self._settle()
        raise Unsettled("owners are fenced again and again, though nothing happened to them")

    def _lanes(self) -> list[tuple[str, int, Lane[Any]]]:
        """The lanes that live; one that was restored again is another."""
        alive = [node for node in self.members if not node.dead]
        return [(node.name, p, lane) for node in alive for p, lane in sorted(node.lanes.items())]

    async def _move_on(self) -> bool:
        """One round of the healed world; whether anything was left to do."""
        before = self._progress()
        moved = False
        for node in self.members:
            for tp in list(node.next):
                moved |= await self._deliver_from(node, tp, BATCH_MAX)
        await self._tick()
        for client in self.clients:
            if client.wants and isinstance(client.command, StartTrial | ReservePurchase):
                self._send(client)
                moved = True
        await rest(0.1)
        if any(node.dead for node in self.members):
            # Somebody fenced an owner, too late to own the partition itself.
            self._mourn()
            await rest(10.0)
            self._rebalance()
            await rest(10.0)
            return True
        return moved or before != self._progress()

    def _progress(self) -> tuple[object, ...]:
        """Something that changes while anything is left to do."""
        taken_back = sum(node.taken_back for node in self.nodes)
        return len(self.log.history), self.log.open[:], taken_back

    def owners(self) -> dict[int, Node]:
        """Who owns which partition."""
        return {partition: node for node in self.members for partition in node.lanes}
