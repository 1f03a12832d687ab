"""How a command of a client or an operator is carried out, in the lane of its merchant.

A purchase is opened in three steps: reserve, ask the platform, attach. The platform is asked
between two commits, never inside a lane; by the owner's worker only, and once at a time per
purchase, however many copies of a request wait.
"""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AttachCharge,
    ExtendTrial,
    FailPurchase,
    ReservePurchase,
    SetShop,
    StartTrial,
)
from billing_stream.domain.model import Platform, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import (
    Done,
    ErrorCode,
    PurchaseOpened,
    Rejected,
    Reply,
    TimedReply,
    TrialAsked,
)
from billing_stream.domain.policy import Pack
from billing_stream.errors import PlatformError, TemporaryFailure
from billing_stream.platforms import base
from billing_stream.records.invalid_fields import readable
from billing_stream.web.envelope import ApiError, Given, Ids, WebCode, not_ready, outcome_unknown
from billing_stream.web.owners import PartitionRouter, ReadPacks, ReadPurchase
from billing_stream.web.peers import Peers
from billing_stream.web.shop_trials import answer_of_owner

logger = logging.getLogger(__name__)

COMMANDS_PATH = "/internal/commands"
REASON_MAX = 255
# Origins in the journal.
CLIENTS = "http"
OPERATORS = "operator:"
OperatorsCommand = AdjustCredits | ExtendTrial | SetShop | AdvanceClock
Granted = TypeVar("Granted", bound=Reply)


class CommandRequest(Struct, frozen=True):
    """What a client or an operator asks for; `shop_domain` is that of a client's token.

    `origin` is for the journal.
    """

    command: StartTrial | ReservePurchase | OperatorsCommand
    shop_domain: str
    correlation_id: str
    origin: str = CLIENTS

    @property
    def operator(self) -> str | None:
        """Who asks for it, if it is an operator."""
        return self.origin.removeprefix(OPERATORS) if self.origin.startswith(OPERATORS) else None

    @property
    def is_operators(self) -> bool:
        """Whether operators give such a command, and not clients."""
        return isinstance(self.command, OperatorsCommand)


_asked = msgspec.json.Decoder(CommandRequest)
_answered = msgspec.json.Decoder(TimedReply)


def parse_asked(body: bytes) -> CommandRequest:
    """What a client asks for, as another worker sent it. Raises msgspec.DecodeError."""
    return _asked.decode(body)


class Checkouts:
    """Opens checkouts of purchases of merchants that this worker owns."""

    def __init__(
        self,
        owners: PartitionRouter,
        platforms: Mapping[Platform, base.Platform],
        packs: Mapping[str, Pack],
    ) -> None:
        self._owners = owners
        self._platforms = platforms
        self._packs = packs
        self._opening: dict[str, asyncio.Task[Reply]] = {}

    async def open(
        self, command: ReservePurchase, shop_domain: str, correlation_id: str
    ) -> TimedReply:
        """The answer to the one who opens the purchase: with a checkout, or a refusal.

        It is made from the committed rows, so every copy of the request and every repetition
        gets the same. A temporary failure of the platform is never the answer to a key: then a
        repetition asks the platform again. Raises ApiError: NOT_READY when nothing was done,
        OUTCOME_UNKNOWN when the purchase was opened and what became of it is not known.
        """
        commit = partial(self._owners.commit_locally, correlation_id=correlation_id)
        answered = await commit(command)
        try:
            opened = waiting(answered)
            if opened is not None:
                # Stored it may be, but nobody was told of it before.
                replayed = opened.purchase_id in self._opening
                reply = await self._opened_by_someone(command, opened, shop_domain, correlation_id)
                answered = TimedReply(reply, answered.at)
                if waiting(answered) is not None or not isinstance(reply, PurchaseOpened):
                    # The rows say what became of it.
                    answered = await commit(command)
                answered = replace(answered, replayed=replayed)
        except TemporaryFailure as error:
            # Not of the rows, and so not the answer to the key.
            why = f"no checkout was opened: {error}. A repetition with the same key tries again"
            return TimedReply(Rejected(ErrorCode.PLATFORM_ERROR, why), datetime.now(UTC))
        except ApiError as error:
            if error.error_code is not WebCode.NOT_READY:
                raise
            raise outcome_unknown("the partition moved during the request") from None
        if waiting(answered) is not None:
            raise outcome_unknown("the platform's answer was not kept")
        return answered

    async def settle(self, seconds: float) -> None:
        """Wait, for up to `seconds`, until checkouts asked of platforms are attached or failed."""
        if self._opening:
            await asyncio.wait(self._opening.values(), timeout=seconds)

    async def close(self) -> None:
        """Wait for what was asked of the platforms; each ends by itself in seconds."""
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        await asyncio.gather(*(platform.close() for platform in self._platforms.values()))

    async def _opened_by_someone(
        self,
        command: ReservePurchase,
        opened: PurchaseOpened,
        shop_domain: str,
        correlation_id: str,
    ) -> Reply:
        """The reply to the one attempt to open the checkout; begins it where none runs."""
        task = self._opening.get(opened.purchase_id)
        if task is None:
            task = asyncio.create_task(
                self._open(command, opened, shop_domain, correlation_id),
                name=f"checkout-{opened.purchase_id}",
            )
            self._opening[opened.purchase_id] = task
            task.add_done_callback(partial(self._opened, opened.purchase_id))
        # Whoever waits may give up; the platform was asked, and its answer must be kept.
        return await asyncio.shield(task)

    async def _open(
        self,
        command: ReservePurchase,
        opened: PurchaseOpened,
        shop_domain: str,
        correlation_id: str,
    ) -> Reply:
        commit = partial(self._owners.commit_locally, correlation_id=correlation_id)
        merchant_id, purchase_id = command.merchant_id, opened.purchase_id
        purchase = self._purchase(merchant_id, purchase_id)
        wanted = base.CheckoutRequest(
            merchant_id=merchant_id,
            purchase_id=purchase_id,
            shop_domain=shop_domain,
            title=self._title_of(command.pack, purchase),
            credits=purchase.credits,
            amount=purchase.amount,
            currency=purchase.currency,
            return_url=command.return_url,
            cancel_url=command.cancel_url or command.return_url,
            created_at=purchase.created_at,
            expires_at=purchase.expires_at,
        )
        try:
            if purchase.status is not PurchaseStatus.PENDING:
                raise PlatformError(f"the purchase is {purchase.status} already")
            platform = self._platforms.get(command.platform)
            if platform is None:
                raise PlatformError(f"{command.platform} is not set up at this worker")
            checkout = await platform.create_checkout(wanted)
            attach = AttachCharge(
                merchant_id,
                purchase_id,
                checkout.charge_id,
                checkout.url,
                f"attach/{purchase_id}",
                checkout.test,
            )
            require_valid(attach)
        except TemporaryFailure as error:
            if command.idempotency_key is not None:
                # The purchase waits for a repetition, until it expires.
                raise
            reason = str(error)
        except PlatformError as error:
            reason = str(error)
        else:
            attached = (await commit(attach)).reply
            if not isinstance(attached, Rejected):
                # One that expired during the call has no checkout, and the rows say so.
                expired = self._purchase(merchant_id, purchase_id).no_checkout is not None
                return Done() if expired else attached
            # Another purchase has this charge; or this one has another charge by now, and
            # then it stays as it is.
            reason = attached.message
        logger.warning("purchase %s got no checkout: %s", purchase_id, reason)
        failed = FailPurchase(merchant_id, purchase_id, reason[:REASON_MAX], f"fail/{purchase_id}")
        return (await commit(failed)).reply

    def _purchase(self, merchant_id: str, purchase_id: str) -> Purchase:
        found = self._owners.read_locally(ReadPurchase(merchant_id, purchase_id)).purchase
        if found is None:
            raise not_ready(f"purchase {purchase_id} is not on this worker")
        return found

    def _title_of(self, name: str, opened: Purchase) -> str:
        query = ReadPacks(opened.merchant_id, opened.created_at)
        packs = self._owners.read_locally(query).packs
        pack = (self._packs if packs is None else packs).get(name)
        # The purchase keeps its credits, and the pack may have others by now.
        if pack is None or pack.credits != opened.credits:
            return f"{opened.credits} credits"
        return pack.shown_title

    def _opened(self, purchase_id: str, task: asyncio.Task[Reply]) -> None:
        del self._opening[purchase_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.warning("purchase %s has no checkout yet: %s", purchase_id, error)


class ShopConcurrencyLimit:
    """Limits the commands of one shop at once: a shop alone must not fill a worker."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_work: Counter[str] = Counter()

    @contextmanager
    def enter(self, domain: str) -> Iterator[None]:
        """Be in flight. Raises ApiError (TOO_MANY_REQUESTS)."""
        if self._in_work[domain] >= self._most:
            raise ApiError(
                ErrorCode.TOO_MANY_REQUESTS,
                "too many requests of this shop are in flight",
                retry_after=1,
            )
        self._in_work[domain] += 1
        try:
            yield
        finally:
            self._in_work[domain] -= 1
            if not self._in_work[domain]:
                del self._in_work[domain]


class Commands:
    """Carries out what clients ask for."""

    def __init__(
        self,
        owners: PartitionRouter,
        peers: Peers,
        checkouts: Checkouts,
        in_flight: ShopConcurrencyLimit,
        deadline: timedelta,
    ) -> None:
        self._owners = owners
        self._peers = peers
        self._checkouts = checkouts
        self._in_flight = in_flight
        self._seconds = deadline.total_seconds()

    async def carry_out(
        self, asked: CommandRequest, ids: Ids, kind: type[Granted]
    ) -> tuple[Granted, Given]:
        """The reply, when what it says is committed, and what it is the first of.

        Raises ApiError: for a refusal; NOT_READY when nothing was done; OUTCOME_UNKNOWN when
        something may have been, or may be still. A reply not of this `kind` is a TypeError.
        """
        # What operators ask for has no shop.
        limit = self._in_flight.enter(asked.shop_domain) if asked.shop_domain else nullcontext()
        with limit:
            answered = await self._carried_out(asked, ids)
        given = Given(answered.at, answered.replayed)
        if isinstance(answered.reply, Rejected):
            raise ApiError(answered.reply.code, answered.reply.message, given=given)
        if not isinstance(answered.reply, kind):
            found = type(answered.reply).__name__
            raise TypeError(f"the reply is a {found}, not a {kind.__name__}")
        return answered.reply, given

    async def _carried_out(self, asked: CommandRequest, ids: Ids) -> TimedReply:
        partition = self._owners.partition_of(asked.command.merchant_id)
        if self._owners.lane_here(partition) is not None:
            return await self.carry_out_here(asked)
        body = await self._peers.ask(
            "POST",
            partition,
            COMMANDS_PATH,
            ids,
            self._seconds,
            body=msgspec.json.encode(asked),
            operator=asked.operator,
        )
        try:
            return _answered.decode(body)
        except msgspec.DecodeError as error:
            self._peers.not_understood(partition, error)
            raise outcome_unknown("the answer is not understood") from None

    async def carry_out_here(self, asked: CommandRequest) -> TimedReply:
        """The reply of the worker that owns the merchant. Raises ApiError as `carry_out` does."""
        command = asked.command
        if isinstance(command, ReservePurchase):
            return await self._checkouts.open(command, asked.shop_domain, asked.correlation_id)
        commit = partial(
            self._owners.commit_locally, correlation_id=asked.correlation_id, origin=asked.origin
        )
        answered = await commit(command)
        if isinstance(command, StartTrial) and isinstance(answered.reply, TrialAsked):
            return await answer_of_owner(self._owners, command, commit)
        return answered


def waiting(answered: TimedReply) -> PurchaseOpened | None:
    """The purchase just opened, while it has neither a checkout nor a refusal."""
    reply = answered.reply
    return reply if isinstance(reply, PurchaseOpened) and reply.checkout_url is None else None


def require_valid(command: AttachCharge) -> None:
    """Raises PlatformError when a platform's answer does not fit our records."""
    if "\0" in command.charge_id + command.checkout_url:
        raise PlatformError("the platform's answer contains a NUL character")
    try:
        msgspec.convert(msgspec.to_builtins(command), type(command))
    except msgspec.ValidationError as error:
        raise PlatformError(f"the platform's answer does not fit: {readable(str(error))}") from None


def new_command_id() -> str:
    """An id of our own making: what a client chooses must never name a purchase."""
    return f"http/{uuid.uuid4()}"
