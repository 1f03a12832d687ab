"""`billing-stream doctor`."""

import asyncio
import sys
from pathlib import Path

import click

from billing_stream.config.settings import Settings
from billing_stream.console.help import help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, json_option
from billing_stream.console.output import say, say_json
from billing_stream.console.quiet import quiet_logs
from billing_stream.ops.doctor.examine import examine
from billing_stream.ops.doctor.finding import Finding, Verdict

# What these log of a broker that is away, or not ready, is a finding.
QUIET = (
    "aiokafka",
    "billing_stream.kafka.start_deadline",
    "billing_stream.kafka.open_transactions",
    "billing_stream.kafka.silent_brokers",
)
COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red", Verdict.SKIP: "cyan"}


@click.command(
    epilog=help_epilog(
        {
            0: "nothing fails; there may be warnings",
            1: "something fails",
            2: "the settings are not right, or wrong usage",
        },
        "billing-stream doctor",
        "billing-stream doctor --json | jq '.[] | select(.verdict != \"OK\")'",
    )
)
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds that each check may take.",
)
@json_option("One JSON list")
def doctor(seconds: float, json_to: Path | None) -> None:
    """Look at everything that a worker needs, and say what to do where it is not right.

    Settings and secrets, the data folder, ports, brokers, topics, what this user may do, the
    workers that run, whether they are ready and accept the tokens of this environment, lag,
    open transactions, the version of the rows, stopped and changed inputs, open dead letters, the
    packs on sale, the webhooks that platforms are set up to send, the projector, PostgreSQL, the
    clock. One cause is one line; SKIP lists the checks left out because of it. Nothing is
    changed.
    """
    quiet_logs(*QUIET)
    sys.exit(asyncio.run(_run(Settings.from_env(), seconds, json_to)))


async def _run(settings: Settings, seconds: float, json_to: Path | None) -> int:
    found = []
    async for finding in examine(settings, seconds):
        found.append(finding)
        if json_to != STANDARD_OUTPUT:
            _tell(finding)
    if json_to is not None:
        say_json(found, json_to)
    return int(any(finding.verdict is Verdict.FAIL for finding in found))


def _tell(finding: Finding) -> None:
    verdict = f"{finding.verdict:4}", COLOURS[finding.verdict]
    say(f"  {finding.check}: {finding.message}", verdict=verdict)
    if finding.action:
        say(f"      -> {finding.action}")
