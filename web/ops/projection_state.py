"""How far the projection is: what its lists are "as of", and what it lacks."""

from datetime import datetime, timedelta

from msgspec import Struct

from billing_stream.web.projection import Projection, ProjectionUnreadable

BEHIND = timedelta(minutes=1)

_STATE = """
SELECT CASE WHEN count(*) = count(complete_at) THEN min(complete_at) END AS as_of,
    max(GREATEST(updated_at, complete_at)) AS written_at,
    (SELECT count(*) FROM projection_gaps WHERE accepted_at IS NULL) AS gaps,
    (SELECT count(*) FROM projection_rejects) AS rejects
FROM projection_positions WHERE topic = ANY($1)
"""


class ProjectionState(Struct, frozen=True):
    """The projection at a moment; `why` says why it cannot be read, None where it can.

    `configured`: there is one by the settings. Everything committed before `as_of` is in it, None:
    that was never so. `written_at` is when a projector wrote last. `gaps` are open ones, `rejects`
    records that fit no table.
    """

    configured: bool
    why: str | None = None
    as_of: datetime | None = None
    written_at: datetime | None = None
    gaps: int = 0
    rejects: int = 0

    def behind(self, now: datetime) -> bool:
        """Whether what was committed a minute ago may be missing."""
        return self.as_of is None or now - self.as_of > BEHIND

    def away(self, now: datetime) -> bool:
        """Whether no projector has written for a minute."""
        return self.written_at is None or now - self.written_at > BEHIND


async def ask_state(projection: Projection, topics: list[str]) -> ProjectionState:
    """The state of the projection of these topics."""
    if not projection.there:
        return ProjectionState(False, "DATABASE_URL is not set")
    try:
        (row,) = await projection.rows(_STATE, topics)
    except ProjectionUnreadable as error:
        return ProjectionState(True, error.why)
    return ProjectionState(True, None, *row)
