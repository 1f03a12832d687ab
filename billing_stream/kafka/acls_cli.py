"""`billing-stream topics acls`."""

import asyncio

import click

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.console.help import SETTINGS, help_epilog
from billing_stream.console.output import say_text
from billing_stream.kafka.acls import Process, acls
from billing_stream.kafka.client_options import client_options
from billing_stream.records.topics import Topics


@click.command(
    name="acls",
    epilog=help_epilog(
        {0: "printed", 2: "wrong usage or settings, names that overlap, or no broker answers"},
        "billing-stream topics acls worker --user User:billing-worker",
        "billing-stream topics acls projector --user User:CN=projector | sh",
        "billing-stream topics acls worker --user User:billing-worker --offline",
        environment={
            "BILLING_TOPIC_PREFIX": "put before each name",
            "BILLING_APP_ID": "names groups, changelogs and transactional ids",
            "BILLING_PROJECTOR_GROUP": "the group of the projectors",
            **SETTINGS,
        },
    ),
)
@click.argument("process", type=click.Choice([str(one) for one in Process]))
@click.option("--user", required=True, help="The principal, e.g. User:billing-worker.")
@click.option(
    "--command-config",
    default="admin.properties",
    show_default=True,
    help="The file with which kafka-acls connects as an administrator.",
)
@click.option("--offline", is_flag=True, help="Without a look at the other apps of the cluster.")
def print_acls(process: str, user: str, command_config: str, offline: bool) -> None:
    """Print the lines for kafka-acls that allow a process what it needs, and nothing else.

    PROCESS is worker, projector, deliver, operator (dlq, replay, explain, verify, forget, backfill,
    import, dev) or topics (`topics create`). Nothing is changed: read the lines, then run them.

    Refused where BILLING_APP_ID is a prefix of that of another app on the cluster, or the other
    way round: their rights would overlap. Only topics that this user may describe are seen.
    """
    settings = BackgroundSettings.from_env()
    topics = Topics(settings.app_id, settings.topic_prefix)
    if not offline:
        group = settings.topic_prefix + settings.app_id
        # The client of Kafka takes long to load, which a completion of names has no time for.
        from billing_stream.kafka.overlapping_apps import require_apart

        asyncio.run(require_apart(client_options(settings), group))
    for one in acls(Process(process), topics, settings.projector_group):
        say_text(one.command(user, settings.kafka_bootstrap_servers, command_config))
