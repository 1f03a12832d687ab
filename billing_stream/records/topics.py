"""The registry of topics: the writer of each, its content, how it is kept."""

from enum import StrEnum

from msgspec import Struct

MERCHANT_CREATED = "evt.merchant.created.v1"
PURCHASE_UPDATED = "evt.webhook.app.purchase_updated.v1"
PURCHASE_REFUNDED = "evt.webhook.app.purchase_refunded.v1"
PURCHASE_DISPUTED = "evt.webhook.app.purchase_disputed.v1"
REFUND_FAILED = "evt.webhook.app.refund_failed.v1"
COMMANDS = "billing.commands.v1"
SHOPS = "billing.shops.v1"
OPERATOR_COMMANDS = "billing.operator-commands.v1"
JOURNAL = "billing.journal.v1"
DEAD_LETTERS = "dlq.billing.v1"
DEAD_LETTER_ACTIONS = "billing.dead-letter-actions.v1"
ENDED_SESSIONS = "billing.ended-sessions.v1"
CATALOGUE = "billing.catalogue.v1"
ENDPOINT_CHANGED = "evt.billing.endpoint.changed.v1"
CHARGES = "billing.charges.v1"

# What the platforms report of a charge.
WEBHOOKS = (PURCHASE_UPDATED, PURCHASE_REFUNDED, PURCHASE_DISPUTED, REFUND_FAILED)
# Those whose records are about a merchant.
OF_MERCHANTS = (MERCHANT_CREATED, *WEBHOOKS, COMMANDS)
INPUTS = (*OF_MERCHANTS, SHOPS, OPERATOR_COMMANDS, CHARGES)

EVENT_TYPES = (
    "trial.started",
    "trial.ending",
    "trial.expired",
    "trial.extended",
    "credits.purchased",
    "purchase.failed",
    "purchase.expired",
    "purchase.refunded",
    "purchase.refund_failed",
    "purchase.disputed",
    "purchase.dispute_closed",
    "credits.adjusted",
    "merchant.forgotten",
    "merchant.uninstalled",
    "trial.imported",
    "credits.imported",
)
# What the field `credits` of an event adds to a balance; of the other kinds, nothing.
CREDITS_SIGN = {
    "credits.purchased": 1,
    "credits.imported": 1,
    "credits.adjusted": 1,
    "purchase.refunded": -1,
    "purchase.refund_failed": 1,
    "purchase.disputed": 1,
    "purchase.dispute_closed": 1,
}

BILLING_RECORDS = "billing_records"
CREDIT_PURCHASES = "credit_purchases"
CREDIT_ADJUSTMENTS = "credit_adjustments"
IDEMPOTENCY_KEYS = "idempotency_keys"
SHOPS_TABLE = "shops"
CHARGES_TABLE = "charges"
TABLES = (
    BILLING_RECORDS,
    CREDIT_PURCHASES,
    CREDIT_ADJUSTMENTS,
    IDEMPOTENCY_KEYS,
    SHOPS_TABLE,
    CHARGES_TABLE,
)

MESSAGE_BYTES = "max.message.bytes"
# Kafka's default: what producers, and our own rows, may count on.
_ORDINARY = {MESSAGE_BYTES: "1048588"}
_FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
# The broker's clock decides when something happened, not a producer's.
_BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
_OUR_TIME = {"message.timestamp.type": "CreateTime"}
# A dead letter holds the whole record in base64, and more.
_LARGE = {MESSAGE_BYTES: "4194304"}
_COMPACTED = {
    "cleanup.policy": "compact",
    "max.compaction.lag.ms": "86400000",
    "min.cleanable.dirty.ratio": "0.2",
    **_ORDINARY,
}
# Read on, too: of records with one key all but the last go, once every reader has seen them.
_COMPACTED_LATER = {"cleanup.policy": "compact", "min.compaction.lag.ms": "604800000", **_ORDINARY}
# Longer than a session lives. Kafka deletes whole segments only.
_A_DAY = {
    "cleanup.policy": "compact,delete",
    "retention.ms": "86400000",
    "retention.bytes": "-1",
    "segment.ms": "21600000",
    **_ORDINARY,
}


def event_type(kind: str) -> str:
    """The event type, which is the topic too: `evt.billing.<kind>.v1`."""
    return f"evt.billing.{kind}.v1"


class Role(StrEnum):
    """What a topic is for."""

    INPUT = "input"
    EVENT = "event"
    JOURNAL = "journal"
    DEAD_LETTER = "dead letter"
    LEDGER = "ledger"
    CHANGELOG = "changelog"
    SESSIONS = "ended sessions"
    CATALOGUE = "catalogue"
    ENDPOINTS = "event of endpoints"


class Topic(Struct, frozen=True):
    """One topic as it is required.

    `config` are its settings: with other ones records are lost or refused. Of
    `max.message.bytes` more is right, too.
    """

    name: str
    role: Role
    key: str
    record: str
    writer: str
    config: dict[str, str]


class Topics(Struct, frozen=True):
    """The topics of one app, under their full names."""

    app_id: str
    prefix: str = ""

    def name(self, topic: str) -> str:
        """The full name of a topic."""
        return self.prefix + topic

    def base(self, name: str) -> str:
        """A topic's name without the prefix."""
        return name.removeprefix(self.prefix)

    def changelog(self, table: str) -> str:
        """The full name of a table's changelog."""
        return f"{self.prefix}{self.app_id}-{table}-changelog"

    def inputs(self) -> list[str]:
        """The full names of the input topics."""
        return [self.name(topic) for topic in INPUTS]

    def projected(self) -> list[str]:
        """The full names of the topics that the projection has: two changelogs, and events."""
        changelogs = [self.changelog(table) for table in (BILLING_RECORDS, CREDIT_PURCHASES)]
        return changelogs + [self.name(event_type(kind)) for kind in EVENT_TYPES]

    def stoppable(self) -> list[str]:
        """The full names of the inputs that stop when too many of their records are invalid.

        Not those that only lanes and operators write: a stop is lifted by an operator's command.
        """
        return [self.name(topic) for topic in OF_MERCHANTS]

    def written_by(self, partition: int, partitions: int) -> list[tuple[str, int]]:
        """All (topic, partition) in which the lane of a partition may write."""
        own = [self.changelog(table) for table in TABLES]
        own += [self.name(event_type(kind)) for kind in EVENT_TYPES]
        own += [self.name(JOURNAL), self.name(DEAD_LETTERS)]
        anywhere = [self.name(SHOPS), self.name(CHARGES), self.name(COMMANDS)]
        found = [(topic, partition) for topic in own]
        if partition == 0:
            # It decides the catalogue, for all.
            found.append((self.name(CATALOGUE), 0))
            anywhere.append(self.name(OPERATOR_COMMANDS))
        return found + [(topic, number) for topic in anywhere for number in range(partitions)]

    def all(self) -> list[Topic]:
        """Every topic, in the order of the data."""
        upstream = "upstream"
        lane = "the lane of the partition"
        inputs = [
            (MERCHANT_CREATED, "merchant_id", "MerchantCreated", upstream),
            (PURCHASE_UPDATED, "merchant_id", "PurchaseUpdated", upstream),
            (PURCHASE_REFUNDED, "merchant_id", "PurchaseRefunded", upstream),
            (PURCHASE_DISPUTED, "merchant_id", "PurchaseDisputed", upstream),
            (REFUND_FAILED, "merchant_id", "RefundFailed", upstream),
            (
                COMMANDS,
                "merchant_id",
                "Command, or a forwarded record",
                "anyone; lanes forward",
            ),
            (
                SHOPS,
                "platform:domain, or platform:#digest",
                "ShopRecord",
                "lanes of merchants and shops",
            ),
            (
                OPERATOR_COMMANDS,
                "topic[partition]",
                "OperatorCommand",
                "operators (billing-stream inputs, catalogue)",
            ),
        ]
        found = [
            Topic(self.name(n), Role.INPUT, k, r, w, {**_FOREVER, **_ORDINARY, **_BROKER_TIME})
            for n, k, r, w in inputs
        ]
        name, config = self.name(CHARGES), {**_COMPACTED_LATER, **_BROKER_TIME}
        key, writer = "platform:charge_id", "the lane of the merchant; webhooks of no merchant"
        found.append(Topic(name, Role.INPUT, key, "ChargeRecord", writer, config))
        events = {**_FOREVER, **_ORDINARY, **_OUR_TIME}
        for kind in EVENT_TYPES:
            name = self.name(event_type(kind))
            found.append(Topic(name, Role.EVENT, "merchant_id", kind, lane, events))
        name, config = self.name(ENDPOINT_CHANGED), {**_COMPACTED_LATER, **_OUR_TIME}
        writer = "billing-stream deliver"
        found.append(Topic(name, Role.ENDPOINTS, "endpoint", "EndpointChanged", writer, config))
        journal = self.name(JOURNAL)
        key = "merchant_id, or none"
        found.append(Topic(journal, Role.JOURNAL, key, "JournalEntry, or an order", lane, events))
        letters = {**events, **_LARGE}
        name = self.name(DEAD_LETTERS)
        found.append(Topic(name, Role.DEAD_LETTER, "as it came", "DeadLetter", lane, letters))
        name = self.name(DEAD_LETTER_ACTIONS)
        operators = "operators (billing-stream dlq)"
        found.append(Topic(name, Role.LEDGER, "dead letter", "DeadLetterAction", operators, events))
        name, config = self.name(ENDED_SESSIONS), {**_A_DAY, **_BROKER_TIME}
        found.append(Topic(name, Role.SESSIONS, "session", "EndedSession", "workers", config))
        name = self.name(CATALOGUE)
        found.append(
            Topic(name, Role.CATALOGUE, "what it is", "CatalogueRecord", "workers", events)
        )
        for table in TABLES:
            name = self.changelog(table)
            config = {**_COMPACTED, **_OUR_TIME}
            found.append(Topic(name, Role.CHANGELOG, "of the row", table, lane, config))
        return found
