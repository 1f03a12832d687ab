"""`billing-stream verify`."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from billing_stream.audit.verify.model_state import Catalogue
from billing_stream.audit.verify.verifier import verify as verify_log
from billing_stream.audit.verify.verify_report import Report
from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.settings import AppEnv, Settings
from billing_stream.console.help import SETTINGS, help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, json_option
from billing_stream.console.output import say, say_json
from billing_stream.console.progress import progress
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.records.topics import Topics

EXIT_FAULTS = 1


@click.command(
    epilog=help_epilog(
        {0: "no fault was found", 1: "one was; each is named", 2: "it could not read"},
        "billing-stream verify                          # all is quiet",
        "billing-stream verify --allow-lag --json report.json",
        "billing-stream verify --merchant 0b0e9a52-3c4d-5e6f-8a9b-0c1d2e3f4a5b",
        environment={
            "KAFKA_BOOTSTRAP_SERVERS": "the log to read",
            "DATABASE_URL": "the projection to hold against it; or none",
            **SETTINGS,
        },
    )
)
@json_option("The report as a JSON object")
@click.option("--max-examples", default=10, show_default=True, help="Faults shown per check.")
@click.option("--allow-lag", is_flag=True, help="Workers run: judge what they have read by now.")
@click.option("--merchant", metavar="ID", help="Only this merchant, and show its history.")
def verify(json_to: Path | None, max_examples: int, allow_lag: bool, merchant: str | None) -> None:
    """Hold everything in Kafka (and PostgreSQL) against the contract. Only reads.

    Ends with 0 when no fault was found, 1 when one was, 2 when it could not read. Without
    --allow-lag, records that no worker has processed are faults: to be used when all is quiet.
    """
    settings = BackgroundSettings.from_env()
    url = settings.database_url
    with progress() as show:
        report = asyncio.run(
            _verify(
                settings,
                Topics(settings.app_id, settings.topic_prefix),
                settings.partitions,
                Catalogue.of(settings),
                allow_lag=allow_lag,
                trial_duration=settings.trial_duration,
                trial_reminder=settings.trial_reminder,
                purchase_expiry=settings.pending_purchase_expiry,
                early_webhook_expiry=settings.early_webhook_expiry,
                early_webhooks_max=settings.early_webhooks_max,
                stored_responses_max=settings.stored_responses_max,
                max_record_bytes=settings.max_record_bytes,
                test_clock=settings.app_env in (AppEnv.DEVELOPMENT, AppEnv.TEST),
                database_url=url.get_secret_value() if url is not None else None,
                schema=settings.projection_schema,
                merchant=merchant,
                max_examples=max_examples,
                progress=show,
            )
        )
    if json_to is not None:
        say_json(report.as_json(), json_to)
    if json_to != STANDARD_OUTPUT:
        for line in report.lines():
            say(line)
    if not report.ok:
        sys.exit(EXIT_FAULTS)


async def _verify(settings: Settings, *arguments: Any, **options: Any) -> Report:
    return await verify_log(await answering(client_options(settings)), *arguments, **options)
