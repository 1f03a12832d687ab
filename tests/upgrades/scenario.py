"""A short life of a few merchants, decided and written by the code of whatever version runs this.

`PYTHONPATH=<a checkout of a release> python tests/upgrades/scenario.py` prints the whole log that
this version makes of it, one record a line. It uses only what every release has, and of newer
commands those that the version knows. See docs/upgrade.md.
"""

import inspect
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from billing_stream.domain import commands
from billing_stream.domain.model import Merchant, Platform
from billing_stream.domain.policy import Policy
from billing_stream.engine.partition_inputs import Inputs, StagedInputs
from billing_stream.engine.partition_processor import Request
from billing_stream.engine.partitioner import partition_of
from billing_stream.processor import BillingProcessor
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics

PARTITIONS = 4
PREFIX = "sample."
TOPICS = Topics("billing-stream", PREFIX)
POSITIONS = TOPICS.changelog(names.BILLING_RECORDS)
START = datetime(2026, 1, 1, 12, tzinfo=UTC)

ANNA = "11111111-1111-4111-8111-111111111111"
BERT = "22222222-2222-4222-8222-222222222222"
CARL = "33333333-3333-4333-8333-333333333333"
DORA = "44444444-4444-4444-8444-444444444444"
EMIL = "55555555-5555-4555-8555-555555555555"
FAYE = "66666666-6666-4666-8666-666666666666"


@dataclass
class Record:
    """A record of the log, as the Kafka client gives it. `timestamp` is in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Scenario:
    """A log, and one processor per partition that reads it, one record a transaction."""

    def __init__(self) -> None:
        self.log: list[Record] = []
        self._ends: dict[tuple[str, int], int] = defaultdict(int)
        self._positions: list[dict[str, int]] = [{} for _ in range(PARTITIONS)]
        self._processors = [_processor(partition) for partition in range(PARTITIONS)]
        self._inputs = [Inputs(partition) for partition in range(PARTITIONS)]
        self._count = 0
        self.now = START

    def send(self, topic: str, **data: Any) -> None:
        """An input record, in the envelope; it is read at once."""
        self._count += 1
        headers = [(n.replace("_", "-"), v.encode()) for n, v in data.pop("headers", {}).items()]
        envelope = {"event_type": topic, "correlation_id": f"sent-{self._count}", "data": data}
        partition = partition_of(data["merchant_id"], PARTITIONS)
        value = json.dumps(envelope).encode()
        key = data["merchant_id"].encode()
        self._append(TOPICS.name(topic), partition, key, value, headers)
        self._read_all()

    def ask(self, command: Any, origin: str = "http") -> Any:
        """A command that comes from no topic; its reply."""
        self._count += 1
        request = Request(command, origin, f"asked-{self._count}")
        partition = partition_of(command.merchant_id, PARTITIONS)
        stage = self._processors[partition].begin()
        reply = stage.add_request(request, self.now, dict(self._positions[partition]))
        self._write(partition, stage, {})
        self._read_all()
        return getattr(reply, "reply", reply)

    def later(self, **time: float) -> None:
        """Time passes, and the timers look what is due."""
        self.now += timedelta(**time)
        for partition, processor in enumerate(self._processors):
            stage = processor.begin()
            stage.expire_overdue(self.now, dict(self._positions[partition]))
            self._write(partition, stage, {})
        self._read_all()

    def _read_all(self) -> None:
        while unread := list(self._unread()):
            for record in unread:
                stage = self._processors[record.partition].begin()
                stage.add_record(record.topic, record)
                self._write(record.partition, stage, {record.topic: record.offset + 1})

    def _unread(self) -> Iterator[Record]:
        inputs = set(TOPICS.inputs())
        for record in list(self.log):
            positions = self._positions[record.partition]
            if record.topic in inputs and record.offset >= positions.get(record.topic, 0):
                yield record

    def _write(self, partition: int, stage: Any, positions: dict[str, int]) -> None:
        # The lane's own: what it writes beside the rows is a part of the state, too.
        inputs = StagedInputs(self._inputs[partition], stage, self.now)
        inputs.reached.update(positions)
        ordered: list[Any] = []
        if hasattr(inputs, "order"):
            for name, position in positions.items():
                inputs.order.note(name, self._positions[partition].get(name, 0), position)
            ordered += inputs.order.records(TOPICS.name(names.JOURNAL))
        for out in [*ordered, *stage.outgoing(), *inputs.records(POSITIONS)]:
            to = partition if out.partition is None else out.partition
            self._append(out.topic, to, out.key, out.value, list(out.headers))
        stage.apply()
        inputs.apply()
        self._positions[partition].update(positions)

    def _append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
    ) -> None:
        offset = self._ends[topic, partition]
        self._ends[topic, partition] += 1
        timestamp = int(self.now.timestamp() * 1000)
        self.log.append(Record(topic, partition, offset, timestamp, key, value, headers))


def _processor(partition: int) -> BillingProcessor:
    known = inspect.signature(BillingProcessor).parameters
    options: dict[str, Any] = {
        "partitions": PARTITIONS,
        "policy": Policy(),
        "names": TOPICS,
        "max_record_bytes": 100_000,
    }
    return BillingProcessor(partition, **{n: v for n, v in options.items() if n in known})


def play() -> list[Record]:
    """The whole log of the scenario."""
    scenario = Scenario()
    _trial_and_purchases(scenario)
    _webhooks_that_came_first(scenario)
    _of_later_versions(scenario)
    scenario.later(minutes=1)
    scenario.send(names.MERCHANT_CREATED, merchant_id=FAYE, **_shop("faye.example"))
    scenario.ask(commands.StartTrial(FAYE, "faye-trial", "faye-1"))
    _buy(scenario, FAYE, "faye-pays-later", "charge-faye")
    return scenario.log


def _trial_and_purchases(scenario: Scenario) -> None:
    """Anna: one purchase of every status, a trial that is over, answers, another shop."""
    scenario.send(names.MERCHANT_CREATED, merchant_id=ANNA, **_shop("anna.example"))
    scenario.ask(commands.StartTrial(ANNA, "anna-trial", "anna-1"))
    _buy(scenario, ANNA, "paid", "charge-paid")
    _webhook(scenario, ANNA, "charge-paid", "accepted")
    _buy(scenario, ANNA, "paid-back", "charge-back", "medium")
    _webhook(scenario, ANNA, "charge-back", "active")
    scenario.later(minutes=5)
    scenario.send(names.PURCHASE_REFUNDED, merchant_id=ANNA, charge_id="charge-back")
    _buy(scenario, ANNA, "declined", "charge-declined")
    _webhook(scenario, ANNA, "charge-declined", "declined")
    failed = _buy(scenario, ANNA, "without-checkout", None)
    scenario.ask(commands.FailPurchase(ANNA, failed, "the platform is away", "anna-fails"))
    _buy(scenario, ANNA, "expires", "charge-expires")
    _buy(scenario, ANNA, "expires-without-checkout", None)
    scenario.later(days=2)
    # Before 0.3.0 nobody wrote down which shops a merchant had left: see docs/upgrade.md.
    if "former_shops" in Merchant.__struct_fields__:
        scenario.send(names.MERCHANT_CREATED, merchant_id=ANNA, **_shop("anna-moved.example"))
    scenario.later(days=13)


def _webhooks_that_came_first(scenario: Scenario) -> None:
    """Bert is known only by his webhooks; Carl's waits for its purchase."""
    _webhook(scenario, BERT, "charge-unknown", "accepted")
    scenario.send(names.PURCHASE_REFUNDED, merchant_id=BERT, charge_id="charge-unknown")
    scenario.send(names.MERCHANT_CREATED, merchant_id=CARL, **_shop("carl.example"))
    _webhook(scenario, CARL, "charge-early", "accepted")
    scenario.later(seconds=30)


def _of_later_versions(scenario: Scenario) -> None:
    """Refunds in part (0.2.0); adjustments, import, forgetting, redriven letters (0.3.0)."""
    if "amount" in commands.RefundCharge.__struct_fields__:
        _buy(scenario, CARL, "carl-in-part", "charge-part", "large")
        _webhook(scenario, CARL, "charge-part", "accepted")
        scenario.later(seconds=5)
        scenario.send(
            names.PURCHASE_REFUNDED, merchant_id=CARL, charge_id="charge-part", amount="10.00"
        )
    if hasattr(commands, "AdjustCredits"):
        adjust = commands.AdjustCredits(CARL, 25, "with our apologies", "carl-sorry", "carl-2")
        scenario.ask(adjust, "operator:olga")
        scenario.send(names.MERCHANT_CREATED, merchant_id=DORA, **_shop("dora.example"))
        scenario.later(seconds=5)
        scenario.ask(commands.ForgetMerchant(DORA, "dora-1"), "operator:olga")
        scenario.send(
            names.COMMANDS,
            command="import_merchant",
            merchant_id=EMIL,
            created_at="2025-02-01T00:00:00Z",
            trial_available=False,
            trial_started_at="2025-02-02T00:00:00Z",
            trial_ends_at="2025-02-16T00:00:00Z",
            last_purchase_at="2025-03-01T00:00:00Z",
            platform="stripe",
            domain="emil.example",
            purchases=[_old_purchase()],
        )
        letter = f"{TOPICS.name(names.COMMANDS)}[0]@17"
        scenario.send(
            names.COMMANDS,
            command="start_trial",
            merchant_id=CARL,
            headers={"billing_redriven_from": letter},
        )


def _old_purchase() -> dict[str, Any]:
    return {
        "id": "77777777-7777-4777-8777-777777777777",
        "credits": 100,
        "amount": "9.99",
        "status": "completed",
        "platform": "stripe",
        "created_at": "2025-02-28T00:00:00Z",
        "expires_at": "2025-03-01T00:00:00Z",
        "completed_at": "2025-02-28T01:00:00Z",
        "platform_charge_id": "charge-of-before",
    }


def _shop(domain: str) -> dict[str, str]:
    return {"platform_name": "shopify", "platform_shop_id": "7", "domain": domain, "name": "A shop"}


def _webhook(scenario: Scenario, merchant: str, charge: str, status: str) -> None:
    scenario.send(names.PURCHASE_UPDATED, merchant_id=merchant, charge_id=charge, status=status)


def _buy(
    scenario: Scenario, merchant: str, key: str, charge: str | None, pack: str = "small"
) -> str:
    """Open a purchase, and attach its charge where there is one; its id."""
    reserve = commands.ReservePurchase(
        merchant, pack, Platform.SHOPIFY, "/thanks", key, f"reserve-{key}"
    )
    purchase: str = scenario.ask(reserve).purchase_id
    if charge is not None:
        url = f"https://pay.example/{charge}"
        scenario.ask(commands.AttachCharge(merchant, purchase, charge, url, f"attach-{key}"))
    return purchase


def text(record: Record) -> str:
    """The record as one line of JSON: its bytes are all text."""
    headers = [[name, (value or b"").decode()] for name, value in record.headers]
    key = None if record.key is None else record.key.decode()
    value = None if record.value is None else record.value.decode()
    return json.dumps({**vars(record), "key": key, "value": value, "headers": headers})


def read(line: str) -> Record:
    """The record of such a line."""
    record = Record(**json.loads(line))
    record.key = None if record.key is None else str(record.key).encode()
    record.value = None if record.value is None else str(record.value).encode()
    record.headers = [(name, str(value).encode()) for name, value in record.headers]
    return record


if __name__ == "__main__":
    sys.stdout.writelines(text(record) + "\n" for record in play())
