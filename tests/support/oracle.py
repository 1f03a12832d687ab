"""What must come of commands, by the model that `verify` judges logs with.

It shares nothing with the domain: a command goes in as the JSON that a log would have, and what
is compared with the outcome is again what would be in the log.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from billing_stream.audit.verify.catalogue_versions import Known
from billing_stream.audit.verify.changelog_rows import differences
from billing_stream.audit.verify.event_content import content_of
from billing_stream.audit.verify.facts import Facts
from billing_stream.audit.verify.installation_model import Claim
from billing_stream.audit.verify.log_records import duration_us, micros_of
from billing_stream.audit.verify.model_state import (
    Catalogue,
    EarlyWebhook,
    EventContent,
    Rules,
    State,
)
from billing_stream.audit.verify.shop_names import shop_of
from billing_stream.audit.verify.verify_inputs import ParsedCommand, command
from billing_stream.audit.verify.verify_model import Step
from billing_stream.domain.commands import Command
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Adjustment, Merchant, Purchase
from billing_stream.domain.outcomes import Event, Reply, ShopRegistered
from billing_stream.domain.policy import OncePer, Policy

Row = dict[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(micros: int) -> datetime:
    """The aware time of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=micros)


def rules_of(policy: Policy) -> Rules:
    """The model's numbers for a policy's."""
    early = policy.parked_expiry
    assert policy.trial_reminder is not None
    return Rules(
        trial_us=duration_us(policy.trial_duration),
        reminder_us=duration_us(policy.trial_reminder),
        expiry_us=duration_us(policy.purchase_expiry),
        catalogue=Catalogue.of(policy),
        keys_us=duration_us(policy.answer_retention),
        keys_max=policy.answers_max,
        parked_max=policy.parked_max,
        former_max=policy.former_shops_max,
        open_max=policy.open_purchases_max,
        once_per_shop=policy.trial_once_per is OncePer.SHOP,
        discounts=policy.accept_discounts,
        test_clock=policy.test_clock,
        early_us=None if early is None else duration_us(early),
    )


def reply_row(reply: Reply) -> Row:
    """A reply as the oracle tells it: of a refusal its code, not its words."""
    row = msgspec.to_builtins(reply, builtin_types=(datetime,))
    row.pop("message", None)
    return dict(row)


def event_content(event: Event) -> EventContent:
    """What an event says, as it is read from its topic."""
    return content_of(event.data.kind, msgspec.json.decode(msgspec.json.encode(event.data)))


def shops_of(state: State) -> list[str]:
    """All shops of a merchant, `platform:domain`, each once."""
    current = [f"{state.platform}:{state.domain}"] if state.domain else []
    return list(dict.fromkeys([*state.former, *current]))


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that must come of a command. `shops` are the claims, as records have them.

    `claims` are trials of shops, each with why.
    """

    at: datetime
    reply: Row
    events: list[EventContent]
    sequence: int
    shops: list[ShopRegistered]
    unclaimed: list[EarlyWebhook]
    claims: list[tuple[str, str]]
    changed: bool


@dataclass(slots=True)
class Oracle:
    """Every merchant, by id, as the model has it."""

    rules: Rules
    states: dict[str, State] = field(default_factory=dict)

    def copy(self) -> "Oracle":
        """One that goes on by itself."""
        return Oracle(self.rules, dict(self.states))

    def of(self, merchant: str) -> State:
        """What is known of a merchant, perhaps nothing."""
        return self.states.get(merchant) or State(merchant)

    def do(self, said: Command, at: datetime, versions: Known = ()) -> Outcome:
        """Carry out a command, decided at `at`; its partition knows these versions."""
        parsed = command(msgspec.json.decode(msgspec.json.encode(said)))
        parsed = parsed._replace(versions=versions)
        if parsed.command == "import" and self._is_of_another(parsed):
            # Where a purchase is of another merchant the model is told so by whom it came.
            parsed = parsed._replace(purchase="another's")
        before = self.of(parsed.merchant)
        step = Step(self.rules, before, parsed, micros_of(at))
        state = self.states[parsed.merchant] = step.state
        left = [name for name in shops_of(before) if name not in shops_of(state)]
        gone = [_shop(name, parsed.merchant, gone=True) for name in left]
        return Outcome(
            at=moment(step.now),
            reply=_reply(step, parsed, self.rules),
            events=step.events,
            sequence=state.sequence,
            shops=[*gone, *(_claim(claim, parsed.merchant) for claim in step.shops)],
            unclaimed=step.given_up,
            claims=step.claims,
            changed=step.changed,
        )

    def next_due(self, merchant: str) -> datetime | None:
        """When something of the merchant falls due next."""
        me = self.of(merchant)
        due = [expires for expires, _ in me.pending[:1]]
        due += [early.at + self.rules.parked_us for early in me.parked[:1]]
        if me.ends is not None and not me.ended:
            soon = me.ends - self.rules.reminder_us
            short = me.started is not None and me.started > soon
            due.append(me.ends if short or me.reminded else soon)
        return moment(min(due)) if due else None

    def answered_at(self, merchant: str, key: str) -> datetime | None:
        """When a key was first answered, as far as that is kept."""
        stored = self.of(merchant).keys.get(key)
        return None if stored is None else moment(stored[1])

    def _is_of_another(self, parsed: ParsedCommand) -> bool:
        ids = {old.id for old in parsed.old.purchases} if parsed.old else set()
        return any(
            ids & state.purchases.keys()
            for merchant, state in self.states.items()
            if merchant != parsed.merchant
        )


def row_faults(
    state: State,
    row: Row | None,
    purchases: Mapping[str, Row],
    adjustments: Mapping[str, Row],
    keys: Iterable[str],
) -> list[str]:
    """What a merchant's rows, as they are in changelogs, say otherwise than the model."""
    facts = Facts(
        state.merchant,
        0,
        row=row,
        purchases={**purchases},
        adjustments={**adjustments},
        keys=set(keys),
    )
    return list(differences(state, facts, allow_lag=False))


def as_written(row: Merchant | Purchase | Adjustment) -> Row:
    """A row as it is in its changelog."""
    return dict(msgspec.json.decode(msgspec.json.encode(row)))


def _shop(name: str, merchant: str, **more: Any) -> ShopRegistered:
    platform, _, domain = name.partition(":")
    return ShopRegistered(platform, domain, merchant, **more)


def _claim(claim: Claim, merchant: str) -> ShopRegistered:
    at = None if claim.installed is None else moment(claim.installed)
    flags = {"again": claim.again, "uninstalled": claim.uninstalled}
    said = {"platform_shop_id": claim.shop_id, "installed_at": at, **flags}
    return _shop(claim.name, merchant, **said)


def _reply(step: Step, parsed: ParsedCommand, rules: Rules) -> Row:
    me = step.state
    if step.refusal is not None:
        return {"type": "rejected", "code": step.refusal}
    if step.superseded:
        return {"type": "superseded"}
    if parsed.command == "clock":
        return {"type": "clock_moved", "now": moment(step.now)}
    if step.waits and parsed.command == "trial":
        return {"type": "trial_asked"}
    if parsed.command == "trial":
        return {
            "type": "trial_granted",
            "ends_at": moment((me.started or 0) + rules.trial_us),
            "credits_granted": rules.catalogue.trial_credits,
        }
    if parsed.command == "reserve":
        # Of a key the first answer stays, and says which purchase it was.
        kept = me.keys[parsed.key][0] if parsed.key is not None else None
        return opened(
            me, kept[-1] if kept else derived_id("purchase", me.merchant, parsed.command_id)
        )
    if parsed.command == "attach":
        return opened(me, parsed.purchase)
    if parsed.command == "extend":
        name = derived_id("trial.extension", me.merchant, str(parsed.key))
        (ends,) = (made.ends for made in me.extensions if made.id == name)
        return {"type": "trial_extension_made", "extension_id": name, "ends_at": moment(ends)}
    if parsed.command == "set_shop":
        platform, domain = shop_of(parsed.platform, parsed.text) or ("", "")
        return {"type": "shop_set", "platform": platform, "domain": domain}
    if parsed.command == "adjust":
        name = derived_id("adjustment", me.merchant, str(parsed.key))
        made = me.adjustments[name]
        return {
            "type": "adjustment_made",
            "adjustment_id": name,
            "credits": made.credits,
            "balance": made.balance,
        }
    return {"type": "done"}


def opened(state: State, purchase: str) -> Row:
    """The answer that tells of a purchase."""
    bought = state.purchases[purchase]
    return {
        "type": "purchase_opened",
        "purchase_id": purchase,
        "credits": bought.credits,
        "amount": bought.amount,
        "expires_at": moment(bought.expires),
        "checkout_url": bought.url,
    }
