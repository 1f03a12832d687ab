"""Sessions of the dashboard that were ended."""

from msgspec import Struct

from billing_stream.domain.commands import Text
from billing_stream.domain.model import Instant


class EndedSession(Struct, frozen=True, gc=False):
    """`billing.ended-sessions.v1`: a session of the dashboard that was ended by a logout.

    `session` is the id in its cookie, which expires at `expires_at`.
    """

    session: Text
    expires_at: Instant
