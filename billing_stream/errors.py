"""Every error that this program raises.

A refusal by a rule is not an error but a value (`domain.outcomes.Rejected`). What else is raised
while a transaction is made is fatal when `is_fatal` says so, or when it concerns no single record,
request or deadline: one log line, then the process ends at once.
"""

from typing import ClassVar

EXIT_FATAL = 70
"""Of a process that ended by an error that is not one of those below; its log says which."""

EXIT_USAGE = 2
"""Of a process that did nothing: wrong usage, settings or topics, or a server does not answer."""

EXIT_GROUP = 78
"""Of a process that its consumer group does not accept: settings, or rights, must change."""

EXIT_NEWER_STATE = 65
"""Of a process that found rows of a newer release, for a process manager."""


class BillingError(Exception):
    """What we raise on purpose; its text is for people. A process that it ends has `exit_code`."""

    exit_code: ClassVar[int] = EXIT_USAGE


class SettingsError(BillingError):
    """The environment is missing something or has it malformed; says every such variable."""


class TopicsError(BillingError):
    """Topics are missing or do not match the settings; names each with its problem."""


class AuthorizationError(BillingError):
    """The brokers know us, and do not let us do our work; says what, and how it is allowed."""


class KafkaNotReady(BillingError):
    """Kafka answers, but what was awaited did not become available in `seconds`.

    `last` is the last error, None where the request had no answer at all.
    """

    def __init__(self, awaited: str, seconds: float, last: BaseException | None) -> None:
        self.awaited = awaited
        self.seconds = seconds
        self.reason = "no answer" if last is None else str(last)
        super().__init__(
            f"Kafka answers, but {awaited} is not available after {seconds:g} s ({self.reason}).\n"
            "BILLING_START_DEADLINE is how long a start waits; `billing-stream doctor` says more"
        )


class GroupRefused(BillingError):
    """The consumer group does not accept this process; says why, and what to change."""

    exit_code = EXIT_GROUP


class NewerState(BillingError):
    """A row that a newer release wrote; says where, and what to do."""

    exit_code = EXIT_NEWER_STATE


class UnreadableRow(BillingError):
    """A changelog record that no release wrote, or that is damaged; says where it is, and why."""

    exit_code = EXIT_FATAL

    def __init__(self, topic: str, partition: int, offset: int, why: object) -> None:
        self.partition = partition
        super().__init__(
            f"the changelog record {topic}[{partition}]@{offset} cannot be read: {why}. No release "
            "writes such a record: find out who else writes there, and see "
            "`billing-stream docs restore`"
        )


class LostChangelog(BillingError):
    """A changelog of a partition was created again, or copied apart from the others."""

    exit_code = EXIT_FATAL

    def __init__(self, partition: int, why: str) -> None:
        self.partition = partition
        super().__init__(why)


class InvalidRecord(BillingError):
    """A record that cannot be understood; the text is the dead letter's reason."""


class DeadLettersError(BillingError):
    """Dead letters could not be read, or acted on; the text says what to do next."""


class PlatformError(BillingError):
    """The platform gave no checkout. The text is for the client: short, and no secrets."""


class CheckoutRefused(PlatformError):
    """The platform refuses what the client asked for; the same again would be refused, too."""


class TemporaryFailure(PlatformError):
    """The platform does not answer, is busy, or has a fault of its own: it may work later."""


class WebhookForged(BillingError):
    """The signature is missing, wrong or too old, or what it signs is not a webhook."""


class WebhookMalformed(BillingError):
    """A signed webhook of a known type that is invalid; the text names the field and the rule.

    `kind` is what it would have been (`platforms.base`), `merchant_id`, `shop_domain` and
    `delivery_id` what it names; None where it does not.
    """

    def __init__(
        self,
        reason: str,
        *,
        kind: str | None = None,
        merchant_id: str | None = None,
        shop_domain: str | None = None,
        delivery_id: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.merchant_id = merchant_id
        self.shop_domain = shop_domain
        self.delivery_id = delivery_id


def is_fatal(error: Exception) -> bool:
    """Whether no single record, request or deadline causes it: each other one would fail, too."""
    return isinstance(error, MemoryError | OSError | BillingError)
