"""Starts of trials in the model, and what owners of shops say of them."""

from collections.abc import Callable

from billing_stream.audit.verify import limits, trial_model
from billing_stream.audit.verify.model_state import Rules
from billing_stream.audit.verify.shop_trials import ASKED, USED, TrialClaim, shop_key
from billing_stream.audit.verify.verify_inputs import ParsedCommand
from billing_stream.audit.verify.verify_payments import Payments


class Trials(Payments):
    """The part of a step that starts trials.

    `claims` are to the trials of shops, each with why; `waits`: the command waits for the answer.
    """

    __slots__ = ("claims", "waits")

    _rules: Rules
    claims: list[tuple[str, str]]
    waits: bool

    def _once(
        self, parsed: ParsedCommand, asked: tuple[str, ...], rule: Callable[[ParsedCommand], None]
    ) -> None:
        raise NotImplementedError

    def start_trial(self, parsed: ParsedCommand) -> None:
        """Once per merchant, permanently; and once per shop, where its owner is asked."""
        me = self.state
        if me.used:
            by = me.claim.by if me.claim is not None and me.started is not None else ""
            if not by or by != parsed.command_id:
                self.refusal = USED
            return
        if me.uninstalled is not None:
            self.refusal = limits.UNINSTALLED
            return
        if self._asks_owner(parsed):
            return
        me.used, me.started, me.ends = True, self.now, self.now + self._rules.trial_us
        credits = parsed.terms[0] if parsed.terms else self._rules.catalogue.trial_credits
        self.publish("trial.started", "", credits, None, me.ends)

    def _asks_owner(self, parsed: ParsedCommand) -> bool:
        """Whether the trial cannot start: the owner of the shop is asked first, or refused it."""
        me, before = self.state, self.state.claim
        if self._rules.once_per_shop if parsed.asks is None else parsed.asks:
            self.waits, self.refusal = trial_model.ask_owner(me, parsed)
        if me.claim is not before:
            self.claim_trial(ASKED)
        return self.waits or self.refusal is not None

    def hear_owner(self, parsed: ParsedCommand) -> None:
        """What the owner of the shop says, and the request that waited for it."""
        me, claim = self.state, self.state.claim
        if claim is None or claim.shop != parsed.text or claim.granted is not None:
            return
        by = "" if me.used else claim.by
        me.claim, self.changed = TrialClaim(claim.shop, parsed.granted, by), True
        if claim.by and me.forgotten is None:
            waited = parsed._replace(command="trial", key=claim.key, command_id=claim.by)
            self._once(waited, ("trial",), self.start_trial)
            self.refusal = None

    def claim_trial(self, why: str | None) -> None:
        """Claim the trial of the shop; None: there is nothing to claim."""
        if why is not None:
            self.claims.append((shop_key(self.state.platform, self.state.shop_id or ""), why))
            self.changed = True
