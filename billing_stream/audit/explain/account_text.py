"""An explanation for people."""

from collections.abc import Iterator
from typing import Any

from billing_stream.audit.explain.account import Credit, Explanation, Moment, Origin
from billing_stream.records.record_ref import RecordRef

_NAMING = ("command", "merchant_id", "command_id")


def lines(found: Explanation) -> Iterator[str]:
    """The state, the credits and the timeline."""
    yield from _state(found)
    yield ""
    yield "Credits" if found.credits else "Credits: none"
    for credit in found.credits:
        yield from _credit(credit)
    yield from _sum(found)
    yield ""
    yield "What happened"
    for moment in found.timeline:
        yield from _moment(moment)
    for note in found.notes:
        yield ""
        yield f"Note: {note}"
    for fault in found.faults:
        yield ""
        yield f"Wrong: {fault}"


def _state(found: Explanation) -> Iterator[str]:
    state = found.state
    yield f"merchant {found.merchant_id}, partition {found.partition}, at {found.at.isoformat()}"
    if state.merchant is None:
        yield "  nothing was known of it then"
        return
    if state.merchant.get("domain"):
        yield f"  shop       {state.merchant['platform']}:{state.merchant['domain']}"
    yield f"  balance    {state.balance} credits"
    if state.trial_available and (state.merchant.get("shop_trial") or {}).get("granted") is False:
        yield "  trial      not used, its shop had one"
    elif state.trial_available:
        yield "  trial      not used"
    else:
        running = "running" if state.trial_active else "over"
        yield f"  trial      {state.trial_started_at} to {state.trial_ends_at}, {running}"
    for purchase in state.purchases:
        description = (
            f"{purchase['status']}, {purchase['credits']} credits for {purchase['amount']}"
            f" {purchase.get('currency', '')}".rstrip()
        )
        back = purchase.get("refunded_credits")
        if back:
            description += f", {back} of them refunded"
        yield f"  purchase   {purchase['id']} {description}, {purchase['created_at']}"
    for parked in state.merchant.get("parked", ()):
        yield f"  waiting    {parked['kind']} of charge {parked['charge_id']}, {parked['source']}"


def _credit(credit: Credit) -> Iterator[str]:
    yield (
        f"  {credit.credits:>+8} = {credit.balance_after:>8}  {credit.at}  {credit.type}, "
        f"event {credit.event_id}"
    )
    if credit.purchase_id is not None:
        amount = f", {credit.amount}" if credit.amount is not None else ""
        yield f"{'':22}purchase {credit.purchase_id}{amount}"
    if credit.source is None:
        yield f"{'':22}cause not recorded"
        return
    yield from (f"{'':22}{text}" for text in _source(credit.source))


def _source(source: Origin) -> Iterator[str]:
    by = f" (came over {source.origin})" if source.origin is not None else ""
    yield f"caused by {RecordRef.of(source)}{by}"
    if source.sent_as is not None:
        yield f"sent to a wrong partition, as {source.sent_as}"
    if source.copy_of is not None:
        yield f"redriven from dead letter {source.copy_of}"
    for waited in source.waited:
        yield f"with what had come before, {waited}"


def _sum(found: Explanation) -> Iterator[str]:
    total = found.credits[-1].balance_after if found.credits else 0
    same = "" if total == found.state.balance else ", which is not the same"
    yield f"  They add up to {total}; the balance then is {found.state.balance}{same}."
    right = "" if found.credits_now == found.balance_now else ", which is not the same"
    yield (
        f"  Up to now all credits add up to {found.credits_now}; the balance in the changelog is "
        f"{found.balance_now}{right}."
    )


def _moment(moment: Moment) -> Iterator[str]:
    said = _details({k: v for k, v in moment.command.items() if k not in _NAMING})
    what = f"{moment.command['command']}{said}"
    by = f" ({moment.origin})" if moment.origin is not None else ""
    yield f"  {moment.at}  {what}  <- {moment.record}{by}"
    if moment.refused is not None:
        yield f"{'':6}refused: {moment.refused}"
    elif not moment.changed:
        yield f"{'':6}changed nothing"
    for event in moment.events:
        data = _details({k: v for k, v in event.data.items() if k != "merchant_id"})
        yield f"{'':6}{event.sequence} {event.type}{data}; balance {moment.balance_after}"


def _details(fields: dict[str, Any]) -> str:
    return "".join(f" {name}={value}" for name, value in fields.items() if value is not None)
