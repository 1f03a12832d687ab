"""What the owner of a key is asked, and who that is: this worker, or another one.

A query is answered from the committed rows where it is asked, or sent to the worker that owns the
key: both ways run the same `read`. A command is committed by the owner alone.
"""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import ClassVar, Protocol, TypeVar, cast

import msgspec
from msgspec import Struct

from billing_stream.domain.commands import Command
from billing_stream.domain.model import Instant, Merchant, Purchase
from billing_stream.domain.outcomes import ErrorCode, TimedReply
from billing_stream.domain.policy import Pack
from billing_stream.domain.purchases import in_force
from billing_stream.engine.lane import NotReady, OutcomeUnknown
from billing_stream.engine.partition_processor import Request, RequestFailed
from billing_stream.engine.partitioner import partition_of
from billing_stream.observability.tracing.spans import Tracing
from billing_stream.processor import BillingLane, BillingLanes
from billing_stream.tables.early_webhooks import EarlyWebhooks
from billing_stream.tables.rows import PartitionRows
from billing_stream.web.envelope import ApiError, Ids, WebCode, not_ready, outcome_unknown
from billing_stream.web.peers import Peers

QUERIES_PATH = "/internal/queries"
FORWARD_SECONDS = 2.0
SHOPS_CACHED_MAX = 10_000
SHOP_SECONDS = 30.0

Row = TypeVar("Row")
Found_co = TypeVar("Found_co", covariant=True)


class Query(Protocol[Found_co]):
    """A question that one partition can answer."""

    @property
    def key(self) -> str:
        """The key of the partition that knows."""

    @property
    def found(self) -> type[Found_co]:
        """What the answer is."""

    def read(self, rows: PartitionRows) -> Found_co:
        """The answer, from committed rows."""


class ShopFound(Struct, frozen=True):
    """The merchant of the shop; None when it is unknown."""

    merchant_id: str | None


class MerchantFound(Struct, frozen=True):
    """A merchant and some of its purchases, newest first; `total` counts all of them.

    `merchant` is missing without a billing record, and then there is nothing else. `skipped` is how
    many newer purchases there are, None where `after` is not one of the merchant's. `early` are its
    webhooks that wait for their charge.
    """

    merchant: Merchant | None
    purchases: tuple[Purchase, ...] = ()
    total: int = 0
    skipped: int | None = None
    early: EarlyWebhooks = EarlyWebhooks()


class PurchaseFound(Struct, frozen=True):
    """One purchase of a merchant, or None; `merchant` as in `MerchantFound`."""

    merchant: Merchant | None
    purchase: Purchase | None = None


class PacksFound(Struct, frozen=True):
    """The packs on sale by the version in force; None: those of the settings."""

    packs: dict[str, Pack] | None


class FindShop(Struct, frozen=True, tag="find_shop", tag_field="query"):
    """The merchant of the shop `platform:domain`."""

    shop: str
    found: ClassVar = ShopFound

    @property
    def key(self) -> str:
        """A shop lies on the partition of its own key, not of its merchant's."""
        return self.shop

    def read(self, rows: PartitionRows) -> ShopFound:
        """From committed rows."""
        shop = rows.shops.get(self.shop)
        return ShopFound(None if shop is None else shop.merchant_id)


class ChargeFound(Struct, frozen=True):
    """The merchant of the purchase that has the charge; None: no purchase has registered it."""

    merchant_id: str | None


class FindCharge(Struct, frozen=True, tag="find_charge", tag_field="query"):
    """Which merchant has the charge `platform:charge_id`?"""

    charge: str
    found: ClassVar = ChargeFound

    @property
    def key(self) -> str:
        """A charge lies on the partition of its own key, not of its merchant's."""
        return self.charge

    def read(self, rows: PartitionRows) -> ChargeFound:
        """From committed rows."""
        return ChargeFound(rows.charge(self.charge).merchant_id)


class ShopTrialFound(Struct, frozen=True):
    """The merchant that has the trial of a shop; None: none has claimed it."""

    merchant_id: str | None


class FindShopTrial(Struct, frozen=True, tag="find_shop_trial", tag_field="query"):
    """Which merchant has the trial of a shop, by `shop_trial_key`?"""

    shop: str
    found: ClassVar = ShopTrialFound

    @property
    def key(self) -> str:
        """The trial of a shop lies on the partition of its own key."""
        return self.shop

    def read(self, rows: PartitionRows) -> ShopTrialFound:
        """From committed rows."""
        return ShopTrialFound(rows.trials.get(self.shop))


class ReadMerchant(Struct, frozen=True, tag="read_merchant", tag_field="query"):
    """A merchant, and `take` of its purchases: after the newest `skip`, or the one `after`."""

    merchant_id: str
    skip: int = 0
    take: int = 0
    after: str | None = None
    found: ClassVar = MerchantFound

    @property
    def key(self) -> str:
        """A merchant's rows lie together."""
        return self.merchant_id

    def read(self, rows: PartitionRows) -> MerchantFound:
        """From committed rows."""
        merchant = _with_billing(rows, self.merchant_id)
        if merchant is None or not self.take:
            return MerchantFound(merchant)
        purchases = rows.purchases_of(self.merchant_id)
        skip: int | None = self.skip
        if self.after is not None:
            ids = (number for number, one in enumerate(purchases, 1) if one.id == self.after)
            skip = next(ids, None)
        if skip is None:
            return MerchantFound(merchant, (), len(purchases))
        page = tuple(purchases[skip : skip + self.take])
        waiting = rows.early.get(self.merchant_id)
        early = EarlyWebhooks.of([waiting] if waiting else [])
        return MerchantFound(merchant, page, len(purchases), skip, early)


class ReadPurchase(Struct, frozen=True, tag="read_purchase", tag_field="query"):
    """One purchase of this merchant; another merchant's is not found."""

    merchant_id: str
    purchase_id: str
    found: ClassVar = PurchaseFound

    @property
    def key(self) -> str:
        """Purchases lie with their merchant."""
        return self.merchant_id

    def read(self, rows: PartitionRows) -> PurchaseFound:
        """From committed rows."""
        purchase = rows.purchase(self.purchase_id)
        if purchase is not None and purchase.merchant_id != self.merchant_id:
            purchase = None
        return PurchaseFound(_with_billing(rows, self.merchant_id), purchase)


class ReadPacks(Struct, frozen=True, tag="read_packs", tag_field="query"):
    """What packs this merchant can buy, at this moment or its own time, if that is later."""

    merchant_id: str
    at: Instant
    found: ClassVar = PacksFound

    @property
    def key(self) -> str:
        """Each partition decides by the versions that it knows."""
        return self.merchant_id

    def read(self, rows: PartitionRows) -> PacksFound:
        """From committed rows."""
        merchant = rows.merchant(self.merchant_id)
        now = self.at if merchant is None else merchant.time(self.at)
        version = in_force(rows.versions, now)
        return PacksFound(None if version is None else version.packs)


def _with_billing(rows: PartitionRows, merchant_id: str) -> Merchant | None:
    """The merchant; None when only a webhook that came first has named it so far."""
    merchant = rows.merchant(merchant_id)
    if merchant is None or merchant.created_at is None:
        return None
    # Parked webhooks are for the rules, and may be many.
    return msgspec.structs.replace(merchant, parked=()) if merchant.parked else merchant


AnyQuery = FindShop | FindCharge | FindShopTrial | ReadMerchant | ReadPurchase | ReadPacks

_query: msgspec.json.Decoder[AnyQuery] = msgspec.json.Decoder(AnyQuery)


def parse_query(text: str) -> AnyQuery:
    """A query as another worker sent it. Raises msgspec.DecodeError."""
    return _query.decode(text)


class ShopCache:
    """Merchants of shops, as other workers answered lately. Misses are not kept."""

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


class PartitionRouter:
    """Answers queries from the rows of this worker, or from those of the key's owner."""

    def __init__(
        self, lanes: BillingLanes, peers: Peers, *, partitions: int, tracing: Tracing | None = None
    ) -> None:
        self._lanes = lanes
        self._peers = peers
        self._partitions = partitions
        self._tracing = tracing
        self._cache = ShopCache()

    async def merchant_of(self, shop: str, ids: Ids) -> str:
        """The merchant of the shop.

        Raises ApiError: MERCHANT_NOT_FOUND, or NOT_READY as `read` does.
        """
        merchant_id = await self.find_merchant(shop, ids)
        if merchant_id is None:
            raise ApiError(ErrorCode.MERCHANT_NOT_FOUND, "this shop has no billing record")
        return merchant_id

    async def find_merchant(self, shop: str, ids: Ids) -> str | None:
        """The merchant of the shop, or None. Raises ApiError as `read` does."""
        query = FindShop(shop)
        rows = self._rows_here(self.partition_of(query.key))
        if rows is not None:
            return query.read(rows).merchant_id
        merchant_id = self._cache.get(shop)
        if merchant_id is None:
            merchant_id = (await self._forward(query, ids)).merchant_id
            self._cache.put(shop, merchant_id)
        return merchant_id

    async def read(self, query: Query[Row], ids: Ids) -> Row:
        """The answer of whichever worker owns the key.

        Raises ApiError (NOT_READY) without a known owner, or while the owner does not
        answer: only an owner answers not found.
        """
        rows = self._rows_here(self.partition_of(query.key))
        if rows is not None:
            return query.read(rows)
        return await self._forward(query, ids)

    def read_locally(self, query: Query[Row]) -> Row:
        """The answer, if the key is owned here; else ApiError (NOT_READY)."""
        partition = self.partition_of(query.key)
        rows = self._rows_here(partition)
        if rows is None:
            raise not_ready(f"partition {partition} is not on this worker")
        return query.read(rows)

    async def commit_locally(
        self, command: Command, correlation_id: str, origin: str = "http"
    ) -> TimedReply:
        """The answer to a command, when its transaction has committed.

        Raises ApiError: NOT_READY when the merchant is not owned here, or its lane takes no
        commands (nothing was done then); OUTCOME_UNKNOWN when the partition was lost first;
        INTERNAL_ERROR when a rule failed, and nothing was done.
        """
        partition = self.partition_of(command.merchant_id)
        lane = self.lane_here(partition)
        if lane is None:
            raise not_ready(f"partition {partition} is not on this worker")
        request = Request(command, origin, correlation_id)
        try:
            return await self._asked(lane, request)
        except NotReady as error:
            raise not_ready(str(error)) from None
        except OutcomeUnknown as error:
            raise outcome_unknown(str(error)) from None
        except RequestFailed as error:
            raise ApiError(WebCode.INTERNAL_ERROR, str(error)) from None

    async def _asked(self, lane: BillingLane, request: Request) -> TimedReply:
        if self._tracing is None:
            return cast(TimedReply, await lane.ask(request))
        tag = request.command.__struct_config__.tag
        said = {"messaging.destination.partition.id": str(lane.partition)}
        with self._tracing.sending(f"append {tag}", said) as traceparent:
            return cast(TimedReply, await lane.ask(request._replace(traceparent=traceparent)))

    def partition_of(self, key: str) -> int:
        """The partition of a key: a merchant id or a shop."""
        return partition_of(key, self._partitions)

    def lane_here(self, partition: int) -> BillingLane | None:
        """The lane of the partition, when this worker owns it and has recovered it."""
        return self._lanes.get(partition) if self._lanes.ready else None

    def _rows_here(self, partition: int) -> PartitionRows | None:
        lane = self.lane_here(partition)
        return None if lane is None else lane.processor.rows

    async def _forward(self, query: Query[Row], ids: Ids) -> Row:
        partition = self.partition_of(query.key)
        # A GET, because aiohttp sends it again when a kept connection was closed meanwhile.
        body = await self._peers.ask(
            "GET",
            partition,
            QUERIES_PATH,
            ids,
            FORWARD_SECONDS,
            query={"q": msgspec.json.encode(query).decode()},
        )
        try:
            return msgspec.json.decode(body, type=query.found)
        except msgspec.DecodeError as error:
            raise self._peers.not_understood(partition, error) from None
