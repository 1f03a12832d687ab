"""`billing-stream dev merchant` and `dev token`: what one needs to try the API manually."""

import asyncio
import json
import uuid
from datetime import UTC, datetime

import click

from billing_stream.config.settings import AppEnv, Settings
from billing_stream.console.help import EXIT_WRONG, help_epilog
from billing_stream.dev.client import client_token
from billing_stream.domain.shop_names import shop_names
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import require_topics
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics


def development_settings() -> Settings:
    """The settings. Raises ClickException outside development and test."""
    settings = Settings.from_env()
    if settings.app_env not in (AppEnv.DEVELOPMENT, AppEnv.TEST):
        raise click.ClickException(f"not with APP_ENV={settings.app_env}")
    return settings


@click.command(
    epilog=help_epilog(
        {0: "told", 1: "not in staging or production", 2: EXIT_WRONG},
        "billing-stream dev merchant anna.example",
    )
)
@click.argument("domain")
@click.option("--platform", default="shopify", show_default=True)
def merchant(domain: str, platform: str) -> None:
    """Simulate a merchant that installs the app in the shop DOMAIN; prints the merchant's id.

    Writes to evt.merchant.created.v1, as upstream does. The id is derived from the domain:
    the same shop twice is the same merchant. Development and test only.
    """
    settings = development_settings()
    try:
        platform, domain = shop_names(platform, domain)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    merchant_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, domain))
    asyncio.run(_tell(settings, merchant_id, domain, platform))
    click.echo(merchant_id)


@click.command(
    epilog=help_epilog(
        {0: "printed", 1: "not in staging or production", 2: "wrong settings"},
        "export TOKEN=$(billing-stream dev token anna.example)",
    )
)
@click.argument("domain")
def token(domain: str) -> None:
    """Print a bearer token for the shop DOMAIN, good for an hour. Development and test only."""
    click.echo(client_token(domain, development_settings().client_jwt_secret.get_secret_value()))


async def _tell(settings: Settings, merchant_id: str, domain: str, platform: str) -> None:
    from aiokafka import AIOKafkaProducer

    value = {
        "merchant_id": merchant_id,
        "platform_name": platform,
        "platform_shop_id": merchant_id,
        "domain": domain,
        "name": domain,
        "email": f"owner@{domain}",
        "installed_at": datetime.now(UTC).isoformat(),
    }
    topics = Topics(settings.app_id, settings.topic_prefix).all()
    wanted = settings.topic_prefix + names.MERCHANT_CREATED
    needed = [topic for topic in topics if topic.name == wanted]
    await require_topics(settings, needed, StartDeadline.of(settings))
    producer = AIOKafkaProducer(**client_options(settings), acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(
            settings.topic_prefix + names.MERCHANT_CREATED,
            json.dumps(value).encode(),
            key=merchant_id.encode(),
            partition=partition_of(merchant_id, settings.partitions),
        )
    finally:
        await producer.stop()
