"""`billing-stream dev`: Kafka and PostgreSQL on this machine, manually."""

import shlex
import sys

import click

from billing_stream.console.help import help_epilog
from billing_stream.dev import dev_environment
from billing_stream.dev.cache import DevError
from billing_stream.dev.cluster import BROKERS, Cluster
from billing_stream.dev.operate import clock, operator_token_command
from billing_stream.dev.start import start
from billing_stream.dev.try_out import merchant, token

EXIT_DOWN = 3
FOLDERS = {
    "BILLING_DATA_DIR": "their data, and logs in logs/ (.data)",
    "BILLING_CACHE_DIR": "what was fetched (~/.cache/billing-stream)",
}


def _cluster(only: str | None, brokers: int | None = None) -> Cluster:
    return Cluster(kafka=only != "postgres", postgres=only != "kafka", brokers=brokers)


_only = click.option(
    "--only", type=click.Choice(["kafka", "postgres"]), help="Only this one of the two."
)


@click.group(
    epilog=help_epilog(
        {
            0: "done",
            1: "a server could not be started or stopped; its log is named",
            2: "wrong usage or settings",
            3: "status: not all that was started is ready",
        },
        "billing-stream dev start",
        'eval "$(billing-stream dev up)"',
        "billing-stream dev merchant anna.example",
        "billing-stream dev down --delete",
        environment=FOLDERS,
    )
)
def dev() -> None:
    """Run a real Kafka and a real PostgreSQL on this machine, and try the service manually.

    Their data is in BILLING_DATA_DIR (`.data` in the current folder), their logs in
    `logs` under it. Whatever the machine lacks is fetched once and kept in
    BILLING_CACHE_DIR (~/.cache/billing-stream).
    """


@dev.command(
    epilog=help_epilog(
        {0: "they are ready", 1: "one could not be started; its log is named"},
        'eval "$(billing-stream dev up)"',
        "billing-stream dev up --only kafka",
        'eval "$(billing-stream dev up --brokers 3)"',
        environment=FOLDERS,
    )
)
@_only
@click.option(
    "--brokers",
    type=click.Choice([str(count) for count in BROKERS]),
    help="Brokers of Kafka; by default as many as the data is of, 1 for a new one.",
)
def up(only: str | None, brokers: str | None) -> None:
    """Start them; later commands in this folder find them by themselves.

    Prints the environment, with secrets made for it: eval "$(billing-stream dev up)" sets it in
    a shell, for other programs. What runs already is left alone. With three brokers topics
    have three replicas, as in production; it takes about 1 GB of memory.
    """
    cluster = _cluster(only, int(brokers) if brokers else None)
    try:
        cluster.up()
    except DevError as error:
        raise click.ClickException(str(error)) from error
    for name, value in dev_environment.write(cluster.data_dir, cluster.environment()).items():
        click.echo(f"export {name}={shlex.quote(value)}")


@dev.command(
    epilog=help_epilog(
        {0: "nothing of them runs any more", 1: "one could not be stopped"},
        "billing-stream dev down",
        "billing-stream dev down --delete",
        environment=FOLDERS,
    )
)
@click.option("--delete", is_flag=True, help="Delete their data, logs and workers' tables too.")
def down(delete: bool) -> None:
    """Stop them; the data stays unless --delete is given.

    Servers of a demo, test or benchmark that still runs are left alone: they end with it.
    """
    cluster = _cluster(None)
    try:
        stopped = cluster.down(delete=delete)
    except DevError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")
    if delete:
        click.echo(f"deleted the data in {cluster.data_dir}")


@dev.command(
    epilog=help_epilog(
        {0: "all that was started is ready", 3: "it is not, or nothing runs"},
        "billing-stream dev status",
        environment=FOLDERS,
    )
)
def status() -> None:
    """Say what runs, where, and whether it is ready."""
    cluster = _cluster(None)
    running = cluster.running()
    good = bool(running)
    for name, pid in running.items():
        ready = cluster.is_ready(name)
        good = good and ready
        state = "ready" if ready else "not ready"
        click.echo(f"{name:9} {state:9} pid {pid:<8} {cluster.address(name)}")
    for name in cluster.missing():
        good = False
        click.echo(f"{name:9} crashed   see {cluster.data_dir / 'logs' / name}.log")
    click.echo(f"data      {cluster.data_dir}")
    if not running:
        click.echo("nothing is running")
    if not good:
        sys.exit(EXIT_DOWN)


if __name__ == "__main__":
    dev()


dev.add_command(start)
dev.add_command(merchant)
dev.add_command(token)
dev.add_command(operator_token_command)
dev.add_command(clock)
