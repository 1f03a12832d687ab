"""The engine broken on purpose, in ways that each would lose or double money.

A mutant is a piece of the engine's source replaced by a worse one, while a `with` lasts. A
piece that is no longer there is an error: then the mutant must be told anew.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from billing_stream import processor
from billing_stream.domain import charges as domain_charges
from billing_stream.domain import (
    returns,
    trial_deadlines,
    trial_extensions,
    uninstalls,
    webhooks,
)
from billing_stream.domain.draft import Draft
from billing_stream.engine.committer import Committer
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_inputs import StagedInputs
from billing_stream.engine.record_order import StagedOrder
from billing_stream.processor import BillingProcessor, BillingStage
from billing_stream.tables import charges
from billing_stream.tables.rows import StagedRows
from tests.simulation.node import Node
from tests.simulation.sim_log import SimClient, SimLog, SimProducer, SimWriter


@dataclass(frozen=True)
class Mutant:
    """One fault: in `method` of `owner`, each `old` becomes its `new`.

    `seed` is one that found it, so that it is found soon; any other would do.
    """

    name: str
    owner: type[Any] | ModuleType
    method: str
    changes: Sequence[tuple[str, str]]
    seed: int = 0

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Break the engine for a while."""
        original = self.owner.__dict__[self.method]
        setattr(self.owner, self.method, self._broken(original))
        try:
            yield
        finally:
            setattr(self.owner, self.method, original)

    def _broken(self, original: Callable[..., Any]) -> Any:
        source = textwrap.dedent(inspect.getsource(original))
        for old, new in self.changes:
            if old not in source:
                raise LookupError(f"{self.name}: {old!r} is not in {self.method} any more")
            source = source.replace(old, new)
        found: dict[str, Any] = {}
        exec(compile(source, f"<{self.name}>", "exec"), original.__globals__, found)
        return found[self.method]


PART = "Part(self.partition, records, inputs.position(self._first_input))"
WRITE = f"if records:\n        await turn.commit({PART})"
JOIN = "await self.scheduler.use(await self._log.join(member, {*self, *wanted}))"
MUST_WAIT = "self._waiting[name] = [batch]\n            "
EXPIRY = 'draft.publish(f"{merchant_id}/{period}".strip("/"), TrialExpired'
ANSWER = "entry.answer.set_result(reply)"

MUTANTS = (
    Mutant(
        "applied before the commit", Committer, "_commit", [(WRITE, f"stage.apply()\n    {WRITE}")]
    ),
    Mutant(
        "answered before the commit",
        Committer,
        "_commit",
        [
            (
                WRITE,
                "for entry, reply in zip(waiting, replies, strict=True):\n"
                f"        {ANSWER}\n    {WRITE}",
            )
        ],
    ),
    Mutant(
        "positions not written",
        Committer,
        "_commit",
        [("records += inputs.records(self._positions_topic)", "pass")],
    ),
    Mutant(
        "positions written in a transaction of their own",
        Committer,
        "_commit",
        [
            ("records += inputs.records(self._positions_topic)", "pass"),
            (
                WRITE,
                f"{WRITE}\n    positions = inputs.records(self._positions_topic)\n"
                "    async with self._scheduler.turn(0) as turn:\n"
                "        if positions:\n"
                "            await turn.commit(Part(self.partition, positions, 0))",
            ),
        ],
    ),
    Mutant(
        "goes on after a commit whose outcome is unknown",
        Committer,
        "_commit",
        [
            (
                f"await turn.commit({PART})",
                f"try:\n            await turn.commit({PART})\n"
                "        except ConnectionError:\n            pass",
            )
        ],
    ),
    Mutant(
        "records that come twice are carried out twice",
        StagedInputs,
        "_process",
        [("if record.offset < position:", "if False:")],
    ),
    Mutant(
        "a record that must wait is lost",
        StagedInputs,
        "_process",
        [(f"{MUST_WAIT}reached = record.offset", f"{MUST_WAIT}reached = record.offset + 1")],
        seed=40,
    ),
    Mutant(
        "restores before it joins",
        Lanes,
        "_join_and_restore",
        [
            (JOIN, "pass"),
            (
                "return await self._read(wanted)",
                f"found = await self._read(wanted)\n            {JOIN}\n            return found",
            ),
        ],
    ),
    Mutant(
        "begins at the start, not at the restored position",
        Lanes,
        "_lane",
        [("rows=restored.inputs", "rows=InputRows()")],
    ),
    Mutant(
        "seeks to where it was before it restored",
        Node,
        "seek",
        [("lane.positions.get(topic, 0)", "self.next.get((topic, partition), 0)")],
    ),
    Mutant(
        "a dropped lane is kept and not restored",
        Lanes,
        "drop",
        [("self.pop(p)", "self[p]")],
    ),
    Mutant(
        "a lost partition goes on being read",
        Lanes,
        "_lose",
        [("self.pop(partition)", "self[partition]")],
        seed=73,
    ),
    Mutant(
        "the group accepts offsets of an earlier generation",
        SimLog,
        "_accept",
        [("request.generation != self.generation", "False")],
    ),
    Mutant(
        "no offsets are part of a transaction",
        SimProducer,
        "commit",
        [("await self._add_offsets(frozenset(plan.partition for plan in plans))", "pass")],
    ),
    Mutant(
        "offsets are accepted before the records are sent",
        SimProducer,
        "commit",
        [
            ("await self._add_offsets(frozenset(plan.partition for plan in plans))", "pass"),
            (
                "half = len(groups) // 2",
                "await self._add_offsets(frozenset())\n    half = len(groups) // 2",
            ),
        ],
    ),
    Mutant(
        "nobody ends the transactions of earlier members, or waits for their end",
        SimClient,
        "join",
        [("self._end_earlier(member)", "pass"), ("self._undecided(member, partitions)", "False")],
    ),
    Mutant(
        "a transaction has the part of one lane only",
        SimWriter,
        "commit",
        [("for p in parts", "for p in parts[:1]")],
    ),
    Mutant(
        "a transaction begins under an epoch in which a request is under way",
        SimProducer,
        "commit",
        [("self._unanswered and", "False and")],
    ),
    Mutant(
        "the epoch that the end of a transaction gives is not taken",
        SimProducer,
        "commit",
        [("self._continue_with(self._ask(", "id(self._ask(")],
    ),
    Mutant(
        "the end of a transaction gives no other epoch",
        SimLog,
        "_commit",
        [("producer.next_epoch()", "pass"), ("producer.epoch - 1 if", "producer.epoch if")],
    ),
    Mutant(
        "records that arrive again are appended again",
        SimLog,
        "_produce",
        [("request.sequence < producer.sequences.get(request.tp, 0)", "False")],
    ),
    Mutant(
        "records are taken from an epoch that is over",
        SimLog,
        "_produce",
        [("producer.require(request.epoch)", "pass")],
    ),
    Mutant("what was aborted is read", SimLog, "visible", [("and e.visible", "and not e.control")]),
    Mutant(
        "reads past an open transaction",
        SimLog,
        "last_stable",
        [("min(firsts, default=self.ends.get(tp, 0))", "self.ends.get(tp, 0)")],
        seed=712,
    ),
    Mutant(
        "a forwarded record is lost",
        BillingStage,
        "_add_record",
        [("self._out.append(forwarded)", "str(forwarded)")],
    ),
    Mutant("a bad record is lost", BillingStage, "_add_dead_letter", [("self._out.append", "str")]),
    Mutant(
        "the timer fires twice",
        trial_deadlines,
        "pass_time",
        [(EXPIRY, f"for _ in range(2): {EXPIRY}")],
    ),
    Mutant(
        "a reminder is published at each look",
        trial_deadlines,
        "pass_time",
        [("draft.change(trial_reminded=True)", "pass")],
    ),
    Mutant(
        "a trial that has ended is announced",
        trial_deadlines,
        "pass_time",
        [("if draft.now < ends_at:", "if due < ends_at:")],
    ),
    Mutant(
        "a trial is extended again by the same key",
        trial_extensions,
        "extend",
        [("if made is not None:", "if False:")],
    ),
    Mutant(
        "an extended trial keeps its end",
        trial_extensions,
        "_extended",
        [("trial_ends_at=ends_at,", "")],
    ),
    Mutant(
        "the new end of a trial is not announced",
        trial_extensions,
        "_extended",
        [("trial_reminded=short,", "trial_reminded=True,")],
    ),
    Mutant(
        "a new period ends under the id of the first",
        trial_deadlines,
        "pass_time",
        [('f"{merchant_id}/{period}".strip("/")', "merchant_id")],
        seed=710,
    ),
    Mutant(
        "an uninstall leaves purchases open",
        uninstalls,
        "uninstall",
        [("expire(draft, purchase, REASON)", "pass")],
    ),
    Mutant(
        "an uninstall of an earlier installation counts",
        uninstalls,
        "is_about_another",
        [("installed_at > at", "False")],
    ),
    Mutant(
        "a repeated uninstall is published again",
        uninstalls,
        "uninstall",
        [("if merchant.uninstalled_at is not None:", "if False:")],
    ),
    Mutant(
        "nothing falls due but the end of a trial",
        BillingProcessor,
        "schedule",
        [("self.policy.trial_reminder", "None")],
        seed=587,
    ),
    Mutant(
        "deadlines are lost in a restart",
        BillingProcessor,
        "restored",
        [("self.schedule", "str")],
    ),
    Mutant(
        "answers are lost in a restart",
        processor,
        "restorers",
        [
            (
                "table.restorer(into, currency_of_old_rows)",
                "str if table.row is Answer else table.restorer(into, currency_of_old_rows)",
            )
        ],
    ),
    Mutant(
        "requests are not journalled",
        BillingStage,
        "_decide",
        [("self._out.append(self._processor.records.", "str(self._processor.records.")],
    ),
    Mutant(
        "a merchant's clock goes back",
        Draft,
        "__init__",
        [("now if clock is None or now > clock else clock", "now")],
    ),
    Mutant(
        "old answers stay in memory",
        StagedRows,
        "apply",
        [("base.drop_answer(merchant_id, key)", "pass")],
    ),
    Mutant(
        "a payment is not compared with the price",
        webhooks,
        "_pay",
        [("less > 0 and not draft", "False and not draft")],
    ),
    Mutant(
        "another currency is as good",
        webhooks,
        "_pay",
        [("currency != purchase.currency or", "False or")],
    ),
    Mutant(
        "an unknown status fails the purchase",
        webhooks,
        "update",
        [("if refused is not None", "if False")],
    ),
    Mutant(
        "a refund of another charge takes the sum for dollars",
        returns,
        "_part",
        [("charge_amount is None", "True")],
    ),
    Mutant(
        "a failed refund returns nothing",
        returns,
        "fail_refund",
        [('{**before.failed, own: webhook.amount or ""}', "before.failed")],
    ),
    Mutant(
        "a refund after a dispute takes the credits again",
        returns,
        "_settle",
        [("min(_WHOLE, refunded + withdrawn)", "refunded + withdrawn")],
    ),
    Mutant(
        "a dispute that was won takes credits",
        returns,
        "_withdrawn",
        [("dispute.status in gone", "True")],
    ),
    Mutant(
        "the last report of a dispute wins",
        returns,
        "dispute",
        [("if _RANKS[known.status] >= _RANKS[status]", "if False")],
    ),
    Mutant(
        "increments are taken for sums",
        returns,
        "refund",
        [("share > known and own is None", "share > known")],
    ),
    Mutant(
        "a record on a wrong partition is carried out there",
        BillingStage,
        "_is_ours",
        [("== processor.partition", ">= 0")],
    ),
)

# Each gives a charge to the wrong purchase, or loses a webhook that names no merchant.
CHARGE_MUTANTS = (
    Mutant(
        "the last purchase has the charge",
        domain_charges,
        "register",
        [("return charge if same else None", "return Charge(merchant_id, purchase_id)")],
    ),
    Mutant(
        "a second claim is not told",
        charges,
        "_refuse",
        [("add_letter(dead_letter(record, why), CHARGE_TAKEN)", "str(why)")],
    ),
    Mutant(
        "an attached charge is not registered",
        BillingStage,
        "_collect",
        [("self._out.append(records.registered(said))", "pass")],
    ),
    Mutant(
        "what waits for a charge is forgotten",
        charges,
        "take",
        [("for one in known.waiting]", "for one in ()]")],
    ),
    Mutant(
        "what waits stays when its charge is known",
        domain_charges,
        "register",
        [
            (
                "Charge(merchant_id, purchase_id)",
                "replace(charge, merchant_id=merchant_id, purchase_id=purchase_id)",
            )
        ],
    ),
    Mutant(
        "the same webhook waits twice",
        domain_charges,
        "wait",
        [("(known.topic, known.payload) ==", "None ==")],
    ),
    Mutant(
        "a webhook is given up in silence",
        charges.ChargeWork,
        "expire",
        [("add_letter(dead_letter_of_unrouted(key, webhook), UNCLAIMED)", "str(webhook)")],
    ),
    Mutant(
        "charges are lost in a restart",
        processor,
        "restorers",
        [
            (
                "table.restorer(into, currency_of_old_rows)",
                "str if table.name == 'charges' else table.restorer(into, currency_of_old_rows)",
            )
        ],
    ),
    Mutant(
        "what waits has no deadline after a restart",
        charges.ChargeWork,
        "restored",
        [("self.schedule(key, charge)", "str(key)")],
    ),
)

RANGES = "1, self._ranges"
ORDER_FIRST = """records = inputs.order.records(self._journal_topic)
    records += stage.outgoing()"""
ORDER_LAST = """records = list(stage.outgoing())
    records += inputs.order.records(self._journal_topic)"""

# Each writes another order than the one in which a lane took its records.
ORDER_MUTANTS = (
    Mutant("a range is skipped", StagedOrder, "records", [(RANGES, f"{RANGES}[1:]")]),
    Mutant("a range begins too late", StagedOrder, "note", [("name, start,", "name, start + 1,")]),
    Mutant("a range is too long", StagedOrder, "note", [("end, moved))", "end + 1, moved))")]),
    Mutant(
        "a record that waits is in the range",
        StagedInputs,
        "_process",
        [("note(name, position, reached)", "note(name, position, max(reached, batch.end))")],
        seed=40,
    ),
    Mutant("ranges are swapped", StagedOrder, "records", [(RANGES, f"{RANGES}[::-1]")]),
    Mutant("a count is left out", StagedOrder, "records", [("number + 1", "number + 2")]),
    Mutant("a count stays", StagedOrder, "mark", [("number + 1", "number")]),
    Mutant(
        "an order of several ranges is not written",
        StagedOrder,
        "records",
        [("if not self._ranges", "if len(self._ranges) != 1")],
    ),
    Mutant(
        "a request is not written",
        BillingStage,
        "_decide",
        [("self._out.append(self._processor.records.", "str(self._processor.records.")],
    ),
    Mutant(
        "an order follows the requests of its transaction",
        Committer,
        "_commit",
        [(ORDER_FIRST, ORDER_LAST)],
    ),
)
