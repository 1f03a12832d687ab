"""`billing-stream topics acls`."""

import click

from billing_stream.config.settings import Settings
from billing_stream.console.help import SETTINGS, help_epilog
from billing_stream.console.output import say_text
from billing_stream.kafka.acls import Process, acls
from billing_stream.records.topics import Topics


@click.command(
    name="acls",
    epilog=help_epilog(
        environment={
            "BILLING_TOPIC_PREFIX": "put before each name",
            "BILLING_APP_ID": "names groups, changelogs and transactional ids",
            "BILLING_PROJECTOR_GROUP": "the group of the projectors",
            **SETTINGS,
        },
        exits={0: "printed", 2: "wrong usage or settings"},
        examples=[
            "billing-stream topics acls worker --user User:billing-worker",
            "billing-stream topics acls projector --user User:CN=projector | sh",
        ],
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
def print_acls(process: str, user: str, command_config: str) -> None:
    """Print the lines for kafka-acls that allow a process what it needs, and nothing else.

    PROCESS is worker, projector, operator (dlq, replay, explain, verify, forget, backfill,
    import, dev) or topics (`topics create`). Nothing is connected or changed: read the lines,
    then run them.
    """
    settings = Settings.from_env()
    topics = Topics(settings.app_id, settings.topic_prefix)
    for one in acls(Process(process), topics, settings.projector_group):
        say_text(one.command(user, settings.kafka_bootstrap_servers, command_config))
