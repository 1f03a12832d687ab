"""A moment of time, as rows and records have it."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

Instant = Annotated[datetime, Meta(tz=True)]
"""A moment with a time zone; naive text is refused when it is read."""
