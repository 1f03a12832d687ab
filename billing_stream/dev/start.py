"""`billing-stream dev start`: everything for a try, as long as the command runs."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import click

from billing_stream.config.env_file import DEV_ENV_FILE
from billing_stream.console.help import help_epilog
from billing_stream.console.output import say, say_text
from billing_stream.dev import dev_environment
from billing_stream.dev.cache import DevError, step
from billing_stream.dev.client import client_headers
from billing_stream.dev.cluster import Cluster
from billing_stream.dev.server_process import free_port, is_free
from billing_stream.dev.worker_process import COMMAND, WorkerProcess, run_command

DOMAIN = "anna.example"
PORT = 8000
MERCHANT_SECONDS_MAX = 30.0
WATCH_SECONDS = 1.0


@click.command(
    epilog=help_epilog(
        {
            0: "stopped by Ctrl-C or SIGTERM",
            1: "something could not be started, or ended; its log is named",
            2: "wrong usage, or the port is taken",
        },
        "billing-stream dev start",
        "billing-stream dev start --port 8001",
        environment={"BILLING_DATA_DIR": "data, and logs (.data)"},
    )
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=PORT,
    envvar="BILLING_API_EXTERNAL_PORT",
    show_default=True,
    help="Port of the worker.",
)
def start(port: int) -> None:
    """Start Kafka, PostgreSQL, a worker and a projector, and create a merchant.

    Prints where they are, the merchant and a token. Ctrl-C ends all that was started; the data
    stays for the next start. Other commands in the same folder find the servers and the secrets
    by themselves, in any terminal.
    """
    cluster = Cluster(postgres=True)
    try:
        # First: a port is also in use because this command runs here already.
        cluster.refuse_owned()
        if not is_free(port):
            raise click.UsageError(f"port {port} is in use: choose another with --port")
        # Servers of `dev up` stay: this command did not start them.
        if cluster.running():
            cluster.up()
            code = asyncio.run(_run(cluster, port))
        else:
            with cluster:
                try:
                    code = asyncio.run(_run(cluster, port))
                finally:
                    dev_environment.remove(cluster.data_dir)
    except (DevError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        code = 0
    sys.exit(code)


async def _run(cluster: Cluster, port: int) -> int:
    """Run worker and projector until a signal comes; the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    addresses = cluster.environment() | {"BILLING_API_EXTERNAL_PORT": str(port)}
    env = {**os.environ, **dev_environment.write(cluster.data_dir, addresses)}
    folder = cluster.data_dir / "worker"
    folder.mkdir(exist_ok=True)
    projector_port = free_port()
    env["BILLING_PROJECTOR_PORT"] = str(projector_port)
    worker = WorkerProcess(env, folder, port)
    projector = WorkerProcess(env, folder, projector_port, (*COMMAND, "projector"))
    stopped = asyncio.create_task(stop.wait())
    watched = asyncio.create_task(_say_which_end(cluster))
    try:
        begun = asyncio.create_task(_start(worker, projector, env))
        await asyncio.wait({begun, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            begun.cancel()
            await asyncio.wait({begun})
            return 0
        merchant = begun.result()
        await _say_where(worker, projector, merchant, env, cluster.data_dir)
        ended = {asyncio.create_task(one.process.wait()): one for one in (worker, projector)}
        await asyncio.wait({stopped, *ended}, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return 0
        for task, one in ended.items():
            if task.done():
                say(f"ended with {task.result()}; the end of {one.log}:", err=True)
                say_text(one.tail(), err=True)
        return 1
    finally:
        stopped.cancel()
        watched.cancel()
        with step("stopping worker and projector"):
            await asyncio.gather(*(_stop(one) for one in (worker, projector)))


async def _start(worker: WorkerProcess, projector: WorkerProcess, env: Mapping[str, str]) -> str:
    """Start both on topics of their own; the id of a merchant that has its record."""
    with step("creating topics"):
        await run_command(env, "topics", "create")
    with step("starting worker and projector"):
        await asyncio.gather(worker.start(), projector.start())
        await asyncio.gather(worker.ready(), projector.ready())
    with step(f"creating the merchant of {DOMAIN}"):
        merchant = await run_command(env, "dev", "merchant", DOMAIN)
        await _wait_for_merchant(worker, env["CLIENT_JWT_SECRET"])
    return merchant


async def _say_which_end(cluster: Cluster) -> None:
    """Say of each server that ends by itself that it did, until cancelled."""
    said: set[str] = set()
    while True:
        for name in set(cluster.missing()) - said:
            said.add(name)
            say(f"{name} ended; its log is in {cluster.data_dir / 'logs'}.", err=True)
            say("Worker and projector wait for it. Ctrl-C, then start again.", err=True)
        await asyncio.sleep(WATCH_SECONDS)


async def _stop(one: WorkerProcess) -> None:
    if one.started:
        with contextlib.suppress(TimeoutError):
            await one.stop()
        await one.kill()


async def _wait_for_merchant(worker: WorkerProcess, secret: str) -> None:
    headers = client_headers(DOMAIN, secret)
    end = time.monotonic() + MERCHANT_SECONDS_MAX
    async with aiohttp.ClientSession(headers=headers) as session:
        while time.monotonic() < end:
            async with session.get(f"{worker.url}/api/billing") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.1)
    raise RuntimeError(f"{DOMAIN} has no billing record; the end of the log:\n{worker.tail()}")


async def _say_where(
    worker: WorkerProcess,
    projector: WorkerProcess,
    merchant: str,
    env: Mapping[str, str],
    folder: Path,
) -> None:
    token = await run_command(env, "dev", "token", DOMAIN)
    for name, text in {
        "API": f"{worker.url}/docs",
        "dashboard": f"{worker.url}/ops   (sign in: billing-stream dev operator-token)",
        "merchant": f"{merchant} with the shop {DOMAIN}",
        "settings": f"{folder / DEV_ENV_FILE}   (found by commands in this folder)",
        "logs": f"{worker.log} {projector.log}",
        "token": "for an hour; a new one: billing-stream dev token " + DOMAIN,
    }.items():
        click.echo(f"{name:10} {text}")
    click.echo(f"export TOKEN={token}")
    click.echo("Ready. Ctrl-C ends all of it; the data stays for the next start.")
