"""Holds a finished world against what must be, by the rules alone.

The committed transactions are taken one by one, in their order; each must hold exactly what
the model of `verify` says that its inputs and requests lead to.
"""

import base64
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
from msgspec import to_builtins

from billing_stream.audit.verify.event_content import content_of
from billing_stream.audit.verify.model_state import EarlyWebhook
from billing_stream.domain.commands import AdjustCredits, Command, ExtendTrial, ImportMerchant
from billing_stream.domain.ids import derived_id
from billing_stream.domain.outcomes import TimedReply, TrialGranted, TrialStarted
from billing_stream.engine.log import MARK_PREFIX, POSITION_PREFIX, RESERVED_PREFIX
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.processor import BillingProcessor
from billing_stream.records import topics as names
from billing_stream.records.schemas import encode
from billing_stream.records.timestamps import instant
from billing_stream.tables.rows import PartitionRows
from tests.simulation.charges import Charges, meaning_of_routed
from tests.simulation.expected_catalogue import ExpectedCatalogue
from tests.simulation.node import TOPICS, Decided, InputCount, Node
from tests.simulation.requests import TopicPartition, Txn
from tests.simulation.shop_trials import ShopTrials, answer_of
from tests.simulation.shops import Shops
from tests.simulation.sim_log import Entry, SimLog
from tests.simulation.traffic import Meaning
from tests.simulation.world import POLICY, Attempt, World
from tests.simulation.written import not_proved
from tests.support.oracle import Oracle, Row, moment, reply_row, row_faults, rules_of
from tests.support.world import everything

OF_MERCHANTS = (
    names.BILLING_RECORDS,
    names.CREDIT_PURCHASES,
    names.CREDIT_ADJUSTMENTS,
    names.IDEMPOTENCY_KEYS,
)
RETURNS = {
    "refund": (names.PURCHASE_REFUNDED, "refund_charge"),
    "refund_failed": (names.REFUND_FAILED, "fail_refund"),
    "dispute": (names.PURCHASE_DISPUTED, "dispute_charge"),
}
LETTERS = (names.DEAD_LETTERS,)
EVENTS = {names.event_type(kind): kind for kind in names.EVENT_TYPES}


class Wrong(AssertionError):
    """Something is not as it must be."""


def require(condition: bool, *what: object) -> None:
    """Raise Wrong, saying what, unless it is so."""
    if not condition:
        raise Wrong(" ".join(str(part) for part in what))


class Audit:
    """Replays what was committed."""

    def __init__(self, log: SimLog, partitions: int) -> None:
        self.log = log
        self.partitions = partitions
        self.model = Oracle(rules_of(POLICY))
        self.positions: dict[int, dict[str, int]] = {p: {} for p in range(partitions)}
        self.generations: dict[int, int] = {}
        self.tables: dict[str, dict[bytes, bytes]] = {table: {} for table in names.TABLES}
        self.shops = Shops()
        self.charges = Charges(partitions)
        self.trials = ShopTrials(partitions)
        # What each request that was committed was answered, and by which transaction.
        self.effects: dict[str, tuple[TimedReply, int]] = {}
        self.journalled: set[str] = set()
        self.orders: dict[int, int] = {}
        self.event_ids: set[str] = set()
        self.sequences: dict[str, int] = {}
        self.catalogue = ExpectedCatalogue(partitions)
        # Answers that no transaction explains: they may have changed nothing, at some time.
        self.unexplained: dict[int, list[tuple[Attempt, datetime]]] = {}

    # -- all of it

    def replay(self) -> None:
        """Every committed transaction in order."""
        seen = dict.fromkeys(range(self.partitions), 0)
        for txn in self.log.history:
            self._explain(txn.partition, seen[txn.partition])
            seen[txn.partition] += 1
            try:
                self._transaction(txn)
            except Wrong as wrong:
                raise Wrong(
                    f"transaction {txn.number} of partition {txn.partition}: {wrong}"
                ) from None
        for partition, count in seen.items():
            self._explain(partition, count)

    def _transaction(self, txn: Txn) -> None:
        partition = txn.partition
        before = self.generations.get(partition, 0)
        require(txn.generation >= before, "written by a generation that was over")
        self.generations[partition] = txn.generation
        rows, rest = self._split(txn)
        self._positions(txn, rows)
        expected = self._order(txn)
        for done in txn.done:
            if isinstance(done, InputCount):
                expected += self._record(
                    partition, self._entry((done.topic, partition), done.offset)
                )
            else:
                expected += self._request(done, txn)
        rest = self._expired(rest, txn)
        require(len(rest) == len(expected), "wrote", rest, "instead of", expected)
        for (tp, outgoing), wanted in zip(rest, expected, strict=True):
            self._compare(partition, tp, outgoing, wanted)
        for (topic, _), outgoing in rows:
            table = self.tables[self.log.tables[topic]]
            key = outgoing.key or b""
            if outgoing.value is None:
                table.pop(key, None)
            elif not key.startswith(RESERVED_PREFIX):
                table[key] = outgoing.value

    def _expired(
        self, rest: list[tuple[TopicPartition, Outgoing]], txn: Txn
    ) -> list[tuple[TopicPartition, Outgoing]]:
        """All but the letters of webhooks that waited for a charge in vain."""
        kept, letters = [], []
        for tp, outgoing in rest:
            value = msgspec.json.decode(outgoing.value or b"null") if tp[0] in LETTERS else {}
            if value.get("topic") == names.CHARGES and value["reason"].endswith(" in time"):
                letters.append(value)
            else:
                kept.append((tp, outgoing))
        if not letters:
            return rest
        entries = self.log.topics[names.DEAD_LETTERS, txn.partition]
        written = max(instant(entry.timestamp) for entry in entries if entry.txn is txn)
        # The clock of a worker may be ahead.
        why = self.charges.expire(letters, written + timedelta(seconds=300))
        require(why is None, why)
        return kept

    def _split(
        self, txn: Txn
    ) -> tuple[list[tuple[TopicPartition, Outgoing]], list[tuple[TopicPartition, Outgoing]]]:
        require(len(txn.records) == len(txn.wanted), "committed in part")
        tps = {id(record): tp for tp, record in txn.records}
        every = [(tps[id(record)], record) for record in txn.wanted]
        rows = [(p, r) for p, r in every if p[0] in self.log.tables]
        require(all(p[1] == txn.partition for p, _ in rows), "rows on another partition")
        return rows, [(p, r) for p, r in every if p[0] not in self.log.tables]

    # -- inputs

    def _positions(self, txn: Txn, rows: list[tuple[TopicPartition, Outgoing]]) -> None:
        """Each input record exactly once, in order, and the position beside its effects."""
        reached = self.positions[txn.partition]
        took: dict[str, list[int]] = {}
        for done in txn.done:
            if isinstance(done, InputCount):
                took.setdefault(done.topic, []).append(done.offset)
        for _, outgoing in rows:
            key = outgoing.key or b""
            if not key.startswith(POSITION_PREFIX):
                continue
            topic = key[len(POSITION_PREFIX) :].decode()
            position, old = int(outgoing.value or b"0"), reached.get(topic, 0)
            require(position > old, f"position of {topic} from {old} to {position}")
            tp = (topic, txn.partition)
            entries = [e for e in self._inputs(tp) if old <= e.offset < position]
            for entry in entries:
                read_early = entry.txn is not None and entry.txn.number > txn.number
                require(not read_early, f"{tp}@{entry.offset} was read before its commit")
            offsets = [entry.offset for entry in entries]
            require(took.pop(topic, []) == offsets, f"of {tp} not {offsets} was taken")
            reached[topic] = position
        require(not took, f"{took} taken without a position")

    def _order(self, txn: Txn) -> list[Any]:
        """What must be written of the order in which the input records were taken."""
        taken = [(done.topic, done.offset) for done in txn.done if isinstance(done, InputCount)]
        if not any((r.key or b"").startswith(POSITION_PREFIX) for r in txn.wanted):
            require(not taken, "records without a position")
            return []
        self.orders[txn.partition] = self.orders.get(txn.partition, 0) + 1
        return [("order", self.orders[txn.partition], taken)]

    def _inputs(self, tp: TopicPartition) -> Iterator[Entry]:
        return (entry for entry in self.log.topics.get(tp, ()) if entry.visible)

    def _entry(self, tp: TopicPartition, offset: int) -> Entry:
        return self.log.topics[tp][offset]

    def _record(self, partition: int, entry: Entry) -> list[Any]:
        """What must come of an input record."""
        if entry.topic == names.SHOPS:
            said = msgspec.json.decode(entry.value or b"")
            if "data" in said:
                return self.trials.take(said["data"], partition)
            return self.shops.take(entry, f"{entry.topic}[{entry.partition}]@{entry.offset}")
        if entry.topic == names.OPERATOR_COMMANDS:
            return self.catalogue.take(entry, partition)
        tp = f"{entry.topic}[{entry.partition}]@{entry.offset}"
        if entry.topic == names.CHARGES:
            return self.charges.take(entry, tp)
        meaning, topic = self._meaning(entry)
        if meaning.command is None:
            return [("dead", tp, "")]
        right = partition_of(meaning.command.merchant_id, self.partitions)
        if right != partition and topic == names.OPERATOR_COMMANDS:
            return [("dead", tp, "WRONG_PARTITION")]
        if right != partition:
            return [("forward", right, entry.value, topic, tp)]
        command = msgspec.structs.replace(meaning.command, command_id=tp)
        found, _ = self._carry_out(
            partition, command, instant(entry.timestamp), meaning.correlation_id, tp, journal=None
        )
        reply = found.pop()
        if reply["type"] == "rejected":
            found.append(("dead", tp, reply["code"]))
        return found

    def _meaning(self, entry: Entry) -> tuple[Meaning, str]:
        if entry.txn is None:
            return entry.meaning, entry.topic
        if not entry.headers:
            return answer_of(entry), entry.topic
        headers = {name: (value or b"").decode() for name, value in entry.headers}
        topic, _, rest = headers["billing-forwarded-from"].rpartition("[")
        partition, _, offset = rest.partition("]@")
        if topic == names.CHARGES:
            topic = headers["billing-forwarded-topic"]
            return meaning_of_routed(entry, topic), topic
        original = self._entry((topic, int(partition)), int(offset))
        require(original.value == entry.value, "a forwarded record was changed")
        require(headers["billing-forwarded-topic"] == topic, "a forwarded record lost its topic")
        return original.meaning, topic

    # -- decisions

    def _request(self, done: Decided, txn: Txn) -> list[Any]:
        """What must come of a request or of the timer."""
        request = done.request
        command: Command = request.command
        require(command.command_id not in self.effects, f"{command.command_id} done twice")
        journal = {
            "origin": request.origin,
            "correlation_id": request.correlation_id,
            "now": done.now,
            "positions": dict(self.positions[txn.partition]),
            "command": command,
        }
        if request.origin != "timer":
            self.effects[command.command_id] = (done.answered, txn.number)
        found, changed = self._carry_out(
            txn.partition,
            command,
            done.now,
            request.correlation_id,
            request.origin,
            journal=journal,
        )
        reply = found.pop()
        told = reply_row(done.answered.reply)
        require(told == reply, f"{command} was answered {told} instead of {reply}")
        at = self._answered_at(self.model, command, reply) or done.now
        require(done.answered.at == at, f"{command} was answered at {done.answered.at}, not {at}")
        if changed:
            self.journalled.add(command.command_id)
        return found

    @staticmethod
    def _answered_at(model: Oracle, command: Command, reply: Row) -> datetime | None:
        # The refusal of a key that was used for something else is no stored answer.
        if reply.get("code") in ("IDEMPOTENCY_KEY_REUSED", "MERCHANT_NOT_FOUND"):
            return None
        me, key = model.of(command.merchant_id), getattr(command, "idempotency_key", None)
        if isinstance(command, AdjustCredits):
            made = me.adjustments.get(derived_id("adjustment", command.merchant_id, str(key)))
            return moment(made.at) if made is not None else None
        if isinstance(command, ExtendTrial):
            name = derived_id("trial.extension", command.merchant_id, str(key))
            return next((moment(one.at) for one in me.extensions if one.id == name), None)
        return moment(me.keys[key][1]) if key in me.keys else None

    def _carry_out(
        self,
        partition: int,
        command: Command,
        at: datetime,
        correlation_id: str | None,
        cause: str,
        *,
        journal: dict[str, Any] | None,
    ) -> tuple[list[Any], bool]:
        """What a command must write, and last its reply; whether it changed anything."""
        before = self._attached(command.merchant_id)
        expected = self.model.do(command, at, self.catalogue.known(partition))
        found: list[Any] = []
        changed = expected.changed or bool(expected.unclaimed)
        if changed:
            if journal is not None:
                found.append(("journal", command.merchant_id, journal))
            first = expected.sequence - len(expected.events) + 1
            for sequence, content in enumerate(expected.events, first):
                event = command.merchant_id, sequence, content, expected.at
                found.append(("event", event, correlation_id, cause))
                if content[0] == TrialStarted.kind:
                    # Now, as later in the transaction its shop may become known.
                    shop_id = self.model.of(command.merchant_id).shop_id
                    self.trials.start(command.merchant_id, shop_id)
            found += [("shop", msgspec.json.decode(encode(shop))) for shop in expected.shops]
            found += [("claim", command.merchant_id, *claim) for claim in expected.claims]
            new = dict(self._attached(command.merchant_id).items() - before.items())
            asked = command.purchases if isinstance(command, ImportMerchant) else ()
            for purchase in [old.id for old in asked if old.id in new] or new:
                found.append(("charge", new[purchase], (command.merchant_id, purchase)))
            found += [("unclaimed", parked) for parked in expected.unclaimed]
        found.append(expected.reply)
        return found, changed

    def _attached(self, merchant: str) -> dict[str, str]:
        """The charges of a merchant's purchases, by purchase."""
        bought = self.model.of(merchant).purchases
        return {p: f"{b.platform}:{b.charge}" for p, b in bought.items() if b.charge}

    # -- what was written

    def _compare(self, partition: int, tp: TopicPartition, outgoing: Outgoing, wanted: Any) -> None:
        topic, written = tp
        kind = wanted[0]
        value: Any = None
        if kind != "forward":
            value = msgspec.json.decode(outgoing.value or b"null")
        if kind == "forward":
            _, right, raw, _, came_from = wanted
            headers = dict(outgoing.headers)
            require(tp == (names.COMMANDS, right), f"forwarded to {tp}")
            require(outgoing.value == raw, "forwarded with another value")
            require(headers["billing-forwarded-from"] == came_from.encode(), headers)
        elif kind == "dead":
            _, came_from, reason = wanted
            require(topic == names.DEAD_LETTERS, f"{topic} instead of a dead letter")
            found = f"{value['topic']}[{value['partition']}]@{value['offset']}"
            require(found == came_from, f"the dead letter is of {found}, not {came_from}")
            require(value["reason"].startswith(reason), value["reason"])
        elif kind == "unclaimed":
            require(topic == names.DEAD_LETTERS, f"{topic} instead of a dead letter")
            mismatch = value["reason"].startswith("PAYMENT_MISMATCH: ")
            require(mismatch or repr(wanted[1].charge) in value["reason"], value["reason"])
            self._parked(value, wanted[1])
        elif kind in (names.CATALOGUE, names.OPERATOR_COMMANDS):
            require(tp == (kind, wanted[1]), f"{tp}, not {wanted}")
            require(value == wanted[2], f"{value}, not {wanted[2]}")
        elif kind == "shop":
            require(topic == names.SHOPS and value == wanted[1], f"{value}, not {wanted[1]}")
        elif kind in ("claim", "answer"):
            self.trials.compare(tp, value["data"], wanted)
        elif kind == "charge":
            _, key, claim = wanted
            require(tp == (names.CHARGES, partition_of(key, self.partitions)), f"{key} to {tp}")
            said = f"{value['platform']}:{value['charge_id']}"
            told = said, value["merchant_id"], value["purchase_id"]
            require(told == (key, *claim), f"{told}, not {key} of {claim}")
        elif kind == "routed":
            _, right, base, payload, came_from = wanted
            headers = dict(outgoing.headers)
            require(tp == (names.COMMANDS, right), f"routed to {tp}")
            require(value["data"] == payload, f"{value} instead of {payload}")
            require(headers["billing-forwarded-from"] == came_from.encode(), headers)
            require(headers["billing-forwarded-topic"] == base.encode(), headers)
        elif kind == "order":
            require(topic == names.JOURNAL and written == partition, f"{tp} is no journal")
            self._taken(partition, value, *wanted[1:])
        elif kind == "journal":
            require(topic == names.JOURNAL and written == partition, f"{tp} is no journal")
            said = msgspec.json.decode(encode(wanted[2]))
            # Where the first record of an input had to wait, its position is 0.
            value["positions"] = {name: at for name, at in value["positions"].items() if at}
            require(value == said, f"journal {value}, not {said}")
        else:
            require(written == partition, f"an event on partition {written}")
            self._event(topic, outgoing, value, wanted)

    def _taken(self, partition: int, order: Any, number: int, taken: list[tuple[str, int]]) -> None:
        """An order names the records that were taken, each once, and as they were taken."""
        require(order["number"] == number, f"order {order['number']}, not {number}")
        require("unordered_until" not in order, "a position that no order led to")
        named = [
            (entry.topic, entry.offset)
            for one in order["ranges"]
            for entry in self._inputs((one["topic"], partition))
            if one["from"] <= entry.offset < one["to"]
        ]
        require(named == taken, f"the order names {named}, taken were {taken}")

    @staticmethod
    def _parked(letter: Any, parked: EarlyWebhook) -> None:
        """The letter of an unclaimed webhook can be sent again as it is."""
        said = msgspec.json.decode(base64.b64decode(letter["value"]))
        told = said.get("charge_id"), said.get("amount"), said.get("currency")
        require(told == (parked.charge, parked.amount, parked.currency), f"{said}, not {parked}")
        own = said.get("refund_id", said.get("dispute_id"))
        require(own == parked.own, f"{said}, not of {parked}")
        without = parked.kind in ("refund", "refund_failed")
        require(said.get("status") == (None if without else parked.status), said)
        topic, command = RETURNS.get(parked.kind, (names.PURCHASE_UPDATED, "update_charge"))
        if letter["topic"] == names.COMMANDS:
            require(said["command"] == command, said)
        else:
            require(letter["topic"] == topic, f"{letter['topic']} for {parked}")

    def _event(self, topic: str, outgoing: Outgoing, value: Any, wanted: Any) -> None:
        _, (merchant, sequence, content, at), correlation_id, cause = wanted
        kind = EVENTS.get(topic, "")
        require(content_of(kind, value["data"]) == content, f"{value} instead of {content}")
        require(value["event_type"] == topic, value)
        require(value["data"]["merchant_id"] == merchant, f"{value} not of {merchant}")
        require(value["timestamp"] == to_builtins(at), f"{value['timestamp']} instead of {at}")
        if correlation_id is not None:
            require(value["correlation_id"] == correlation_id, value)
        require(outgoing.key == merchant.encode(), f"key {outgoing.key!r}")
        headers = dict(outgoing.headers)
        require(headers["sequence"] == str(sequence).encode(), f"{headers} not {sequence}")
        require(headers["cause"] == cause.encode(), f"{headers} not {cause}")
        require(value["event_id"] not in self.event_ids, f"event {value['event_id']} twice")
        self.event_ids.add(value["event_id"])
        require(sequence == self.sequences.get(merchant, 0) + 1, f"sequence {sequence}")
        self.sequences[merchant] = sequence

    # -- answers

    def _explain(self, partition: int, count: int) -> None:
        """Answers without a transaction must be what is so between two of them."""
        left = []
        for attempt, at in self.unexplained.get(partition, []):
            if not (attempt.since <= count <= attempt.until and self._is_so(attempt, at)):
                left.append((attempt, at))
        self.unexplained[partition] = left

    def _is_so(self, attempt: Attempt, at: datetime) -> bool:
        model = self.model.copy()
        command, answered = attempt.command, cast(TimedReply, attempt.answered)
        expected = model.do(command, at, self.catalogue.known(attempt.partition))
        told_at = self._answered_at(model, command, expected.reply) or at
        return (
            not expected.changed
            and expected.reply == reply_row(answered.reply)
            and answered.at == told_at
        )

    # -- the end

    def finish(self, now: datetime) -> None:
        """Everything was read, everything due was told."""
        for partition, reached in self.positions.items():
            for topic in names.INPUTS:
                last = max((e.offset for e in self._inputs((topic, partition))), default=-1)
                got = reached.get(topic, 0)
                end = self.log.ends.get((topic, partition), 0)
                require(
                    got == last + 1 or (got > last and got <= end),
                    f"{topic}[{partition}]: {got} of {last + 1}",
                )
        late = self.charges.overdue(now)
        require(not late, f"{late} wait, it is {now}")
        for merchant in self.model.states:
            due = self.model.next_due(merchant)
            require(due is None or due > now, f"{merchant} was due at {due}, it is {now}")

    def rows(self, table: str, of: PartitionRows) -> dict[bytes, bytes]:
        """The rows that the owner has, as they are written."""
        if table == names.BILLING_RECORDS:
            return {m.encode(): encode(row) for m, row in of.merchants.items()}
        if table == names.CREDIT_PURCHASES:
            return {p.encode(): encode(row) for p, row in of.purchases.items()}
        if table == names.CREDIT_ADJUSTMENTS:
            return {a.encode(): encode(row) for a, row in of.adjustments.items()}
        if table == names.IDEMPOTENCY_KEYS:
            return {f"{a.merchant_id}/{a.key}".encode(): encode(a) for a in of.every_answer()}
        if table == names.CHARGES_TABLE:
            return {c.encode(): encode(row) for c, row in of.charges.items()}
        return {key.encode(): encode(row) for key, row in of.shops.items()}


def check(world: World) -> None:
    """Raises Wrong when something in a finished world is not as it must be."""
    require(not world.problems, *world.problems)
    require(not world.log.open, "a transaction is open")
    audit = Audit(world.log, world.partitions)
    committed = {
        done.request.command.command_id
        for txn in world.log.history
        for done in txn.done
        if isinstance(done, Decided)
    }
    for attempt in world.attempts:
        command_id = attempt.command.command_id
        if attempt.answered is not None and command_id not in committed:
            at = attempt.node.decided_at[command_id]
            audit.unexplained.setdefault(attempt.partition, []).append((attempt, at))
    audit.replay()
    for left in audit.unexplained.values():
        for attempt, _ in left:
            raise Wrong(f"{attempt.command} was answered {attempt.answered}, which never was so")
    audit.finish(world.now)
    _check_attempts(world, audit)
    _check_rows(world, audit)
    _check_model(audit)
    refused = [text for node in world.nodes for text in node.refused]
    require(not refused, "a transaction was ended before its writer did:", *refused)
    missing = not_proved(world)
    require(missing is None, missing)


def _check_attempts(world: World, audit: Audit) -> None:
    first: dict[Any, bytes] = {}
    for attempt in world.attempts:
        command = attempt.command
        effect = audit.effects.get(command.command_id)
        if attempt.refused:
            require(effect is None, f"{command} was refused and carried out")
        if attempt.answered is None:
            continue
        if effect is not None:
            answered, number = effect
            require(answered == attempt.answered, f"{command}: {answered}, {attempt.answered}")
            require(number < attempt.by, f"{command} was answered before it was committed")
        key = getattr(command, "idempotency_key", None)
        if key is not None and isinstance(attempt.answered.reply, TrialGranted):
            said = encode(attempt.answered.reply)
            about = (command.merchant_id, key, attempt.answered.at)
            require(first.setdefault(about, said) == said, f"{about} has two answers")


def _check_rows(world: World, audit: Audit) -> None:
    owners = world.owners()
    require(set(owners) == set(range(world.partitions)), f"owned are {set(owners)}")
    in_memory: dict[str, dict[bytes, bytes]] = {table: {} for table in names.TABLES}
    for partition, node in owners.items():
        lane = node.lanes[partition]
        processor = cast(BillingProcessor, lane.processor)
        require(
            lane.positions == audit.positions[partition],
            f"the lane is at {lane.positions}, committed is {audit.positions[partition]}",
        )
        again = _restored(world, node, partition)
        require(everything(processor.rows) == everything(again.rows), "a restore gives other rows")
        require(processor.rows.versions == again.rows.versions, "a restore gives other versions")
        numbers = [one.version for one in processor.rows.versions]
        known = [one.number for one in audit.catalogue.known(partition)]
        require(numbers == known, f"versions {numbers}, not {known}")
        require(processor.next_due() == again.next_due() or _due_early(processor, again), "due")
        for table in names.TABLES:
            in_memory[table].update(audit.rows(table, processor.rows))
    for table, rows in audit.tables.items():
        require(in_memory[table] == rows, f"{table}: {in_memory[table]} in memory, not {rows}")
    shops = [
        ({"key": key.decode()} if b":" in key else {}) | msgspec.json.decode(row)
        for key, row in in_memory[names.SHOPS_TABLE].items()
    ]
    wanted = audit.shops.every_row()
    require(sorted(shops, key=encode) == wanted, f"shops {shops}, not {wanted}")
    trials: dict[str, str] = {}
    for partition, node in owners.items():
        trials.update(cast(BillingProcessor, node.lanes[partition].processor).rows.trials)
    require(trials == audit.trials.owners, f"trials {trials}, not {audit.trials.owners}")
    charges = {}
    for key, value in in_memory[names.CHARGES_TABLE].items():
        row = msgspec.json.decode(value)
        waiting = [one["source"] for one in row.get("waiting", ())]
        charges[key.decode()] = waiting or (row["merchant_id"], row["purchase_id"])
    require(charges == audit.charges.rows(), f"charges {charges}, not {audit.charges.rows()}")


def _restored(world: World, node: Node, partition: int) -> BillingProcessor:
    """The partition as a worker that starts now would have it."""
    processor = BillingProcessor(
        partition, partitions=world.partitions, policy=POLICY, names=TOPICS, max_record_bytes=1
    )
    for topic, table in world.log.tables.items():
        for entry in world.log.visible((topic, partition)):
            key = entry.key or b""
            if key.startswith(MARK_PREFIX):
                processor.restore_mark(key[len(MARK_PREFIX) :], entry.value)
            elif not key.startswith(RESERVED_PREFIX):
                processor.restore(table, [(key, entry.value)])
    list(processor.restored())
    return processor


def _due_early(processor: BillingProcessor, again: BillingProcessor) -> bool:
    """A lane may look at a merchant earlier than need be, never later."""
    first, wanted = processor.next_due(), again.next_due()
    return first is not None and (wanted is None or first < wanted)


def _check_model(audit: Audit) -> None:
    """Every row is what the model says."""
    of: dict[str, dict[str, dict[str, Row]]] = {table: {} for table in OF_MERCHANTS}
    for table in OF_MERCHANTS:
        for key, value in audit.tables[table].items():
            row = msgspec.json.decode(value)
            of[table].setdefault(row["merchant_id"], {})[row.get("key", key.decode())] = row
    merchants, purchases, adjustments, keys = of.values()
    known = {m for m, me in audit.model.states.items() if me.version}
    require(merchants.keys() == known, f"merchants {set(merchants)}, not {known}")
    for merchant in known:
        me, row = audit.model.of(merchant), merchants[merchant][merchant]
        own = (found.get(merchant, {}) for found in (purchases, adjustments, keys))
        faults = row_faults(me, row, *own)
        require(not faults, merchant, *faults)
