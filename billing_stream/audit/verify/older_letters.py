"""Dead letters of older releases, of records that are valid today."""

from collections.abc import Sequence

from billing_stream.audit.verify.facts import DeadLetterFact, History

# Up to 0.5.1: zeros beyond the sixth decimal; in commands, amounts that are numbers.
_AMOUNT = "the amount is no sum of money"
_AMOUNT_OF_A_COMMAND = ("Expected `str", "at `$.amount`")


def leave_out_older(history: History) -> None:
    """Take out records that were invalid by the rules of their release; they did nothing."""
    for facts in history.merchants.values():
        for queue in facts.inputs.values():
            bad = [found for found in queue if _is_older(history.letters.get(found.ref, ()))]
            for found in bad:
                queue.remove(found)
                history.bad[found.ref] = found.digest
                history.bad_reasons[found.ref] = _AMOUNT


def _is_older(letters: Sequence[DeadLetterFact]) -> bool:
    if not letters:
        return False
    begins, ends = _AMOUNT_OF_A_COMMAND
    reason = letters[0].reason
    return reason == _AMOUNT or (reason.startswith(begins) and reason.endswith(ends))
