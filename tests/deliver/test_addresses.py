"""Where webhooks may go: what is private gets no connection, however it is written."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from billing_stream.deliver.addresses import EndpointError, checked_url, is_public
from billing_stream.deliver.delivery_rounds import Due, Queue
from billing_stream.deliver.endpoints import Endpoint, new_secret
from billing_stream.deliver.sending import Sender

PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "2001:db8::1"),
    # An IPv4 address within: mapped, NAT64, 6to4, the compatible form of old.
    *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "localhost", ""),
)
PUBLIC = ("1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("http://crm.example.com/", "ftp://crm.example.com/", "https:///in", "crm.example.com"),
        *("https://user@crm.example.com/", "https://:word@crm.example.com/"),
        *("https://crm.example.com/#part", "https://crm.example.com:99999/", "https://10.0.0.1/"),
        *("https://[::1]/", "https://crm.example.com/" + "x" * 2000),
    ],
)
def test_an_address_that_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(EndpointError):
        checked_url(url, allow_private=False)


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Names and the addresses that they resolve to; of the others, as usual."""
    names: dict[str, str] = {}
    usual = socket.getaddrinfo

    def resolve(host: str, *arguments: object, **more: object) -> object:
        return usual(names.get(host, host), *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return names


@pytest.mark.parametrize(
    "host",
    ["localhost", "inside.example", "127.1", "2130706433", "0x7f000001", "0", "[::ffff:127.0.0.1]"],
)
async def test_no_form_of_a_private_address_is_connected(
    host: str, resolved: dict[str, str]
) -> None:
    resolved["inside.example"] = "127.0.0.1"
    reached = []

    async def handle(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handle)
    async with TestServer(app, host="127.0.0.1") as server:
        error = await error_of(f"https://{host}:{server.port}/", allow_private=False)
        assert error is not None
        assert reached == []


async def test_a_private_address_is_connected_where_that_is_allowed(
    resolved: dict[str, str],
) -> None:
    resolved["inside.example"] = "127.0.0.1"

    async def handle(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handle)
    async with TestServer(app, host="127.0.0.1") as server:
        url = f"http://inside.example:{server.port}/"
        assert await error_of(url, allow_private=True) is None
        # Allowed when it was added, and not any more.
        refused = await error_of(url, allow_private=False)
    hint = "(http:// with BILLING_WEBHOOKS_ALLOW_PRIVATE=true)"
    assert refused == f"the address is not https://host/... {hint}"


async def error_of(url: str, *, allow_private: bool) -> str | None:
    """What becomes of one request."""
    endpoint = Endpoint(
        id="e", url=url, event_types=None, secret=new_secret(), begins_at=datetime.now(UTC)
    )
    sender = Sender(timedelta(seconds=5), allow_private=allow_private)
    try:
        sent = await sender.send(endpoint, Queue("e", "m"), Due(1, "id", "type", b"{}", 0))
    finally:
        await sender.close()
    return sent.error
