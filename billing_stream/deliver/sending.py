"""One request of an outgoing webhook: signed, bounded, to a public address, without redirects."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
from standardwebhooks import Webhook

from billing_stream import __version__
from billing_stream.deliver.addresses import checked_url, socket_factory
from billing_stream.deliver.delivery_rounds import Due, Queue, Sent
from billing_stream.deliver.endpoints import Endpoint
from billing_stream.errors import BillingError

BACKOFF_SECONDS_MIN = 5.0
BACKOFF_SECONDS_MAX = 3600.0
RETRY_AFTER_SECONDS_MAX = 3600.0
RESPONSE_BYTES_MAX = 65_536
CONNECT_SECONDS_MAX = 5.0
DNS_SECONDS = 10
USER_AGENT = f"billing-stream/{__version__}"


class Sender:
    """Sends events to endpoints; close it at the end."""

    def __init__(self, timeout: timedelta, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        total = timeout.total_seconds()
        # How many there are at once is limited by the dispatcher, for each endpoint.
        connector = aiohttp.TCPConnector(
            limit=0,
            ttl_dns_cache=DNS_SECONDS,
            socket_factory=socket_factory(allow_private=allow_private),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=total, connect=min(CONNECT_SECONDS_MAX, total)),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def send(self, endpoint: Endpoint, queue: Queue, event: Due) -> Sent:
        """Send it once. Raises nothing that a receiver, or the network, can cause."""
        try:
            url = checked_url(endpoint.url, allow_private=self._allow_private)
            async with self._session.post(
                url,
                data=event.body,
                headers=signed_headers(endpoint.secrets, event, datetime.now(UTC)),
                allow_redirects=False,
            ) as response:
                # Read, so that the connection can be used again; what it says is not of interest.
                await response.content.read(RESPONSE_BYTES_MAX)
                if 200 <= response.status < 300:
                    return Sent(queue=queue, event=event)
                return _failed(
                    queue,
                    event,
                    f"it answered {response.status}",
                    gone=response.status == HTTPStatus.GONE,
                    wait=retry_after(response.headers.get("Retry-After"), datetime.now(UTC)),
                )
        except TimeoutError:
            return _failed(queue, event, "no complete response in time")
        except aiohttp.ClientResponseError:
            # The text of the error has the whole URL, which may be secret.
            return _failed(queue, event, "its response is not HTTP")
        except (aiohttp.ClientError, OSError, ValueError, BillingError) as error:
            return _failed(queue, event, str(error) or type(error).__name__)


def signed_headers(secrets: tuple[str, ...], event: Due, now: datetime) -> dict[str, str]:
    """The headers of a request, with one signature for each secret."""
    body = event.body.decode()
    signatures = [Webhook(secret).sign(event.event_id, now, body) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": event.event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _failed(queue: Queue, event: Due, error: str, *, gone: bool = False, wait: float = 0.0) -> Sent:
    delay = timedelta(seconds=max(wait, backoff(event.attempts, random.random())))
    return Sent(queue=queue, event=event, error=error, gone=gone, delay=delay, wait=wait)


def backoff(attempts: int, chance: float) -> float:
    """Seconds until the next try, when `attempts` before this one failed; `chance` is 0 to 1.

    >>> [backoff(n, 1.0) for n in (0, 1, 2, 9, 20)]
    [5.0, 10.0, 20.0, 2560.0, 3600.0]
    >>> backoff(0, 0.0)
    2.5
    """
    longest = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN * 2.0 ** min(attempts, 20))
    return longest * (1 + chance) / 2


def retry_after(value: str | None, now: datetime) -> float:
    """Seconds that a response asks to wait, bounded; 0 when it does not, or not in a known form.

    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> [retry_after(text, now) for text in ("30", "Thu, 01 Jan 2026 00:01:00 GMT", "soon", None)]
    [30.0, 60.0, 0.0, 0.0]
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), RETRY_AFTER_SECONDS_MAX)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), RETRY_AFTER_SECONDS_MAX)
