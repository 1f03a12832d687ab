"""`billing-stream dev operator-token` and `dev clock`: what operators do, tried manually."""

import asyncio
from typing import Any

import aiohttp
import click

from billing_stream.config.listener_settings import Listener
from billing_stream.console.help import help_epilog
from billing_stream.dev.client import operator_token
from billing_stream.dev.try_out import development_settings

SECONDS_MAX = 20


@click.command(
    "operator-token",
    epilog=help_epilog(
        {0: "printed", 1: "not in staging or production", 2: "wrong usage or settings"},
        "OPERATOR=$(billing-stream dev operator-token ada)",
    ),
)
@click.argument("name", default="me")
def operator_token_command(name: str) -> None:
    """Print a bearer token of the operator NAME, good for an hour. Development and test only.

    For POST /internal/adjustments and /internal/clock.
    """
    click.echo(operator_token(name, _secret()))


@click.command(
    epilog=help_epilog(
        {
            0: "the time is moved",
            1: "no worker answers, it refuses, or staging or production",
            2: "wrong usage or settings",
        },
        "billing-stream dev clock 11111111-1111-4111-8111-111111111111 +14d",
    )
)
@click.argument("merchant")
@click.argument("forward")
@click.option(
    "--url",
    envvar="BILLING_URL",
    help="The internal listener of a worker; by default that of this machine, by the settings.",
)
def clock(merchant: str, forward: str, url: str | None) -> None:
    """Move the time of MERCHANT (its id) FORWARD, e.g. by +14d, 36h or 90s.

    What falls due by then happens at once: trials end, unpaid purchases expire. Prints the time
    that it is for the merchant now. Other merchants keep theirs. Development and test only.
    """
    port = development_settings().address_of(Listener.INTERNAL).port
    url = url or f"http://127.0.0.1:{port}"
    body = {"merchant_id": merchant, "forward": forward.removeprefix("+")}
    click.echo(asyncio.run(_post(url.rstrip("/") + "/internal/clock", body))["now"])


def _secret() -> str:
    secret: str = development_settings().internal_jwt_secret.get_secret_value()
    return secret


async def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {operator_token('dev', _secret())}"}
    timeout = aiohttp.ClientTimeout(total=SECONDS_MAX)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, json=body, headers=headers) as response,
        ):
            answer: dict[str, Any] = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise click.ClickException(
            f"no worker answers at {url} ({type(error).__name__}): is one running? See --url"
        ) from error
    if answer["error"] is not None:
        raise click.ClickException(f"{answer['error']['code']}: {answer['error']['message']}")
    data: dict[str, Any] = answer["data"]
    return data
