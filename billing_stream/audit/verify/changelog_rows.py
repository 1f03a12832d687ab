"""The tables of the log against the model, field by field."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from billing_stream.audit.verify.facts import Facts
from billing_stream.audit.verify.log_records import micros, moment_text
from billing_stream.audit.verify.model_state import (
    FORGOTTEN,
    ExtensionState,
    PurchaseState,
    State,
)
from billing_stream.audit.verify.row_versions import UNTOLD
from billing_stream.audit.verify.shop_trials import TrialClaim

Row = Mapping[str, Any]


def differences(state: State, facts: Facts, *, allow_lag: bool) -> Iterator[str]:
    """What the tables say otherwise than the model; nothing when they agree.

    With `allow_lag`, rows that are later than the cut were left out and are not missed.
    """
    row = facts.row
    if row is None:
        if state.version:
            yield "the merchant has no row"
        return
    yield from _compare("", row, _MERCHANT, state)
    parked_charges = [(parked["charge_id"], parked["kind"]) for parked in row.get("parked", ())]
    waiting = [(parked.charge, parked.kind) for parked in state.parked]
    if parked_charges != waiting:
        yield f"parked: {parked_charges}, not {waiting}"
    for purchase, bought in state.purchases.items():
        found = facts.purchases.get(purchase)
        if found is not None:
            yield from _compare(f"purchase {purchase}: ", found, _PURCHASE, bought)
            if found.get("merchant_id") != state.merchant:
                yield f"purchase {purchase}: merchant_id: {found.get('merchant_id')!r}"
        elif not allow_lag:
            yield f"purchase {purchase} has no row"
    for purchase in facts.purchases.keys() - state.purchases.keys():
        yield f"purchase {purchase} has a row, and no command opened it"
    for adjustment, change in state.adjustments.items():
        found = facts.adjustments.get(adjustment)
        if found is not None:
            yield from _compare(f"adjustment {adjustment}: ", found, _ADJUSTMENT, change)
            if found.get("merchant_id") != state.merchant:
                yield f"adjustment {adjustment}: merchant_id: {found.get('merchant_id')!r}"
        elif not allow_lag:
            yield f"adjustment {adjustment} has no row"
    for adjustment in facts.adjustments.keys() - state.adjustments.keys():
        yield f"adjustment {adjustment} has a row, and no command made it"
    if not allow_lag and facts.keys != state.keys.keys():
        unequal = sorted(facts.keys ^ state.keys.keys())[:3]
        yield f"idempotency keys that only the table or only the model has: {unequal}"


def _compare(prefix: str, row: Row, fields: Any, model: Any) -> Iterator[str]:
    untold = row.get(UNTOLD, ())
    for name, default, read, expected in fields:
        if name in untold:
            continue
        recorded, wanted = read(row.get(name, default)), expected(model)
        # Of a purchase that named none, the currency was that of the settings of then.
        if recorded != wanted and (name, wanted) != ("currency", None):
            yield f"{prefix}{name}: {_text(name, recorded)}, not {_text(name, wanted)}"


def _text(name: str, value: object) -> str:
    if name.endswith("_at") and isinstance(value, int):
        return str(moment_text(value))
    return str(value)


def _time(value: str | None) -> int | None:
    return None if value is None else micros(value)


def _same(value: Any) -> Any:
    return value


def _why(reason: str | None) -> str | None:
    """The words of a reason are free, but for that of one that was removed."""
    return "a reason" if reason and reason != FORGOTTEN else reason


def _extensions(rows: Any) -> list[ExtensionState]:
    return [
        ExtensionState(
            one["id"],
            micros(one["ends_at"]),
            micros(one["at"]),
            one["reason"],
            one.get("days"),
            one.get("period", ""),
        )
        for one in rows
    ]


def _claim(row: Any) -> TrialClaim | None:
    if row is None:
        return None
    by, key = row.get("asked_by", ""), row.get("idempotency_key")
    return TrialClaim(row["shop"], row.get("granted"), by, key)


Field = tuple[str, Any, Callable[[Any], Any], Callable[[Any], Any]]

_MERCHANT: tuple[Field, ...] = (
    ("platform", "", _same, lambda me: me.platform),
    ("domain", "", _same, lambda me: me.domain),
    ("trial_available", True, _same, lambda me: not me.used),
    ("trial_started_at", None, _time, lambda me: me.started),
    ("trial_ends_at", None, _time, lambda me: me.ends),
    ("trial_expired", False, _same, lambda me: me.ended),
    ("trial_reminded", False, _same, lambda me: me.reminded),
    ("total_credits_purchased", 0, _same, lambda me: me.total),
    ("last_purchase_at", None, _time, lambda me: me.last_paid),
    ("created_at", None, _time, lambda me: me.created),
    ("updated_at", None, _time, lambda me: me.clock),
    ("credits_adjusted", 0, _same, lambda me: me.adjusted),
    ("former_shops", (), tuple, lambda me: me.former),
    ("forgotten_at", None, _time, lambda me: me.forgotten),
    ("platform_shop_id", None, _same, lambda me: me.shop_id),
    ("installed_at", None, _time, lambda me: me.installed),
    ("uninstalled_at", None, _time, lambda me: me.uninstalled),
    ("trial_extensions", (), _extensions, lambda me: list(me.extensions)),
    ("shop_trial", None, _claim, lambda me: me.claim),
    ("version", 0, _same, lambda me: me.version),
    ("sequence", 0, _same, lambda me: me.sequence),
)


def _back(bought: PurchaseState) -> Decimal:
    return bought.back


_PURCHASE: tuple[Field, ...] = (
    ("credits", None, _same, lambda bought: bought.credits),
    ("amount", None, _same, lambda bought: bought.amount),
    ("status", None, _same, lambda bought: bought.status),
    ("platform", None, _same, lambda bought: bought.platform),
    ("platform_charge_id", None, _same, lambda bought: bought.charge),
    ("checkout_url", None, _same, lambda bought: bought.url),
    ("created_at", None, _time, lambda bought: bought.created),
    ("completed_at", None, _time, lambda bought: bought.paid),
    ("expires_at", None, _time, lambda bought: bought.expires),
    ("no_checkout", None, _why, lambda bought: _why(bought.no_checkout)),
    ("refunded_amount", "0", Decimal, _back),
    ("refunded_credits", 0, _same, lambda bought: bought.credits_back),
    ("version", 0, _same, lambda bought: bought.version),
    ("currency", None, _same, lambda bought: bought.currency),
    ("pack", None, _same, lambda bought: bought.pack),
    ("test", False, _same, lambda bought: bought.test),
    ("catalogue_version", None, _same, lambda bought: bought.catalogue_version),
    ("discount", "0", Decimal, lambda bought: bought.discount),
    ("disputed_credits", 0, _same, lambda bought: bought.disputed),
)

_ADJUSTMENT: tuple[Field, ...] = (
    ("credits", None, _same, lambda change: change.credits),
    ("reason", None, _same, lambda change: change.reason),
    ("balance", None, _same, lambda change: change.balance),
    ("created_at", None, _time, lambda change: change.at),
    ("version", None, _same, lambda change: change.version),
)
