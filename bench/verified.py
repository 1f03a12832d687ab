"""What a run left behind, held against the contract. Its time counts in no figure."""

import time

import msgspec

from bench.peers.reading import records_of
from bench.setting import Setting, say
from billing_stream.audit.verify.model_state import Catalogue
from billing_stream.audit.verify.verifier import verify
from billing_stream.domain.policy import Policy
from billing_stream.records import topics as names

PROGRESS_SECONDS = 5.0
CREDITS = 100


class _Merchant(msgspec.Struct):
    total_credits_purchased: int = 0


async def verified(setting: Setting) -> bool:
    """Whether the verifier finds no fault in all that was written; its report when it does.

    All workers must have stopped.
    """
    logged_at = time.monotonic()

    def progress(what: str, done: int, total: int) -> None:
        nonlocal logged_at
        if time.monotonic() - logged_at > PROGRESS_SECONDS:
            logged_at = time.monotonic()
            say(f"verifying: {what} {done:,} of {total:,}")

    say("verifying")
    report = await verify(
        setting.options,
        setting.topics,
        setting.partitions,
        Catalogue.of(Policy()),
        progress=progress,
        max_examples=3,
    )
    if not report.ok:
        say("\n  ".join(report.lines()))
    return report.ok


async def sums(setting: Setting, completed: int) -> bool:
    """Whether the changelogs have so many completed purchases and their credits, and no more.

    For changelogs that were filled, of whose rows there is no history to verify.
    """
    say("checking the sums in the changelogs")
    totals: dict[bytes, int] = {}
    decode = msgspec.json.Decoder(_Merchant).decode
    async for record in records_of(setting, setting.topics.changelog(names.BILLING_RECORDS)):
        # Rows as they were filled have none: a look into the bytes spares most of the work.
        if b'"total_credits_purchased"' in record.value:
            totals[record.key] = decode(record.value).total_credits_purchased
    paid: set[bytes] = set()
    async for record in records_of(setting, setting.topics.changelog(names.CREDIT_PURCHASES)):
        if b'"completed"' in record.value:
            paid.add(record.key)
    letters = [r async for r in records_of(setting, setting.topics.name(names.DEAD_LETTERS))]
    found = (len(paid), sum(totals.values()), len(letters))
    wanted = (completed, completed * CREDITS, 0)
    if found != wanted:
        say(f"completed purchases, credits, dead letters are {found}, not {wanted}")
    return found == wanted
