"""`billing-stream demo`."""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import click

from billing_stream.console.help import help_epilog
from billing_stream.console.quiet import quiet_logs
from billing_stream.demo.story import tell
from billing_stream.dev.cache import DevError
from billing_stream.dev.cluster import Cluster


@click.command(
    epilog=help_epilog(
        {
            0: "all of it came out right",
            1: "something did not, or the servers could not be started",
        },
        "billing-stream demo",
        "billing-stream demo --keep   # to look at the log",
        environment={
            "BILLING_CACHE_DIR": "keeps what was fetched (~/.cache/billing-stream)",
            "NO_COLOR": "no colours, also on a terminal",
        },
    )
)
@click.option("--keep", is_flag=True, help="Keep the data folder, and say where it is.")
def demo(keep: bool) -> None:
    """Show the main job as a story: real Kafka, real worker, a crash in the middle.

    Three merchants, a trial that expires, purchases that are paid, paid late, declined, an
    early webhook, a duplicate and a bad record. Ends with a check: exit code 0 when all
    of it came out right, 1 when not. Takes about half a minute after set-up.
    """
    quiet_logs("aiokafka")
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-demo-"))
    try:
        with Cluster(folder, kafka=True) as cluster:
            good = asyncio.run(tell(cluster.bootstrap_servers, folder))
    except DevError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise click.Abort from None
    finally:
        _tidy(folder, keep)
    sys.exit(0 if good else 1)


def _tidy(folder: Path, keep: bool) -> None:
    if keep:
        click.echo(f"kept: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
