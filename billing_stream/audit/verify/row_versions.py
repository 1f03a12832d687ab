"""In which version of the state a row was written, and what older ones left out.

Every record of a changelog has it in its header `state`; releases up to 0.4.0 wrote none, which
is 1. What those of 0.1.0 mean is stated here a second time, apart from what workers make of them.
"""

from typing import Any

from billing_stream.audit.verify.log_records import Record
from billing_stream.errors import NewerState

NEWEST = 5
_KNOWN = (b"1", b"2", b"3", b"4", b"5")
REMINDED = 5
"""From this one on, workers publish that a trial is about to end."""
_SOLD = ("currency", "pack", "test")
UNTOLD = "\0untold"
"""In a row: fields that its writer did not know, and about which it therefore says nothing."""


def require_known(record: Record) -> int:
    """The version of a changelog record. Raises NewerState when nothing is known of it here."""
    text = dict(record.headers).get("state", b"1")
    if text not in _KNOWN:
        raise NewerState(
            f"{record.topic}[{record.partition}]@{record.offset} is of state version "
            f"{(text or b'').decode(errors='replace')}, and this program verifies up to {NEWEST}: "
            "verify with the release that runs"
        )
    return int(text)


def purchase_of(row: dict[str, Any], version: int) -> dict[str, Any]:
    """A purchase's row, with what it leaves out because its writer did not know it.

    That of 1 knew only whole refunds, that of 2 neither currency nor pack. A purchase that was
    opened before 3 has no pack ever after.
    """
    if version > 2:
        return row if "pack" in row else {**row, UNTOLD: ("pack",)}
    untold: tuple[str, ...] = _SOLD
    if version == 1:
        if row["status"] == "refunded":
            row.setdefault("refunded_amount", row["amount"])
            row.setdefault("refunded_credits", row["credits"])
        untold += () if "no_checkout" in row else ("no_checkout",)
    return {**row, UNTOLD: untold}
