"""Faults by which a shop would have two trials, or a merchant that may have one would have none."""

from billing_stream.domain import shop_trials, trial_claims
from billing_stream.processor import BillingStage
from billing_stream.tables import shop_trials as owner
from tests.simulation.mutants import Mutant

SHOP_TRIAL_MUTANTS = (
    Mutant(
        "the owner grants the trial of a shop to all that ask",
        owner,
        "take",
        [("first == said.merchant_id", "True")],
    ),
    Mutant(
        "the last claim of a shop counts",
        owner,
        "take",
        [
            (
                "rows.trials.setdefault(said.shop, said.merchant_id)",
                "said.merchant_id\n    rows.trials[said.shop] = first",
            )
        ],
    ),
    Mutant(
        "trials of shops are lost in a restart",
        owner,
        "restore",
        [("rows.trials[key", "{}[key")],
    ),
    Mutant(
        "a trial starts and the owner is not asked",
        shop_trials,
        "ask",
        [("if shop is None", "if True")],
    ),
    Mutant(
        "a trial starts while the owner is asked",
        shop_trials,
        "ask",
        [("return TrialAsked()", "return None")],
    ),
    Mutant(
        "a refused trial starts",
        shop_trials,
        "ask",
        [("if known.granted:", "if True:")],
    ),
    Mutant(
        "a claim is not written",
        BillingStage,
        "_collect",
        [("if decision.trial_claims:", "if False:")],
    ),
    Mutant(
        "a granted trial does not start",
        trial_claims,
        "answer",
        [("idempotent(draft, waited, trials.start)", "pass")],
    ),
    Mutant(
        "a trial that was used before its shop was known is not claimed",
        trial_claims,
        "claim_used",
        [("claim(draft, shop, ClaimCause.STARTED if started else ClaimCause.FOUND)", "pass")],
    ),
)
