"""One merchant, decided again."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from billing_stream.domain.model import Merchant

from .compare import Result, differences
from .layout import Pack, Policy
from .merchant_run import Command, Effect, Run, commands_of, plain
from .records import Job, Outcome, Recorded, Step


def replayer(job: Job, *, steps: bool = False) -> Callable[[Recorded], Outcome]:
    """Replays merchants under the code that is here; with `steps`, says what each command did."""
    policy = msgspec.convert(_known(job.policy), Policy)

    def replay(recorded: Recorded) -> Outcome:
        run = Run(policy, recorded.merchant_id, recorded.reminded_from)
        result = Result()
        done: list[tuple[Command, Effect]] = []
        by_older_rules: list[str] = []
        for number, command in enumerate(commands_of(recorded, job.max_record_bytes)):
            run.know([one.version for one in recorded.versions if one.after <= number])
            effect = run.effect(command)
            if run.is_by_older_rules(command, effect):
                by_older_rules.append(command.name)
            run.apply(effect)
            result.take(command, effect)
            done.append((command, effect))
        result.tables = run.tables()
        return Outcome(
            merchant_id=recorded.merchant_id,
            differences=differences(recorded, result),
            by_older_rules=by_older_rules,
            steps=_steps(done, recorded.merchant_id) if steps else [],
        )

    return replay


def _known(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers in the form of the code that is here."""
    packs, currency = policy.get("packs"), policy.get("currency", "USD")
    if packs is None or "prices" in Pack.__struct_fields__:
        return dict(policy)
    # Releases up to 0.5.1 know one currency.
    old = {
        name: {"credits": pack["credits"], "amount": pack["prices"][currency]}
        for name, pack in packs.items()
        if currency in pack["prices"]
    }
    return {**policy, "packs": old}


def _steps(done: Iterable[tuple[Command, Effect]], merchant_id: str) -> list[Step]:
    steps = []
    merchant = Merchant(merchant_id=merchant_id)
    for command, effect in done:
        decision = effect.decision
        changed = decision.merchant if decision is not None else None
        merchant = changed or merchant
        at = max(command.now, merchant.updated_at or command.now)
        steps.append(
            Step(
                name=command.name,
                origin=command.cause if command.is_entry else "",
                command=_payload_of(command),
                now=msgspec.to_builtins(command.now),
                at=msgspec.to_builtins(at),
                events=effect.events,
                claimed=effect.claimed,
                given_up=effect.given_up,
                refused=effect.refused,
                merchant=plain(changed) if changed is not None else None,
                purchases=[plain(purchase) for purchase in decision.purchases] if decision else [],
            )
        )
    return steps


def _payload_of(command: Command) -> dict[str, object]:
    return plain(command.payload) if command.payload is not None else {"command": "unreadable"}
