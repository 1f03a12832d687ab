"""From records to facts: every topic of billing, one record at a time.

The changelog of `billing_records` comes first: it says how far the lanes were (positions,
and each merchant's sequence and version), which is the cut at which everything is judged.
"""

from collections.abc import Callable
from decimal import InvalidOperation
from functools import partial

import msgspec

from billing_stream.audit.verify import (
    imported,
    input_records,
    keyed_rows,
    limits,
    redriven,
    skipped_records,
    sold_terms,
    verify_inputs,
)
from billing_stream.audit.verify.content import (
    digest,
    digest_of_letter,
    header,
    raw,
    why_unreadable,
)
from billing_stream.audit.verify.event_content import content_of
from billing_stream.audit.verify.facts import (
    Action,
    DeadLetterFact,
    Entry,
    Event,
    History,
    Input,
    ReadViolation,
)
from billing_stream.audit.verify.log_records import Record, micros, partition_of
from billing_stream.audit.verify.model_state import WEBHOOKS, Rules
from billing_stream.audit.verify.odd_json import InvalidInput
from billing_stream.audit.verify.row_versions import REMINDED, purchase_of, require_known
from billing_stream.audit.verify.shop_claims import Shop
from billing_stream.audit.verify.shop_trials import ShopClaim
from billing_stream.audit.verify.verify_inputs import AboutInput, ParsedCommand
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import Topics

CHANGELOGS = b"\0changelogs"
# What was parked, as its dead letter says it; older ones said the same of every kind.
_PARKED = {"command", "merchant_id", "charge_id", "status", "purchase_id", "amount"}
_PARKED |= {"currency", "charge_amount", "refund_id", "dispute_id"}
_OLD = {"merchant_id", "charge_id", "status"}
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, InvalidOperation, RecursionError)

_decode = msgspec.json.Decoder().decode
Handler = Callable[[Record], None]


class Reader:
    """Takes records, in any order between topics after the first changelog."""

    def __init__(self, history: History, rules: Rules, only: str | None = None) -> None:
        self.history = history
        self._rules = rules
        self._only = only
        self._versions: dict[str, tuple[int, int]] = {}
        topics = history.topics
        self._bases = {topics.name(base): base for base in names.INPUTS}
        self._handlers: dict[str, Handler] = dict.fromkeys(self._bases, self._input)
        for kind in names.EVENT_TYPES:
            self._handlers[topics.name(names.event_type(kind))] = self._event_of(kind)
        self._handlers[topics.name(names.JOURNAL)] = self._entry
        self._handlers[topics.name(names.DEAD_LETTERS)] = self._letter
        self._handlers[topics.name(names.DEAD_LETTER_ACTIONS)] = self._action
        self._handlers[topics.name(names.CATALOGUE)] = history.catalogue.take
        self._handlers[topics.changelog(names.BILLING_RECORDS)] = self._merchant_row
        self._handlers[topics.changelog(names.CREDIT_PURCHASES)] = self._purchase_row
        self._handlers[topics.changelog(names.CREDIT_ADJUSTMENTS)] = self._adjustment_row
        self._handlers[topics.changelog(names.IDEMPOTENCY_KEYS)] = self._key_row
        self._handlers[topics.changelog(names.SHOPS_TABLE)] = partial(keyed_rows.shop, history)
        self._handlers[topics.changelog(names.CHARGES_TABLE)] = partial(keyed_rows.charge, history)

    @staticmethod
    def stages(topics: Topics) -> tuple[list[str], list[str]]:
        """The topics to be read first, and those to be read when their ends are known."""
        first = [topics.changelog(names.BILLING_RECORDS)]
        apart = {*first, topics.name(names.ENDED_SESSIONS), topics.name(names.ENDPOINT_CHANGED)}
        return first, [topic.name for topic in topics.all() if topic.name not in apart]

    def take(self, record: Record) -> None:
        """Sort one record in; one that billing wrote and that cannot be read is a fault."""
        self.history.counted["records"] += 1
        why = why_unreadable(record) if record.headers else None
        if why is not None and record.topic not in self._bases:
            self._trouble("formats", why, record)
        try:
            if record.key == CHANGELOGS and record.topic.endswith("-changelog"):
                ids = self.history.changelogs.setdefault(record.partition, {})
                ids[record.topic] = _decode(record.value or b"")["tables"]
            else:
                self._handlers[record.topic](record)
        except _UNREADABLE as error:
            what = f"cannot be read: {type(error).__name__}: {error}"
            self._trouble("formats", what, record)

    def finish(self) -> None:
        """Everything was read: leave out records later than the cut, or done before."""
        skipped_records.leave_out_skipped(self.history)
        skipped_records.leave_out_older(self.history)
        skipped_records.leave_out(self.history)
        redriven.leave_out_repeated(self.history)
        imported.mark_refused(self.history)
        limits.mark_refused_by_limits(self.history)
        sold_terms.mark_terms(self.history)
        for facts in self.history.merchants.values():
            facts.events.sort(key=lambda event: event.sequence)
            if self.history.allow_lag:
                kept = [event for event in facts.events if event.sequence <= facts.sequence]
                facts.later = len(facts.events) - len(kept)
                facts.events = kept

    def _trouble(self, check: str, what: str, record: Record, merchant: str | None = None) -> None:
        ref = RecordRef.of(record)
        self.history.troubles.append(ReadViolation(check, what, ref, merchant=merchant))

    def _skips(self, merchant: str) -> bool:
        return self._only is not None and merchant != self._only

    # -- inputs

    def _input(self, record: Record) -> None:
        history, ref = self.history, RecordRef.of(record)
        history.ends[ref[:2]] = record.offset + 1
        history.counted["inputs"] += 1
        came_from = header(record, verify_inputs.FORWARDED_FROM)
        base = self._bases[record.topic]
        letter = redriven.letter_of(record) if base == names.COMMANDS else ""
        if letter and came_from is None:
            history.redriven[str(ref)] = letter
        if came_from is not None and base == names.COMMANDS:
            source = RecordRef.parse_or_none(came_from)
            if source is not None and self._bases.get(source.topic) == names.CHARGES:
                history.charges.take_routed(source, record)
            elif source is not None:
                history.copies.setdefault(source, []).append((ref, hash(record.value)))
        if base == names.COMMANDS:
            base = header(record, verify_inputs.FORWARDED_TOPIC) or base
            # Those of operators come by their own topic only.
            base = "" if base == names.OPERATOR_COMMANDS else base
        if not history.is_read(*ref):
            first, count = history.unread.get(ref[:2], (record.offset, 0))
            history.unread[ref[:2]] = (first, count + 1)
            history.charges.unread.add(ref)
            return
        try:
            limit = self._rules.record_bytes_max
            verify_inputs.require_readable(record)
            if base == names.CHARGES:
                history.charges.take(record, history.partitions, limit)
                return
            parsed = verify_inputs.read(base, record.value, record.timestamp, str(ref), limit)
            if isinstance(parsed, ShopClaim):
                history.shop_trials.take(parsed, record, history.partitions)
                return
        except InvalidInput as error:
            history.bad[ref] = digest(record.key, record.value, record.headers)
            history.bad_reasons[ref] = str(error)
            return
        if isinstance(parsed, AboutInput):
            history.operator_commands[ref] = parsed.skips
            history.catalogue.take_command(parsed.about_catalogue, record)
            return
        if isinstance(parsed, Shop):
            if record.partition != partition_of(parsed.name, history.partitions):
                history.bad[ref] = digest(record.key, record.value, record.headers)
                history.bad_reasons[ref] = "a shop of another partition"
            else:
                history.shops.take(ref, record.timestamp * 1000, parsed, letter)
            return
        if self._skips(parsed.merchant):
            return
        facts = history.facts(parsed.merchant)
        if facts.partition != record.partition:
            if base == names.OPERATOR_COMMANDS:
                history.bad[ref] = digest(record.key, record.value, record.headers)
                history.bad_reasons[ref] = "it is not on the partition of its merchant"
                return
            history.foreign[ref] = hash(record.value)
            return
        content = digest(record.key, record.value, record.headers)
        found = Input(*ref, record.timestamp * 1000, parsed, content, letter)
        facts.inputs.setdefault(record.topic, []).append(found)

    # -- outcomes

    def _event_of(self, kind: str) -> Handler:
        def take(record: Record) -> None:
            self._event(kind, record)

        return take

    def _event(self, kind: str, record: Record) -> None:
        envelope = _decode(record.value or b"")
        data = envelope["data"]
        merchant = data["merchant_id"]
        self.history.counted["events"] += 1
        event = Event(
            RecordRef.of(record),
            envelope["event_id"],
            merchant,
            int(header(record, "sequence") or ""),
            header(record, "cause") or "",
            envelope["correlation_id"],
            micros(envelope["timestamp"]),
            content_of(kind, data),
            hash(record.value),
            tuple(map(data.get, ("currency", "pack", "catalogue_version"))),
        )
        if envelope["event_type"] != names.event_type(kind):
            self._trouble("formats", f"its type is {envelope['event_type']!r}", record, merchant)
        if record.key != merchant.encode():
            self._trouble("formats", "its key is not the merchant", record, merchant)
        first = self.history.ids.setdefault(event.id, event)
        if first is not event:
            same = "the same bytes" if first.digest == event.digest else "other bytes"
            what = f"the id of {first.ref} again, with {same}"
            trouble = ReadViolation("event-ids", what, event.ref, event.id, merchant)
            self.history.troubles.append(trouble)
        if kind in ("trial.ending", "trial.extended"):
            self.history.reminds(record.partition, event.at)
        if not self._skips(merchant):
            self.history.facts(merchant).events.append(event)

    def _entry(self, record: Record) -> None:
        value = _decode(record.value or b"")
        place = self.history.order(record.partition).take(value, record.offset)
        self.history.counted["entries"] += 1
        if "command" not in value:
            return
        parsed = verify_inputs.command(value["command"])
        if self._skips(parsed.merchant):
            return
        entry = Entry(
            RecordRef.of(record),
            value["origin"],
            value["correlation_id"],
            micros(value["now"]),
            parsed,
            place,
        )
        facts = self.history.facts(parsed.merchant)
        if record.partition != facts.partition:
            what = f"is of a merchant of partition {facts.partition}"
            self._trouble("journal", what, record, parsed.merchant)
        facts.journal.append(entry)

    def _letter(self, record: Record) -> None:
        value = _decode(record.value or b"")
        source = RecordRef(value["topic"], value["partition"], value["offset"])
        self.history.counted["letters"] += 1
        content = raw(value["value"])
        headers = [(name, raw(text)) for name, text in value["headers"]]
        ref, line = redriven.root_of(record, source, headers)
        self.history.lines[ref] = line
        if source[2] < 0 or source[0] not in self._bases:
            return
        given_up, parsed = False, None
        if not headers and content is not None:
            given_up, parsed = self._given_up(source, content)
        letter = DeadLetterFact(
            RecordRef.of(record),
            value["reason"],
            digest_of_letter(value),
            micros(value["timestamp"]),
            given_up,
            parsed,
        )
        self.history.letters.setdefault(source, []).append(letter)

    def _given_up(self, source: RecordRef, value: bytes) -> tuple[bool, ParsedCommand | None]:
        """Whether it may be what was parked of a webhook, and its payload when redriven."""
        base = self._bases[source[0]]
        try:
            fields = set(_decode(value))
            if fields == _OLD and base != names.PURCHASE_UPDATED:
                return True, None
            parsed = verify_inputs.read(base, value, 0, str(source), self._rules.record_bytes_max)
        except (ValueError, TypeError, RecursionError):
            return False, None
        if not isinstance(parsed, ParsedCommand) or not fields <= _PARKED:
            return False, None
        return parsed.command in WEBHOOKS, parsed

    def _action(self, record: Record) -> None:
        value = _decode(record.value or b"")
        micros(value["at"])
        for name in ("by", "reason"):
            if not isinstance(value[name], str) or not value[name]:
                raise ValueError(f"{name} is missing")
        action = Action(
            RecordRef.of(record),
            value["letter"],
            value["action"],
            value["target"],
            value["again"],
        )
        self.history.actions.append(action)

    # -- tables

    def _merchant_row(self, record: Record) -> None:
        key = (record.key or b"").decode()
        state = require_known(record)
        if key.startswith("\0"):
            what = input_records.take(self.history, key, record, _decode)
            if what is not None:
                self._trouble("positions", what, record)
            return
        if self._skips(key):
            return
        facts = self.history.facts(key)
        if record.value is None:
            facts.row = None
            self._trouble("versions", "the row was deleted", record, key)
            return
        row = _decode(record.value)
        if row["merchant_id"] != key:
            self._trouble("formats", "its key is not its merchant", record, key)
        facts.row = row
        facts.row_ref = RecordRef.of(record)
        version, sequence = row.get("version", 0), row.get("sequence", 0)
        self._rising(key, version, sequence, record, key)
        total, parked = row.get("total_credits_purchased", 0), len(row.get("parked", ()))
        facts.passed[version] = (sequence, micros(row["updated_at"]), total, parked)
        if state >= REMINDED:
            self.history.reminds(record.partition, micros(row["updated_at"]))

    def _purchase_row(self, record: Record) -> None:
        key, state = (record.key or b"").decode(), require_known(record)
        if record.value is None:
            self._trouble("versions", f"the row of purchase {key} was deleted", record)
            return
        row = purchase_of(_decode(record.value), state)
        merchant = row["merchant_id"]
        if self._skips(merchant):
            return
        facts = self.history.facts(merchant)
        self._rising(key, row.get("version", 0), 0, record, merchant)
        if row["id"] != key:
            self._trouble("formats", "its key is not its purchase", record, merchant)
        if not self.history.allow_lag or row.get("version", 0) <= facts.version:
            facts.purchases[key] = row

    def _adjustment_row(self, record: Record) -> None:
        require_known(record)
        key, row = (record.key or b"").decode(), _decode(record.value or b"")
        merchant = row["merchant_id"]
        if self._skips(merchant):
            return
        facts = self.history.facts(merchant)
        self._rising(key, row["version"], 0, record, merchant)
        if row["id"] != key:
            self._trouble("formats", "its key is not its adjustment", record, merchant)
        if not self.history.allow_lag or row["version"] <= facts.version:
            facts.adjustments[key] = row

    def _rising(self, key: str, version: int, sequence: int, record: Record, merchant: str) -> None:
        before = self._versions.get(key, (0, 0))
        if version <= before[0] or sequence < before[1]:
            what = (
                f"version {version}, sequence {sequence} after version {before[0]}, "
                f"sequence {before[1]}"
            )
            self._trouble("versions", what, record, merchant)
        self._versions[key] = (version, sequence)

    def _key_row(self, record: Record) -> None:
        require_known(record)
        merchant, _, key = (record.key or b"").decode().partition("/")
        if self._skips(merchant):
            return
        keys = self.history.facts(merchant).keys
        if record.value is None:
            keys.discard(key)
        else:
            keys.add(key)
