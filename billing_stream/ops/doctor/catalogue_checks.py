"""Whether the settings or a version of the log decide which packs are on sale."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from billing_stream.config.settings import Settings
from billing_stream.domain.policy import PACKS
from billing_stream.ops.catalogue.catalogue_log import CatalogueLog
from billing_stream.ops.catalogue.course import as_asked, course_of
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.doctor.finding import Finding, ok, warn

CHECK = "catalogue"
MOMENT = "%Y-%m-%d %H:%M:%SZ"


async def check_catalogue(settings: Settings) -> AsyncIterator[Finding]:
    """Which of the two decides; a warning where the settings have packs that are not sold."""
    versions = await CatalogueLog(Cluster.of(settings)).versions()
    now = course_of(versions, settings.packs, datetime.now(UTC)).now
    coming = [f"version {one.version} at {one.effective_at:{MOMENT}}" for one in now.coming]
    next_one = f"; next is {coming[0]}" if coming else ""
    if now.in_force is None:
        yield ok(CHECK, f"the settings decide which packs are on sale{next_one}")
        return
    number, since = now.in_force.version, f"{now.in_force.effective_at:{MOMENT}}"
    yield ok(CHECK, f"version {number} decides which packs are on sale, since {since}{next_one}")
    if settings.packs != PACKS and as_asked(settings.packs) != now.packs:
        message = f"the settings have other packs than version {number}, which are not sold"
        action = (
            "unset them; `billing-stream catalogue set` changes packs "
            "(`billing-stream docs catalogue`)"
        )
        yield warn(CHECK, message, action)
    if not any(settings.currency in pack.price for pack in now.packs.values()):
        message = f"no pack of version {number} has a price in {settings.currency}"
        action = "set a version with such a price, or another BILLING_CURRENCY"
        yield warn(CHECK, message, action)
