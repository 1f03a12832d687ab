"""The clocks of the workers next to the brokers', as each worker reports it."""

from collections.abc import AsyncIterator, Iterable

import aiohttp

from billing_stream.config.settings import Settings
from billing_stream.engine.broker_time import AHEAD_MAX
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.group_members import describe_group
from billing_stream.observability.metrics.cluster_notices import AHEAD
from billing_stream.ops.doctor.finding import Finding, ok, warn

CHECK = "worker clocks"
ASK = aiohttp.ClientTimeout(total=2.0)


async def check_clocks(settings: Settings) -> AsyncIterator[Finding]:
    """Of each worker in the group that can be reached from here."""
    options = await answering(client_options(settings))
    group = await describe_group(options, settings.topic_prefix + settings.app_id)
    known: dict[str, float] = {}
    async with aiohttp.ClientSession(timeout=ASK) as session:
        for member in group.members:
            try:
                async with session.get(member.name.rstrip("/") + "/metrics") as response:
                    ahead = _ahead((await response.text()).splitlines())
            except (aiohttp.ClientError, TimeoutError, ValueError):
                continue
            if ahead is not None:
                known[member.name] = ahead
    wrong = {url: ahead for url, ahead in known.items() if abs(ahead) > AHEAD_MAX.total_seconds()}
    for url, ahead in wrong.items():
        where = "ahead of" if ahead > 0 else "behind"
        yield warn(
            CHECK,
            f"that of the worker at {url} is {abs(ahead):.0f} s {where} the brokers'",
            "correct the clock of its machine, or of the brokers (NTP)",
        )
    if not wrong:
        yield ok(CHECK, f"{len(known)} of {len(group.members)} workers asked, all as the brokers'")


def _ahead(lines: Iterable[str]) -> float | None:
    return next((float(one.split()[1]) for one in lines if one.startswith(f"{AHEAD} ")), None)
