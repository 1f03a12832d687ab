"""Each shop's trial is that of the first merchant that claimed it, and no shop has two."""

from collections import Counter, defaultdict

from billing_stream.audit.verify.facts import Facts, History
from billing_stream.audit.verify.shop_trials import (
    ASKED,
    PER_MERCHANT,
    STARTED,
)
from billing_stream.audit.verify.verify_report import Report

CHECK = "shop-trials"


def check_shop_trials(history: History, report: Report) -> None:
    """The claims to trials, what owners of shops answered, and the trials that started."""
    trials = history.shop_trials
    report.count(CHECK, sum(map(len, trials.claims.values())))
    if history.allow_lag or history.only or history.incomplete:
        return
    answers: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for facts in history.merchants.values():
        for parsed, _ in facts.parsed():
            if parsed.command == "answer":
                answers[parsed.text, facts.merchant].append(parsed.granted)
    for shop in trials.claims.keys() | trials.rows.keys():
        claims, owner = trials.claims.get(shop, []), trials.rows.get(shop)
        first = claims[0].claim.merchant if claims else None
        if owner != first:
            what = f"the trial of {shop} is that of {owner} in the table, {first} claimed it first"
            report.fault(CHECK, what, merchant=owner)
        for ref, claim in claims:
            if claim.why == STARTED and claim.once_per != PER_MERCHANT:
                what = f"the trial started, and the owner of {shop} was not asked"
                report.fault(CHECK, what, ref, merchant=claim.merchant)
        for merchant in {one.claim.merchant for one in claims}:
            asked = [c for _, c in claims if c.why == ASKED and c.merchant == merchant]
            said = answers.pop((shop, merchant), [])
            if said != [merchant == first] * len(asked):
                what = f"{shop} was claimed first by {first}; {len(asked)} claims asked, "
                what += f"the answers are {said}"
                report.fault(CHECK, what, merchant=merchant)
    for shop, merchant in answers:
        report.fault(CHECK, f"an answer about {shop}, which was not asked for", merchant=merchant)


def check_claims(
    history: History, facts: Facts, expected: list[tuple[str, str]], report: Report
) -> None:
    """A merchant has claimed the trials that its commands claim, each with why, and no others.

    So a trial that started without the grant of the shop's owner has a claim that says so.
    """
    if history.allow_lag or history.only or history.incomplete:
        return
    found = Counter((c.shop, c.why) for c in history.shop_trials.of(facts.merchant))
    if found != Counter(expected):
        what = f"it has made the claims {dict(found)} to trials, not {dict(Counter(expected))}"
        report.fault(CHECK, what, facts.row_ref, merchant=facts.merchant)
