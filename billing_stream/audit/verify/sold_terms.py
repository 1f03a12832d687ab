"""For how much things were sold, according to the log.

Packs, prices and the credits of a trial are settings, and the log does not say what they were when
it was written: a purchase of last year is as right as one of today. So each is judged by what was
recorded of it, which must agree everywhere; what the catalogue does not have now is a note.
"""

from collections import Counter
from decimal import Decimal
from typing import Any

from billing_stream.audit.verify import catalogue_versions
from billing_stream.audit.verify.facts import Facts, History
from billing_stream.audit.verify.limits import INVALID_PACK, NOT_OPENED, purchase_of
from billing_stream.audit.verify.model_state import Catalogue, Terms
from billing_stream.audit.verify.verify_inputs import ParsedCommand
from billing_stream.audit.verify.verify_report import Report

SHOWN_MAX = 5
_SELLING = ("reserve", "trial")


def mark_terms(history: History) -> None:
    """Say of each command that sold or announced credits how many, and for how much."""
    for facts in history.merchants.values():
        for queue in facts.inputs.values():
            for index, found in enumerate(queue):
                if found.parsed.command in _SELLING:
                    parsed = _marked(found.parsed, facts)
                    queue[index] = found._replace(parsed=parsed)
        for index, entry in enumerate(facts.journal):
            if entry.parsed.command in _SELLING:
                parsed = _marked(entry.parsed, facts)
                facts.journal[index] = entry._replace(parsed=parsed)


def sold(parsed: ParsedCommand, catalogue: Catalogue, now: int) -> Terms | None:
    """For how much a purchase is opened at `now`; None: no such pack is sold then.

    Under the version that is in force. Before the first one, as it was recorded.
    """
    # That of a purchase which names none was a setting, and may be another one now.
    currency = parsed.currency or (parsed.terms.currency if parsed.terms else None)
    version, terms = catalogue_versions.sold(parsed.text, currency, parsed.versions, catalogue, now)
    if parsed.refused_by == NOT_OPENED:
        return None
    if version is not None:
        return terms
    if parsed.refused_by == INVALID_PACK:
        return None
    if parsed.terms is not None:
        return parsed.terms._replace(catalogue_version=None)
    return catalogue.terms(parsed.text, parsed.currency)


def note_other_terms(history: History, catalogue: Catalogue, report: Report) -> None:
    """Note what was sold otherwise than it would be sold now."""
    other: Counter[str] = Counter()
    for facts in history.merchants.values():
        for parsed, _ in facts.parsed():
            terms = parsed.terms
            if parsed.command == "reserve" and terms and terms.catalogue_version is None:
                credits, amount, currency, _ = terms
                now = catalogue.terms(parsed.text, currency)
                if now is None or now.credits != credits or Decimal(now.amount) != Decimal(amount):
                    price = f"{amount} {currency}" if currency else amount
                    other[f"{parsed.text} ({credits} credits for {price})"] += 1
    if other:
        listed = ", ".join(f"{count} of {terms}" for terms, count in other.most_common(SHOWN_MAX))
        more = f" and {len(other) - SHOWN_MAX} more" if len(other) > SHOWN_MAX else ""
        report.notes.append(f"purchases that the catalogue of today does not have: {listed}{more}")


def _marked(parsed: ParsedCommand, facts: Facts) -> ParsedCommand:
    if parsed.command == "trial":
        announced = {event.content[2] for event in facts.events if event.kind == "trial.started"}
        return parsed._replace(terms=Terms(min(announced), "", None)) if announced else parsed
    row: dict[str, Any] | None = facts.purchases.get(purchase_of(parsed))
    # What the command says, the row must say, too.
    if row is None or row.get("pack", parsed.text) != parsed.text:
        return parsed
    currency = parsed.currency or row.get("currency")
    return parsed._replace(
        terms=Terms(row["credits"], row["amount"], currency, row.get("catalogue_version"))
    )
