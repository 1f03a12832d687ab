"""The command line. Everything is taken from the environment."""

import asyncio
import difflib
import importlib
import logging
import os
import re
import sys
import traceback
from typing import Any, ClassVar, NoReturn

import click
from click.shell_completion import CompletionItem

from billing_stream import __version__
from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.settings import Settings
from billing_stream.console.help import EXIT_INTERRUPTED, EXIT_WRONG, SETTINGS, help_epilog
from billing_stream.console.output import clean_warnings, say, say_text
from billing_stream.errors import EXIT_FATAL, EXIT_USAGE, BillingError
from billing_stream.kafka.acls_cli import print_acls
from billing_stream.observability.log_redaction import Scrubber
from billing_stream.plain_text import clean_text, mask_passwords


class LazyGroup(click.Group):
    """Loads the commands that need development packages only when they are called."""

    LAZY: ClassVar = {
        "dev": ("billing_stream.dev.dev_cli", "dev", "Kafka and PostgreSQL on this machine."),
        "verify": (
            "billing_stream.audit.verify.verify_cli",
            "verify",
            "Hold the whole log against the rules, by other means; read-only.",
        ),
        "dlq": (
            "billing_stream.ops.dead_letters.dead_letter_cli",
            "dlq",
            "Dead letters: list, show, redrive, discard.",
        ),
        "catalogue": (
            "billing_stream.ops.catalogue.catalogue_cli",
            "catalogue",
            "Set packs and prices while workers run; show which are in force.",
        ),
        "import": (
            "billing_stream.migration.import_cli",
            "import_command",
            "Bring everything in from the old service; compare the two.",
        ),
        "config": (
            "billing_stream.config.config_cli",
            "config",
            "The settings in force, and where each comes from.",
        ),
        "completion": (
            "billing_stream.console.completion",
            "completion",
            "Print what completes commands in bash, zsh or fish.",
        ),
        "docs": (
            "billing_stream.console.docs_cli",
            "docs",
            "Show a page of the documentation, or list all of them.",
        ),
        "describe": (
            "billing_stream.ops.describe",
            "describe",
            "Write the descriptions of API, topics and records.",
        ),
        "projector": (
            "billing_stream.projector.projector_cli",
            "projector",
            "Project the log into PostgreSQL, for reports.",
        ),
        "deliver": (
            "billing_stream.deliver.deliver_cli",
            "deliver",
            "Deliver events to HTTPS endpoints, as signed webhooks.",
        ),
        "doctor": (
            "billing_stream.ops.doctor.doctor_cli",
            "doctor",
            "Look at all that a worker needs, and say what to do. Read-only.",
        ),
        "demo": (
            "billing_stream.demo.demo_cli",
            "demo",
            "The main job as a story, on a real Kafka.",
        ),
        "replay": (
            "billing_stream.audit.replay.replay_cli",
            "replay_command",
            "Decide the recorded input again: what would be otherwise? Read-only.",
        ),
        "backfill": (
            "billing_stream.audit.replay.backfill_cli",
            "backfill",
            "Correct credits that a replay finds wrong, with adjustments of their own.",
        ),
        "reconcile": (
            "billing_stream.ops.reconcile.reconcile_cli",
            "reconcile",
            "Ask the platforms about purchases, and compare.",
        ),
        "forget": (
            "billing_stream.ops.forget.forget_cli",
            "forget",
            "Erase a merchant's personal data; financial records are kept.",
        ),
        "inputs": (
            "billing_stream.ops.inputs.input_cli",
            "inputs",
            "List the inputs, and resume those that are stopped.",
        ),
        "explain": (
            "billing_stream.audit.explain.explain_cli",
            "explain",
            "A merchant at any time, and where each of its credits came from. Read-only.",
        ),
    }

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; what it prints of a wrong usage is as clean as all else."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = clean_text(mask_passwords(error.message)) + _perhaps_meant(error)
            raise

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
                f"`{name}` needs {error.name}, which is not installed here: install "
                "billing-stream again, or billing-stream[dev]; in a clone, run `make setup`"
            ) from error
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completions of the next word, without loading anything: it is asked at a key press."""
        helps = {n: c.get_short_help_str(60) for n, c in self.commands.items()}
        helps |= {name: text for name, (_, _, text) in self.LAZY.items()}
        found = [
            CompletionItem(name, help=text)
            for name, text in sorted(helps.items())
            if name.startswith(incomplete)
        ]
        return found or super().shell_complete(ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, without loading anything."""
        rows = [(n, c.get_short_help_str(60)) for n, c in self.commands.items()]
        rows += [(name, text) for name, (_, _, text) in self.LAZY.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=help_epilog(
        {
            0: "good",
            1: "a difference or fault was found",
            2: EXIT_WRONG,
            65: "the rows are of a newer release",
            70: "a fatal error: the log, or the traceback, says which",
            75: "another process takes its transactions",
            78: "the consumer group does not accept it",
            130: "stopped by Ctrl-C",
        },
        'eval "$(billing-stream dev up)"     # Kafka and PostgreSQL of this machine',
        "billing-stream config               # are the settings right?",
        "billing-stream topics create && billing-stream worker",
        'eval "$(billing-stream completion bash)"',
        environment={**SETTINGS, "NO_COLOR": "no colours, also on a terminal"},
    ),
)
@click.version_option(__version__, prog_name="billing-stream")
@click.pass_context
def cli(context: click.Context) -> None:
    """Billing for merchants of an app store platform, exactly once, on Kafka.

    Settings come from the environment and from a `.env` in the current folder.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    clean_warnings()
    # What they say of an error comes to people as one message of ours. Workers and projectors
    # have a log, where they go on being heard.
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).addHandler(logging.NullHandler())


@cli.command(
    epilog=help_epilog(
        {
            0: "stopped by SIGTERM or SIGINT",
            2: "wrong settings or topics, or no broker answers",
            65: "the rows are of a newer release: run that one",
            70: "a fatal error; the log says which. Nothing is lost: start it again",
            75: "another process takes its transactions again and again: start it again",
            78: "the consumer group does not accept it; the log says why",
        },
        "billing-stream worker",
        "BILLING_API_EXTERNAL_PORT=8001 billing-stream worker  # one more worker",
        "curl -f localhost:8000/ready                          # may it get requests?",
        environment={
            "KAFKA_BOOTSTRAP_SERVERS": "brokers, host:port,...",
            "BILLING_API_EXTERNAL_PORT": "where it listens (8000)",
            "BILLING_API_HOST": "where other workers reach it",
            "BILLING_WORKER_NAME": "static member: a restart keeps partitions",
            "BILLING_DATA_DIR": "the one folder that it writes to",
            **SETTINGS,
        },
    )
)
def worker() -> None:
    """Run a worker: agents, lanes, timers and the HTTP API.

    Start as many as there are partitions at most; they share the work. Topics must be there:
    see `topics create`. A process manager should start it again whatever it ends with.

    At SIGTERM or SIGINT it says on /ready that it is not, serves for BILLING_DRAIN_DELAY,
    finishes what it took (BILLING_REQUEST_DEADLINE at most), leaves the group and ends. A
    second signal ends it at once; so does SIGKILL, and nothing is lost by it.
    """
    from billing_stream.worker import run_worker

    run_worker(Settings.from_env())


@cli.group(
    epilog=help_epilog(
        {0: "all topics match the settings", 2: "they do not, or no broker answers"},
        "billing-stream topics create",
        "billing-stream topics check",
        environment=None,
    )
)
def topics() -> None:
    """Create the topics, or check them."""


@topics.command(
    epilog=help_epilog(
        {
            0: "all topics exist and match the settings",
            2: "one does not match, or was lost, or no broker answers",
        },
        "billing-stream topics create",
        "BILLING_REPLICATION_FACTOR=3 billing-stream topics create",
        environment={
            "BILLING_PARTITIONS": "partitions of each (8); cannot be changed later",
            "BILLING_REPLICATION_FACTOR": "replicas of each (1; 3 in production)",
            "BILLING_TOPIC_PREFIX": "put before each name",
            **SETTINGS,
        },
    )
)
def create() -> None:
    """Create the topics that are missing. What exists is checked, not changed.

    It may be run again at any time, and by several at once. A changelog that was there before
    and is lost is not made again: see `billing-stream docs restore`.
    """
    from billing_stream.console.progress import waiting
    from billing_stream.kafka import topic_admin as admin
    from billing_stream.kafka.client_options import client_options
    from billing_stream.kafka.lost_changelogs import require_no_lost_changelog
    from billing_stream.records.topics import Topics

    settings = BackgroundSettings.from_env()
    topics = Topics(settings.app_id, settings.topic_prefix)
    wanted = topics.all()
    asyncio.run(require_no_lost_changelog(client_options(settings), topics))
    work = admin.create_topics(
        client_options(settings),
        wanted,
        partitions=settings.partitions,
        replication=settings.replication_factor,
    )
    with waiting("creating topics"):
        created = asyncio.run(work)
    for name in created:
        say(f"created {name}")
    say(f"{len(created)} created, {len(wanted) - len(created)} were there")
    _check(settings)


@topics.command(
    epilog=help_epilog(
        {0: "all topics match the settings", 2: "they do not, or no broker answers"},
        "billing-stream topics check",
    )
)
def check() -> None:
    """Report problems of the topics: missing ones, partitions, replicas, retention.

    A worker checks the same before it starts. Nothing is changed.
    """
    _check(BackgroundSettings.from_env())


topics.add_command(print_acls)


def _check(settings: Settings) -> None:
    from billing_stream.kafka.topic_admin import check_before_start

    asyncio.run(check_before_start(settings))
    say("all topics match the settings")


def _perhaps_meant(error: click.ClickException) -> str:
    """The commands with names that are near to a wrong one."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    wrong = re.match("No such command '(.+)'", error.message)
    if wrong is None or context is None or not isinstance(context.command, click.Group):
        return ""
    near = difflib.get_close_matches(wrong[1], context.command.list_commands(context))
    return f" Did you mean {' or '.join(near)}?" if near else ""


def main() -> None:
    """The console script: expected errors are one clear message, exit codes as in docs."""
    from aiokafka.errors import KafkaError

    try:
        cli()
    except (BillingError, KafkaError) as error:
        from billing_stream.console.error_messages import error_message

        lines = error_message(error)
        if lines is None:
            _fatal()
        say_text(f"billing-stream: {_masked(lines)}", err=True)
        sys.exit(error.exit_code if isinstance(error, BillingError) else EXIT_USAGE)
    except SystemExit as end:
        # click says 1 then, as for a difference that was found.
        if _interrupted(end.__context__):
            sys.exit(EXIT_INTERRUPTED)
        raise
    except Exception:  # noqa: BLE001 - whatever it is, it is told and the process ends
        _fatal()


def _interrupted(error: BaseException | None) -> bool:
    return isinstance(error, click.Abort) and isinstance(error.__cause__, KeyboardInterrupt)


def _masked(text: str) -> str:
    """Without the secrets of the settings, where these can be read."""
    try:
        secrets = BackgroundSettings.from_env().secret_values()
    except BillingError:
        secrets = []
    return Scrubber(secrets).mask(text)


def _fatal() -> NoReturn:
    """Not with 1, as Python does: that is a difference or fault that a command has found."""
    say_text(_masked(traceback.format_exc()), err=True)
    say("billing-stream: this should not happen; what stands above says where", err=True)
    sys.exit(EXIT_FATAL)


if __name__ == "__main__":
    main()
