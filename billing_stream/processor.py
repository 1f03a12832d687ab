"""The billing of one partition, as the engine drives it: record in, decision, records out."""

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial

from billing_stream.domain.commands import Command
from billing_stream.domain.decide import decide
from billing_stream.domain.idempotency import answered_at, is_kept
from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import Decision, Rejected, Reply, Superseded, TimedReply
from billing_stream.domain.policy import Policy
from billing_stream.domain.shops import Claim
from billing_stream.domain.state import State
from billing_stream.engine.input_commands import WRONG_PARTITION
from billing_stream.engine.lane import Lane
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_processor import (
    ChangelogRows,
    MustWait,
    Outgoing,
    Request,
    RequestFailed,
)
from billing_stream.engine.partitioner import partition_of
from billing_stream.errors import InvalidRecord, is_fatal
from billing_stream.records import schemas, topics
from billing_stream.records.charge_records import ChargeRegistered
from billing_stream.records.dead_letters import (
    NO_ROOM,
    DeadLetter,
    dead_letter,
    dead_letter_of_unmatched,
)
from billing_stream.records.operator_commands import InputCommand
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord
from billing_stream.records.timestamps import instant
from billing_stream.records.topics import Topics
from billing_stream.tables import charges, shop_trials, shops
from billing_stream.tables.catalogue_versions import Catalogue
from billing_stream.tables.deadline_steps import TIMER, DeadlineSteps
from billing_stream.tables.deadlines import Deadlines
from billing_stream.tables.other_inputs import OTHERS, take_other
from billing_stream.tables.outgoing_records import OutgoingRecords
from billing_stream.tables.rows import PartitionRows, StagedRows
from billing_stream.tables.shop_trial_records import claims
from billing_stream.tables.tables import require_own, restorers

logger = logging.getLogger(__name__)

# Why a record became a dead letter, where it is no refusal (`ErrorCode`) by the rules.
NOT_UNDERSTOOD = "NOT_UNDERSTOOD"
# A bug of this code, met on one record, request or deadline.
INTERNAL_ERROR = "INTERNAL_ERROR"
# Of a copy of a dead letter, where another one was carried out.
ALREADY_REDRIVEN = "ALREADY_REDRIVEN"
# After a restore, before heartbeats have a turn: some milliseconds' worth.
MERCHANTS_AT_ONCE = 5_000


class BillingProcessor:
    """The state of one partition: rows, indexes and deadlines."""

    def __init__(
        self,
        partition: int,
        *,
        partitions: int,
        policy: Policy,
        names: Topics,
        max_record_bytes: int,
        new_stage: "NewStage | None" = None,
    ) -> None:
        self.partition = partition
        self.partitions = partitions
        self.policy = policy
        self.names = names
        self.max_record_bytes = max_record_bytes
        self._new_stage = new_stage or BillingStage
        self._parked_for = policy.early_webhook_expiry
        self.rows = PartitionRows()
        self.deadlines = Deadlines()
        # Merchants whose commands wait for overdue deadlines, with the time of the first command.
        self.behind: dict[str, datetime] = {}
        self.records = OutgoingRecords(names, partitions)
        self.catalogue = Catalogue(partition, partitions, names, policy, max_record_bytes)
        self.bases = {names.name(topic): topic for topic in topics.INPUTS}
        self.charges = charges.ChargeWork(self)
        self._restorers = restorers(self.rows, policy.currency_of_old_rows)

    def restore(self, table: str, rows: ChangelogRows) -> None:
        """Take rows from a changelog. Raises SettingsError where they are of other partitions."""
        self._restorers[table](rows)
        require_own(table, rows, self.partition, self.partitions)

    def restore_mark(self, key: bytes, value: bytes | None) -> None:
        """Take a mark: a version, all charges registered, a dead letter that was carried out."""
        rows = self.rows
        if self.catalogue.restore(rows, key, value) or charges.restore(rows, key):
            return
        if value is not None and not shop_trials.restore(rows, key, value):
            rows.redriven[key.decode()] = value.decode()

    def restored(self) -> Iterator[None]:
        """Set the deadlines of what was restored; yields where others may have their turn."""
        self.catalogue.warn_of_other_packs(self.rows)
        self.charges.restored(self.rows)
        for number, merchant_id in enumerate(self.rows.merchants):
            self.schedule(merchant_id)
            if not number % MERCHANTS_AT_ONCE:
                yield

    def begin(self) -> "BillingStage":
        """An empty stage over what was committed."""
        return self._new_stage(self)

    def next_due(self) -> datetime | None:
        """When something falls due next, or None."""
        due = (self.deadlines.first(), self.charges.next_due())
        return min((moment for moment in due if moment is not None), default=None)

    def schedule(self, merchant_id: str) -> None:
        """Have the merchant looked at when something of it falls due."""
        due = self.rows.next_due(merchant_id, self._parked_for, self.policy.trial_reminder)
        if due is not None:
            self.deadlines.set(merchant_id, due)


class BillingStage:
    """The changes of one transaction. See `engine.processor.Stage`."""

    def __init__(self, processor: BillingProcessor) -> None:
        self._processor = processor
        self._policy = processor.policy
        self._rows = StagedRows(processor.rows)
        self._out: list[Outgoing] = []
        # Of each dead letter the input topic (its full name) and a code that says why.
        self.refused: list[tuple[str, str]] = []
        # Of each record that another partition is to decide, the input topic (without prefix).
        self.forwarded: list[str] = []
        # Merchants whose overdue deadlines were processed.
        self.time_advanced_for: set[str] = set()
        self.internal_errors: list[str] = []  # On what a rule failed: record, request or timer.
        self.shop_claims: list[Claim] = []  # Outcomes of claims that are not simply the next.
        self.held = 0  # How many commands had to wait.
        self._steps: DeadlineSteps | None = None

    @property
    def steps(self) -> DeadlineSteps:
        """How many overdue deadlines this transaction processes."""
        if self._steps is None:
            self._steps = DeadlineSteps(self._rows, self._policy.expired_per_step)
        return self._steps

    def add_record(self, topic: str, record: InputRecord) -> bool | InputCommand:
        """Decode and decide; forward records of other partitions; divert invalid ones."""
        # A record on which a rule fails would fail on every worker in turn.
        try:
            return self._add_record(topic, record)
        except MustWait:
            raise
        except Exception as error:
            if is_fatal(error):
                raise
            ref = str(RecordRef.of(record))
            logger.exception("a rule failed on %s, now a dead letter", ref)
            self.internal_errors.append("record")
            self.divert(record, INTERNAL_ERROR, f"{INTERNAL_ERROR}: {type(error).__name__}")
            return False

    def _add_record(self, topic: str, record: InputRecord) -> bool | InputCommand:
        base = self._processor.bases[topic]
        try:
            decoded = schemas.decode(base, record, self._processor.max_record_bytes)
        except InvalidRecord as error:
            self.divert(record, NOT_UNDERSTOOD, str(error))
            return False
        command = decoded.payload
        if isinstance(command, OTHERS):
            place, by = self._processor, decoded.correlation_id
            parts = self._rows, place, place.catalogue, self._out, self._add_dead_letter
            return take_other(command, record, by, *parts, self.shop_claims)
        merchant = self._rows.merchant(command.merchant_id)
        if not self._is_ours(command.merchant_id, merchant, record):
            if base == topics.OPERATOR_COMMANDS:
                self.divert(record, WRONG_PARTITION, f"{WRONG_PARTITION}: not the merchant's")
                return False
            self.forwarded.append(base)
            forwarded = self._processor.records.forwarded(base, record, command.merchant_id)
            self._out.append(forwarded)
            return True
        redriven = decoded.redriven_from
        if redriven is not None and self._was_redriven(record, redriven):
            return True
        now = instant(record.timestamp)
        self._require_turn(merchant, now)
        reply = self._decide(merchant, command, now, decoded.correlation_id, command.command_id)
        if isinstance(reply, Superseded):
            shops.note(self.shop_claims, Claim.OLDER, command.merchant_id, command.merchant_id)
        if isinstance(reply, Rejected):
            self.divert(record, reply.code, f"{reply.code}: {reply.message}")
        elif redriven is not None:
            self._rows.redriven[redriven] = command.command_id
        return True

    def add_request(
        self, request: Request, now: datetime, positions: dict[str, int]
    ) -> TimedReply | RequestFailed:
        """Decide a command that came from no topic, and write it to the journal."""
        command = request.command
        merchant = self._rows.merchant(command.merchant_id)
        if request.origin != TIMER:
            self._require_turn(merchant, now)
        before = answered_at(self._rows, command)
        try:
            named = request.correlation_id, request.origin
            reply = self._decide(merchant, command, now, *named, request, positions)
        except Exception as error:
            if is_fatal(error):
                raise
            timer = request.origin == TIMER
            self.internal_errors.append(TIMER if timer else "request")
            # A timer is tried again, and logged once.
            if not (timer and self._processor.deadlines.is_failing(command.merchant_id)):
                tag = command.__struct_config__.tag
                logger.exception("a rule failed on %s of merchant %s", tag, command.merchant_id)
            return RequestFailed()
        at = answered_at(self._rows, command)
        if at is None or not is_kept(reply):
            return TimedReply(reply, now)
        return TimedReply(reply, at, replayed=at == before)

    def expire_overdue(self, now: datetime, positions: dict[str, int]) -> bool:
        """Process deadlines that are overdue; whether more are by now."""
        processor = self._processor
        behind, processor.behind = processor.behind, {}
        decide_at = partial(self.add_request, positions=positions)
        more = processor.charges.step(self._rows, now, self._out, self._add_dead_letter)
        expire = self.steps.expire
        return expire(decide_at, processor.deadlines, behind, self.time_advanced_for, now) or more

    def outgoing(self) -> Iterable[Outgoing]:
        """Changed rows first, each once however often it changed, then all the rest."""
        yield from self._processor.records.changed(self._rows)
        yield from self._out

    def apply(self) -> None:
        """Lay the changes into the rows and set deadlines again."""
        self._rows.apply()
        schedule = self._processor.schedule
        for merchant_id in self.time_advanced_for.union(self._rows.merchants):
            schedule(merchant_id)
        for key, charge in self._rows.charges.items():
            self._processor.charges.schedule(key, charge)

    def _require_turn(self, merchant: Merchant | None, now: datetime) -> None:
        """Raises MustWait where overdue deadlines of the merchant must be processed before."""
        if merchant is None:
            return
        merchant_id, processor = merchant.merchant_id, self._processor
        if not self._rows.pending_until(merchant_id, merchant.time(now)):
            return
        # One whose timers fail would wait for ever.
        failing = processor.deadlines.is_failing(merchant_id)
        if not failing and not self.steps.fits(merchant_id, now):
            processor.behind.setdefault(merchant_id, now)
            self.held += 1
            raise MustWait(merchant_id)

    def _decide(
        self,
        merchant: Merchant | None,
        command: Command,
        now: datetime,
        correlation_id: str | None,
        cause: str,
        request: Request | None = None,
        positions: dict[str, int] | None = None,
    ) -> Reply:
        known = merchant or Merchant(merchant_id=command.merchant_id)
        decision = decide(State(self._policy, self._rows, known), command, now)
        if decision.merchant is None and not decision.unclaimed:
            return decision.reply
        correlation_id = correlation_id or schemas.correlation_of(command.command_id)
        written, refused = len(self._out), len(self.refused)
        try:
            if request is not None:
                self._out.append(self._processor.records.journal(request, now, positions or {}))
            self._collect(decision, command.merchant_id, correlation_id, cause)
        except BaseException:
            # Nothing stays of a decision that cannot be written.
            del self._out[written:], self.refused[refused:]
            raise
        self._rows.add(decision)
        return decision.reply

    def _collect(
        self, decision: Decision, merchant_id: str, correlation_id: str, cause: str
    ) -> None:
        records = self._processor.records
        self._out += records.events(decision.events, merchant_id, correlation_id, cause)
        self._out += records.shops(decision.shops)
        if decision.trial_claims:
            place, made = self._processor, decision.trial_claims
            self._out += claims(made, correlation_id, place.names, place.partitions)
        for bought in decision.purchases:
            before = self._rows.purchase(bought.id)
            charge_id = bought.platform_charge_id
            if charge_id is not None and (before is None or before.platform_charge_id is None):
                said = ChargeRegistered(bought.platform, charge_id, bought.merchant_id, bought.id)
                self._out.append(records.registered(said))
                if not self._rows.charges_filled:
                    self._out += self._processor.charges.mark(self._rows)
        for unclaimed in decision.unclaimed:
            letter = dead_letter_of_unmatched(unclaimed, self._processor.names)
            code = unclaimed.refused.code if unclaimed.refused else charges.UNCLAIMED
            self._add_dead_letter(letter, NO_ROOM if unclaimed.others else code)

    def _is_ours(self, merchant_id: str, known: Merchant | None, record: InputRecord) -> bool:
        if record.partition != self._processor.partition:
            # Of a partition that was added later all are forwarded, which keeps their order.
            return False
        # The hash is slow in Python, and only our own merchants have a row here.
        processor = self._processor
        return known is not None or (
            partition_of(merchant_id, processor.partitions) == processor.partition
        )

    def _was_redriven(self, record: InputRecord, letter: str) -> bool:
        """Whether a copy of this dead letter was carried out: then this one must not be."""
        done = self._rows.redriven_as(letter)
        if done is not None:
            why = f"{ALREADY_REDRIVEN}: {letter} was carried out as {done}"
            self.divert(record, ALREADY_REDRIVEN, why)
        return done is not None

    def divert(self, record: InputRecord, code: str, reason: str) -> None:
        """Make a dead letter of a record."""
        self._add_dead_letter(dead_letter(record, reason), code)

    def take_back(self) -> None:
        """Undo the last record, of which nothing but a dead letter was added."""
        self._out.pop()
        self.refused.pop()

    def _add_dead_letter(self, letter: DeadLetter, code: str) -> None:
        self.refused.append((letter.topic, code))
        self._out.append(self._processor.records.dead_letter(letter))


NewStage = Callable[[BillingProcessor], BillingStage]
"""Makes an empty stage over what a processor has."""

BillingLane = Lane[BillingProcessor]
BillingLanes = Lanes[BillingProcessor]
