"""What a replay found, for people and for machines."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from billing_stream.audit.replay.core.records import Difference
from billing_stream.audit.replay.history_source import ReplayError

SHOWN_MAX = 3


class Report(Struct, kw_only=True):
    """All differences between what was recorded and what `code` decides.

    `records` were read. Of the `unproved` merchants, the order of some records is not written,
    `unproved_records` in all; `moving` changed while they were read, and were not judged; `waiting`
    is the number of records that no worker has processed yet. `by_older_rules` are records that the
    rules of now would decide otherwise than those under which they were decided, which is right.
    """

    code: str
    policy: dict[str, object]
    began_at: datetime
    merchants: int = 0
    records: int = 0
    seconds: float = 0.0
    differences: list[Difference] = []
    unproved: list[str] = []
    unproved_records: int = 0
    moving: list[str] = []
    waiting: int = 0
    by_older_rules: list[str] = []

    @property
    def differing(self) -> list[str]:
        """The merchants with a difference."""
        return sorted({d.merchant_id for d in self.differences} - {""})

    def counts(self) -> Counter[tuple[str, str, str]]:
        """How often there is what kind of difference: kind, type and field."""
        return Counter((d.kind, d.type, d.field or "") for d in self.differences)

    def lines(self, examples: int) -> Iterator[str]:
        """For people; with this number of examples for each kind of difference."""
        shown: Counter[tuple[str, str, str]] = Counter()
        for (kind, name, field), count in sorted(self.counts().items()):
            yield f"{count:>8,} {kind}: {name}{f' {field}' if field else ''}"
        if self.differences and examples:
            yield ""
        for difference in self.differences:
            key = (difference.kind, difference.type, difference.field or "")
            shown[key] += 1
            if shown[key] <= examples:
                yield _line(difference)
        for count, what in (
            (
                self.unproved_records,
                f"records of {len(self.unproved):,} merchants have no written order: a release up "
                "to 0.5.1 took them. They are decided in the order of their times, which is not "
                "proved",
            ),
            (
                len(self.moving),
                "merchants were changing while they were read and are not judged; run it again",
            ),
            (self.waiting, "records are not processed yet, and not judged"),
            (
                len(self.by_older_rules),
                "records were decided by version 1 of the rules, and the present one decides them "
                "otherwise: an unknown status failed the purchase, what was paid was not compared, "
                "or a shop was named as it came, e.g. "
                f"{', '.join(self.by_older_rules[:SHOWN_MAX])}",
            ),
        ):
            if count:
                yield f"{count:,} {what}"
        found = f"{len(self.differences):,} differences of {len(self.differing):,}"
        yield (
            f"{found if self.differences else 'no difference in any of'} "
            f"{'of ' if self.differences else ''}{self.merchants:,} merchants, {self.records:,} "
            f"records, by the code of {self.code}, {self.seconds:.1f} s"
        )


def _line(found: Difference) -> str:
    what = f"{found.merchant_id} {found.kind}: {found.type} {found.subject}"
    if found.field is not None:
        what += f" {found.field}"
    if found.recorded is not None or found.replayed is not None:
        what += f": recorded {_text(found.recorded)}, now {_text(found.replayed)}"
    return what


def _text(value: object) -> str:
    return "nothing" if value is None else msgspec.json.encode(value).decode()


def read_report(path: Path) -> Report:
    """A report as `--json` wrote it. Raises ReplayError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ReplayError(f"{path} is not a report of `billing-stream replay`: {error}") from None
