"""What a merchant's row says of an extension of its trial."""

from msgspec import Struct

from billing_stream.domain.instant import Instant


class TrialExtension(Struct, frozen=True, omit_defaults=True, gc=False):
    """An operator's extension of a trial to `ends_at`, made `at`; `days` as they were asked for.

    `period` is the extension that began its period; empty: the trial began it.
    """

    id: str
    ends_at: Instant
    at: Instant
    reason: str
    days: int | None = None
    period: str = ""
