"""Every charge has the purchase that registered it first, and every webhook its outcome."""

from billing_stream.audit.verify.facts import History
from billing_stream.audit.verify.verify_charges import objections
from billing_stream.audit.verify.verify_report import Report


def check_charges(history: History, report: Report) -> None:
    """The table of charges is what was registered, and purchases registered their charges."""
    facts = history.charges
    report.count("charges", len(facts.registered) + sum(map(len, facts.webhooks.values())))
    if history.allow_lag or history.only or history.incomplete:
        return
    for what, place, owner in objections(facts, history.letters):
        report.fault("charges", what, place, merchant=owner)
    asked: set[tuple[str, str]] = set()
    for found in history.merchants.values():
        for purchase, row in found.purchases.items():
            charge = row.get("platform_charge_id")
            if charge is None:
                continue
            key, claim = f"{row['platform']}:{charge}", (found.merchant, purchase)
            asked.add((key, purchase))
            # Of one that lost its charge the registration may be compacted away.
            lost = facts.owner(key) not in (None, claim)
            is_there = claim in facts.registered.get(key, {}).values()
            if found.partition in facts.filled and not is_there and not lost:
                what = f"the charge {charge!r} of purchase {purchase} was never registered"
                report.fault("charges", what, merchant=found.merchant)
    for key, claims in facts.registered.items():
        for ref, (merchant, purchase) in claims.items():
            if (key, purchase) not in asked:
                what = f"purchase {purchase} does not have the charge {key}"
                report.fault("charges", what, ref, merchant=merchant)
