"""Shops: whose each is, by the topic, by the table, and by what was asked for."""

from collections import Counter

from billing_stream.audit.verify.facts import History
from billing_stream.audit.verify.verify_report import Report


def check_shops(history: History, report: Report) -> None:
    """The shops' table is what the shops' topic says last; each registration was asked for."""
    if history.allow_lag or history.only or history.incomplete:
        return
    asked: Counter[tuple[str, str]] = Counter()
    # An import registers a shop only for a merchant that has none.
    imported: Counter[tuple[str, str]] = Counter()
    for facts in history.merchants.values():
        for parsed, _ in facts.parsed():
            if parsed.command in ("create", "import"):
                counted = asked if parsed.command == "create" else imported
                counted[f"{parsed.platform}:{parsed.text}".lower(), facts.merchant] += 1
    for name in history.shop_records.keys() | history.shops.keys():
        report.count("shops")
        published, known = history.shop_records.get(name), history.shops.get(name)
        if published != known:
            what = f"{name} is {known} in the table, {published} in the topic"
            report.fault("shops", what, merchant=published or known)
    for (name, merchant), count in history.registered.items():
        wanted = asked[name, merchant] + imported[name, merchant]
        if count > wanted:
            what = f"{name} was registered {count} times, asked for {wanted} times"
            report.fault("shops", what, merchant=merchant)
    owners = set(history.shops.values())
    for (name, merchant), count in history.unregistered.items():
        if count > history.registered[name, merchant]:
            what = f"{name} was given up more often than it was registered"
            report.fault("shops", what, merchant=merchant)
    for facts in history.merchants.values():
        if (facts.row or {}).get("forgotten_at") and facts.merchant in owners:
            report.fault("shops", "a forgotten merchant has shops", merchant=facts.merchant)
    for name, merchant in asked:
        if (name, merchant) not in history.registered:
            report.fault("shops", f"{name} was never registered", merchant=merchant)
