"""The command line. Everything is taken from the environment."""

import asyncio
import importlib
import sys
from typing import ClassVar

import click

from billing_stream import __version__
from billing_stream.errors import BillingError
from billing_stream.settings import Settings

EXIT_USAGE = 2


class LazyGroup(click.Group):
    """Loads the commands that need development packages only when they are called."""

    LAZY: ClassVar = {
        "dev": ("billing_stream.dev.cli", "dev", "Kafka and PostgreSQL on this machine."),
        "verify": (
            "billing_stream.verify.cli",
            "verify",
            "Hold the whole log against the rules, by other means; read-only.",
        ),
        "describe": (
            "billing_stream.describe",
            "describe",
            "Write the descriptions of API, topics and records.",
        ),
        "demo": ("billing_stream.demo.cli", "demo", "The main job as a story, on a real Kafka."),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, loaded or not."""
        return sorted([*super().list_commands(ctx), *self.LAZY])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command; says which packages are missing when it cannot be loaded."""
        if name not in self.LAZY:
            return super().get_command(ctx, name)
        module, attribute, _ = self.LAZY[name]
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"`{name}` needs {error.name}: install billing-stream[dev]"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, without loading anything."""
        rows = [(n, c.get_short_help_str(60)) for n, c in self.commands.items()]
        rows += [(name, text) for name, (_, _, text) in self.LAZY.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="billing-stream")
def cli() -> None:
    """Billing for merchants of an app store platform, exactly once, on Kafka."""


@cli.command()
def worker() -> None:
    """Run a worker: agents, lanes, timers and the HTTP API.

    Ends with 0 after SIGTERM or SIGINT, 2 on wrong settings or topics, 70 after a fatal
    error and 75 when another worker owns its partitions; a process manager starts it again.
    """
    from billing_stream.worker import run_worker

    run_worker(Settings.from_env())


@cli.group()
def topics() -> None:
    """Create the topics, or check them."""


@topics.command()
def create() -> None:
    """Create the topics that are missing. What exists is checked, not changed."""
    from billing_stream import topic_admin as admin
    from billing_stream.kafka_options import client_options
    from billing_stream.topics import Topics

    settings = Settings.from_env()
    wanted = Topics(settings.app_id, settings.topic_prefix).all()
    created = asyncio.run(
        admin.create_topics(
            client_options(settings),
            wanted,
            partitions=settings.partitions,
            replication=settings.replication_factor,
        )
    )
    for name in created:
        click.echo(f"created {name}")
    click.echo(f"{len(created)} created, {len(wanted) - len(created)} were there")
    _check(settings)


@topics.command()
def check() -> None:
    """Say what is wrong with the topics; exit code 2 when anything is."""
    _check(Settings.from_env())


def _check(settings: Settings) -> None:
    from billing_stream.app import check_before_start

    asyncio.run(check_before_start(settings))
    click.echo("all topics are as they must be")


def main() -> None:
    """The console script: errors of ours are one clear message, not a traceback."""
    from aiokafka.errors import KafkaConnectionError

    try:
        cli()
    except BillingError as error:
        click.echo(f"billing-stream: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except KafkaConnectionError as error:
        click.echo(f"billing-stream: no Kafka broker answers: {error}", err=True)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
