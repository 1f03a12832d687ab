"""Where a key's rows are: here, or on which other worker. Asks there, one hop at most."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from time import monotonic
from typing import TypeVar, cast

import aiohttp
import faust
import msgspec
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types.assignor import HostToPartitionMap
from yarl import URL

from billing_stream.domain.outcomes import ErrorCode
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partitioner import partition_of
from billing_stream.processor import BillingProcessor
from tables.rows import PartitionRows
from web.auth import internal_headers
from web.envelope import CORRELATION_ID, REQUEST_ID, ApiError, Ids, not_ready
from web.queries import FindShop, Query

logger = logging.getLogger(__name__)

QUERIES_PATH = "/internal/queries"
FORWARD_SECONDS = 2.0
CONNECT_SECONDS = 0.5
CONNECTIONS_MAX = 256
SHOPS_CACHED_MAX = 10_000
SHOP_SECONDS = 30.0

Found = TypeVar("Found")


class ShopCache:
    """Whose a shop is, as other workers said lately. What was not found is not kept."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, shop: str) -> str | None:
        """The merchant id, unless it was learned too long ago."""
        until, merchant_id = self._kept.get(shop, (0.0, ""))
        return merchant_id if self._clock() < until else None

    def put(self, shop: str, merchant_id: str | None) -> None:
        """Keep it for a while; the oldest goes when there are too many."""
        self._kept.pop(shop, None)
        if merchant_id is None:
            return
        self._kept[shop] = (self._clock() + SHOP_SECONDS, merchant_id)
        if len(self._kept) > SHOPS_CACHED_MAX:
            self._kept.popitem(last=False)


class Owners:
    """Answers queries from the rows of this worker, or from those of the key's owner."""

    def __init__(
        self,
        app: faust.App,
        lanes: Lanes,
        *,
        changelog: str,
        partitions: int,
        internal_secret: str,
    ) -> None:
        self._app = app
        self._lanes = lanes
        self._changelog = changelog
        self._partitions = partitions
        self._secret = internal_secret
        self._cache = ShopCache()
        self._session: aiohttp.ClientSession | None = None
        self._assignment: HostToPartitionMap | None = None
        self._urls: Mapping[int, str] = {}
        self._noted: set[str] = set()

    async def merchant_of(self, shop: str, ids: Ids) -> str:
        """The merchant whose shop it is.

        Raises ApiError: MERCHANT_NOT_FOUND, or NOT_READY as `read` does.
        """
        query = FindShop(shop)
        partition = partition_of(query.key, self._partitions)
        rows = self._rows_here(partition)
        if rows is not None:
            merchant_id = query.read(rows).merchant_id
        else:
            merchant_id = self._cache.get(shop)
            if merchant_id is None:
                merchant_id = (await self._forward(partition, query, ids)).merchant_id
                self._cache.put(shop, merchant_id)
        if merchant_id is None:
            raise ApiError(ErrorCode.MERCHANT_NOT_FOUND, "this shop has no billing record")
        return merchant_id

    async def read(self, query: Query[Found], ids: Ids) -> Found:
        """The answer of whichever worker owns the key.

        Raises ApiError (NOT_READY) while nobody is known to own it, or the owner does not
        answer: not found is only ever said by an owner.
        """
        partition = partition_of(query.key, self._partitions)
        rows = self._rows_here(partition)
        if rows is not None:
            return query.read(rows)
        return await self._forward(partition, query, ids)

    def read_here(self, query: Query[Found]) -> Found:
        """The answer, if the key is owned here; else ApiError (NOT_READY)."""
        partition = partition_of(query.key, self._partitions)
        rows = self._rows_here(partition)
        if rows is None:
            raise not_ready(f"partition {partition} is not on this worker")
        return query.read(rows)

    def url_of(self, partition: int) -> str | None:
        """The worker that owns the partition, by the latest assignment that we know."""
        assignment = cast(PartitionAssignor, self._app.assignor).changelog_distribution
        if assignment is not self._assignment:
            self._urls = {
                partition: url
                for url, topics in assignment.items()
                for partition in topics.get(self._changelog, ())
            }
            self._assignment = assignment
            self._noted.clear()
        return self._urls.get(partition)

    def _rows_here(self, partition: int) -> PartitionRows | None:
        lane = self._lanes.get(partition)
        if lane is None or not self._lanes.ready:
            return None
        return cast(BillingProcessor, lane.processor).rows

    async def _forward(self, partition: int, query: Query[Found], ids: Ids) -> Found:
        url = self.url_of(partition)
        if url is None or url == str(self._app.conf.canonical_url):
            raise not_ready(f"partition {partition} is recovering")
        headers = internal_headers(self._secret)
        headers[REQUEST_ID] = ids.request_id
        headers[CORRELATION_ID] = ids.correlation_id
        # A GET, because aiohttp sends it again when a kept connection was closed meanwhile.
        target = (URL(url) / QUERIES_PATH[1:]).with_query(q=msgspec.json.encode(query).decode())
        try:
            async with self._client().get(
                target, headers=headers, allow_redirects=False
            ) as response:
                body = await response.read()
                status = response.status
            if status == HTTPStatus.OK:
                found = query.parse(body)
                self._noted.discard(url)
                return found
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Not the error itself: some show the headers of the request, and so a token.
            self._note(logging.WARNING, url, f"does not answer: {type(error).__name__}")
            raise not_ready(f"the owner of partition {partition} does not answer") from None
        except msgspec.DecodeError as error:
            self._note(logging.ERROR, url, f"is not understood: {error}")
            raise not_ready(f"the owner of partition {partition} is not understood") from None
        if status != HTTPStatus.SERVICE_UNAVAILABLE:
            self._note(logging.ERROR, url, f"refuses a worker of ours with {status}")
        raise not_ready(f"the owner of partition {partition} is not ready")

    def _note(self, level: int, url: str, why: str) -> None:
        """Log what is wrong with a worker: once, until it answers or partitions move."""
        if url not in self._noted:
            self._noted.add(url)
            logger.log(level, "the worker at %s %s", url, why)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(FORWARD_SECONDS, connect=CONNECT_SECONDS),
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Close the connections to other workers."""
        if self._session is not None:
            await self._session.close()
            self._session = None
