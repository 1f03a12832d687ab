"""One merchant's state under the code that is here, and what a command does to it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.domain.commands import (
    CreateMerchant,
    ImportMerchant,
    ReservePurchase,
    UpdateCharge,
)
from billing_stream.domain.decide import decide
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import Decision, Rejected
from billing_stream.domain.state import State
from billing_stream.errors import InvalidRecord
from billing_stream.records.timestamps import instant

from .layout import CatalogueVersion, PartitionRows, Policy, StagedRows, schemas, topics
from .records import Entry, Input, Recorded, RecordedEvent

read_entry = msgspec.json.Decoder(schemas.JournalEntry).decode
_REFUSAL = re.compile(r"[A-Z_]+: ")
GIVEN_UP = "no purchase claimed the charge "
ALREADY_REDRIVEN = "ALREADY_REDRIVEN"
TRIAL_STARTED = "evt.billing.trial.started.v1"
TOO_MANY_OPEN = "TOO_MANY_OPEN_PURCHASES"
PAYMENT_MISMATCH = "PAYMENT_MISMATCH"
# What versions of the rules decide otherwise.
_BY_VERSION = (UpdateCharge, CreateMerchant, ImportMerchant)


class Command(Struct, kw_only=True):
    """A command to be decided, whatever way it came.

    `payload` is missing for an invalid record, and `bad` says why. `cause` is what its events name.
    """

    name: str
    cause: str
    now: datetime
    payload: Any = None
    bad: str | None = None
    correlation_id: str | None = None
    # The dead letter that this record is a copy of.
    redriven_from: str | None = None
    is_entry: bool = False
    # Whether opening the purchase was refused because too many were open.
    over_limit: bool = False
    # By which version of the rules it was decided, and whether less was accepted for a discount, as
    # dead letters and rows say; None: as the code and the settings that are here.
    rules: int | None = None
    discounts: bool | None = None
    # Whether it started a trial; else it may have asked the owner of the shop, or been refused.
    starts_trial: bool = False


class Effect(Struct):
    """What a decision does; `refused` is the reason of the dead letter that it makes.

    `claimed` and `given_up` are references of webhooks that take effect after they waited, or are
    given up. `redriven_from` is the dead letter that is carried out. `refused_late` are the reasons
    of webhooks that were refused after they waited.
    """

    decision: Decision | None
    events: list[RecordedEvent] = []
    refused: str | None = None
    given_up: list[str] = []
    claimed: list[str] = []
    redriven_from: str | None = None
    refused_late: dict[str, str] = {}


def commands_of(recorded: Recorded, max_record_bytes: int) -> list[Command]:
    """The commands, in the order in which they were decided."""
    inputs = [_of_input(found, max_record_bytes) for found in recorded.inputs]
    own, older = {command.name for command in inputs}, set(recorded.older_rules)
    short = [code_of(one.reason) for found in recorded.letters.values() for one in found]
    for command in inputs:
        _leave_out_repeated(command, recorded, own)
        letters = recorded.letters.get(command.name, ())
        codes = [code_of(one.reason) for one in letters]
        command.over_limit = TOO_MANY_OPEN in codes
        if isinstance(command.payload, UpdateCharge):
            command.discounts = PAYMENT_MISMATCH not in codes
        command.rules = 1 if command.name in older else None
        if command.rules == 1 and isinstance(command.payload, CreateMerchant) and "bad" in codes:
            # Releases up to 0.5.1 took no record of a merchant without a platform and a domain.
            command.payload, command.bad = None, next(iter(letters)).reason
    entries = [_of_entry(entry) for entry in recorded.entries]
    opened = {row.key for row in recorded.rows if row.table == topics.CREDIT_PURCHASES}
    discounted = any((row.value or {}).get("discount") for row in recorded.rows)
    for command in (*inputs, *entries):
        # What waited is compared when its charge is attached.
        if not isinstance(command.payload, UpdateCharge) and (discounted or short):
            command.discounts = discounted and PAYMENT_MISMATCH not in short
    for command in entries:
        if isinstance(command.payload, ReservePurchase):
            named = (recorded.merchant_id, command.payload.command_id)
            command.over_limit = derived_id("purchase", *named) not in opened
    by = {(e.cause, e.correlation_id) for e in recorded.events if e.type == TRIAL_STARTED}
    for command in (*inputs, *entries):
        correlation_id = command.correlation_id if command.is_entry else None
        command.starts_trial = any(
            cause == command.cause and correlation_id in (None, other) for cause, other in by
        )
    by_name = {command.name: command for command in (*inputs, *entries)}
    return [by_name[name] for name in recorded.order]


def _leave_out_repeated(command: Command, recorded: Recorded, own: set[str]) -> None:
    """A dead letter that was carried out as another merchant's is not to be decided here."""
    for letter in recorded.letters.get(command.name, ()) if command.redriven_from else ():
        code, _, done = letter.reason.rpartition(" ")
        if code.startswith(ALREADY_REDRIVEN) and done not in own:
            command.payload, command.bad = None, letter.reason


def _of_input(found: Input, max_record_bytes: int) -> Command:
    command = Command(
        name=found.ref,
        cause=found.ref,
        now=instant(found.timestamp),
    )
    try:
        incoming = schemas.decode(found.base, found, max_record_bytes)
    except InvalidRecord as error:
        command.bad = str(error)
        return command
    # Releases up to 0.5.1 name them `said` and `letter`.
    command.payload = getattr(incoming, "payload", None) or getattr(incoming, "said", None)
    command.correlation_id = incoming.correlation_id
    command.redriven_from = getattr(incoming, "redriven_from", getattr(incoming, "letter", None))
    return command


def _of_entry(entry: Entry) -> Command:
    try:
        written = read_entry(entry.value)
    except msgspec.DecodeError as error:
        return Command(
            name=entry.ref,
            cause="",
            now=instant(0),
            bad=f"this code cannot read the entry: {error}",
            is_entry=True,
        )
    return Command(
        name=entry.ref,
        cause=written.origin,
        now=written.now,
        payload=written.command,
        correlation_id=written.correlation_id,
        is_entry=True,
    )


class Run:
    """The rows of one merchant, and nothing else."""

    def __init__(self, policy: Policy, merchant_id: str, reminded_from: str | None = None) -> None:
        # What the limit was then, the log does not say: it says who was refused by it.
        self.policy = policy
        self.merchant_id = merchant_id
        # Before, workers did not announce that a trial is about to end.
        self._reminded_from = datetime.fromisoformat(reminded_from) if reminded_from else None
        self.rows = PartitionRows()
        self._carried_out: set[str] = set()

    def _policy(self, command: Command, merchant: Merchant) -> Policy:
        policy = _policy_of(self.policy, command)
        # Releases up to 0.5.1 know no reminder.
        if not hasattr(policy, "trial_reminder"):
            return policy
        now = max(merchant.time(command.now), getattr(command.payload, "to", command.now))
        reminds = self._reminded_from is not None and now >= self._reminded_from
        return policy if reminds else msgspec.structs.replace(policy, trial_reminder=None)

    def know(self, versions: Sequence[Mapping[str, Any]]) -> None:
        """Of the catalogue, the partition knows these versions."""
        # Releases up to 0.5.1 know none.
        if len(getattr(self.rows, "versions", versions)) != len(versions):
            self.rows.versions = tuple(msgspec.convert(one, CatalogueVersion) for one in versions)

    def effect(self, command: Command) -> Effect:
        """What the command would do now; nothing is changed."""
        if command.payload is None:
            return Effect(None, refused=command.bad)
        if command.redriven_from in self._carried_out:
            return Effect(None, refused=f"{ALREADY_REDRIVEN}: {command.redriven_from}")
        state = State.of(self.policy, self.rows, self.merchant_id)
        state = msgspec.structs.replace(state, policy=self._policy(command, state.merchant))
        decision = decide(state, command.payload, command.now)
        refused = None
        if isinstance(decision.reply, Rejected) and not command.is_entry:
            refused = f"{decision.reply.code}: {decision.reply.message}"
        late, given_up = {}, []
        for one in decision.unclaimed:
            # Releases up to 0.5.1 refuse none so late.
            why = getattr(one, "refused", None)
            if why is None:
                given_up.append(one.parked.source)
            else:
                late[one.parked.source] = f"{why.code}: {why.message}"
        before = [parked.source for parked in state.merchant.parked]
        merchant = decision.merchant or state.merchant
        after = [parked.source for parked in merchant.parked]
        return Effect(
            decision,
            list(self._events(command, decision)),
            refused,
            given_up,
            [s for s in before if s not in after and s not in given_up and s not in late],
            command.redriven_from if refused is None else None,
            late,
        )

    def is_by_older_rules(self, command: Command, effect: Effect) -> bool:
        """Whether the rules of now would decide it otherwise."""
        if command.rules is None or not isinstance(command.payload, _BY_VERSION):
            return False
        now = self.effect(msgspec.structs.replace(command, rules=None))
        return _decided(now) != _decided(effect)

    def apply(self, effect: Effect) -> None:
        """Let it happen."""
        if effect.redriven_from is not None:
            self._carried_out.add(effect.redriven_from)
        if effect.decision is not None and effect.decision.merchant is not None:
            staged = StagedRows(self.rows)
            staged.add(effect.decision)
            staged.apply()

    def tables(self) -> dict[tuple[str, str], dict[str, Any]]:
        """All rows as the changelogs would have them, by table and key."""
        rows = self.rows
        found: dict[tuple[str, str], Any] = {}
        for merchant_id, merchant in rows.merchants.items():
            found[topics.BILLING_RECORDS, merchant_id] = merchant
        for purchase_id, purchase in rows.purchases.items():
            found[topics.CREDIT_PURCHASES, purchase_id] = purchase
        for adjustment_id, adjustment in getattr(rows, "adjustments", {}).items():
            found["credit_adjustments", adjustment_id] = adjustment
        for answer in rows.every_answer():
            key = f"{answer.merchant_id}/{answer.key}"
            found[topics.IDEMPOTENCY_KEYS, key] = answer
        return {key: plain(row) for key, row in found.items()}

    def _events(self, command: Command, decision: Decision) -> Iterable[RecordedEvent]:
        correlation_id = command.correlation_id or schemas.correlation_of(
            command.payload.command_id
        )
        for event in decision.events:
            event_type = topics.event_type(event.data.kind)
            value = schemas.encode_event(event, event_type, correlation_id)
            yield parse_event(value, event.sequence, command.cause)


def parse_event(value: bytes, sequence: int, cause: str, ref: str = "") -> RecordedEvent:
    """An event in its envelope, taken apart. Raises ValueError when it is not one."""
    envelope = msgspec.json.decode(value)
    return RecordedEvent(
        event_id=envelope["event_id"],
        type=envelope["event_type"],
        at=envelope["timestamp"],
        correlation_id=envelope["correlation_id"],
        sequence=sequence,
        cause=cause,
        data=envelope["data"],
        ref=ref,
    )


def plain(row: Any) -> dict[str, Any]:
    """A row as it is in JSON."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(row))
    return found


def code_of(reason: str) -> str:
    """The code of a refusal; "bad" for a record that was not understood."""
    found = _REFUSAL.match(reason)
    return found[0][:-2] if found else "bad"


def _decided(effect: Effect) -> tuple[Any, ...]:
    """Its events, why it is refused, and the shops that it claims."""
    found = () if effect.decision is None else effect.decision.shops
    return effect.events, effect.refused, [(shop.platform, shop.domain) for shop in found]


def _policy_of(policy: Policy, command: Command) -> Policy:
    """The policy with what a command's own records say of the limits and rules of then."""
    own: dict[str, Any] = {
        "open_purchases_max": 1 if command.over_limit else 1 << 30,
        "accept_discounts": command.discounts,
        "rules": command.rules,
    }
    # Releases up to 0.5.1 have none of them.
    if hasattr(policy, "trial_once_per"):
        own["trial_once_per"] = type(policy.trial_once_per)(
            "merchant" if command.starts_trial else "shop"
        )
    known = {n: value for n, value in own.items() if value is not None and hasattr(policy, n)}
    return msgspec.structs.replace(policy, **known)
