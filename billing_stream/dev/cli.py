"""`billing-stream dev`: Kafka and PostgreSQL on this machine, by hand."""

import shlex
import sys

import click

from billing_stream.dev.cache import DevError
from billing_stream.dev.cluster import Cluster

EXIT_DOWN = 3


def _cluster(only: str | None) -> Cluster:
    return Cluster(kafka=only != "postgres", postgres=only != "kafka")


_only = click.option(
    "--only", type=click.Choice(["kafka", "postgres"]), help="Only this one of the two."
)


@click.group()
def dev() -> None:
    """Run a real Kafka and a real PostgreSQL on this machine.

    Their data is in BILLING_DATA_DIR (`.data` in the current folder), their logs in
    `logs` under it. Whatever the machine lacks is fetched once and kept in
    BILLING_CACHE_DIR (~/.cache/billing-stream).
    """


@dev.command()
@_only
def up(only: str | None) -> None:
    """Start them and print the environment to use.

    eval "$(billing-stream dev up)" sets it in a shell. What runs already is left alone.
    """
    cluster = _cluster(only)
    try:
        cluster.up()
    except DevError as error:
        raise click.ClickException(str(error)) from error
    for name, value in cluster.environment().items():
        click.echo(f"export {name}={shlex.quote(value)}")


@dev.command()
@click.option("--delete", is_flag=True, help="Delete their data too.")
def down(delete: bool) -> None:
    """Stop them; the data stays unless --delete is given."""
    cluster = _cluster(None)
    stopped = cluster.down(delete=delete)
    click.echo(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")
    if delete:
        click.echo(f"deleted {cluster.data_dir}")


@dev.command()
def status() -> None:
    """Say what runs, where, and whether it is ready. Exit code 3 when nothing runs."""
    cluster = _cluster(None)
    running = cluster.running()
    where = {"kafka": cluster.bootstrap_servers, "postgres": cluster.database_url}
    for name, pid in running.items():
        state = "ready" if cluster.is_ready(name) else "not ready"
        click.echo(f"{name:9} {state:9} pid {pid:<8} {where[name]}")
    click.echo(f"data      {cluster.data_dir}")
    if not running:
        click.echo("nothing is running")
        sys.exit(EXIT_DOWN)


if __name__ == "__main__":
    dev()
