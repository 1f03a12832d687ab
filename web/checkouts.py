"""From a reserved purchase to a page on which it can be paid: reserve, ask the platform, attach.

The platform is asked between two commits, never inside a lane. Only the owner's worker asks,
and once at a time per purchase, however many copies of a request wait.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

import msgspec

from billing_stream.domain.commands import AttachCharge, Command, FailPurchase, ReservePurchase
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import Answered, PurchaseOpened, Rejected
from billing_stream.errors import PlatformError
from billing_stream.platforms import base
from web.owners import Owners

logger = logging.getLogger(__name__)

REASON_MAX = 255


class Checkouts:
    """Opens checkouts of purchases whose merchants are owned here."""

    def __init__(
        self, owners: Owners, platforms: Mapping[Platform, base.Platform], currency: str
    ) -> None:
        self._owners = owners
        self._platforms = platforms
        self._currency = currency
        self._opening: dict[str, asyncio.Task[None]] = {}

    def offers(self, platform: Platform) -> bool:
        """Whether purchases can be paid there."""
        return platform in self._platforms

    async def open(
        self, command: ReservePurchase, shop_domain: str, correlation_id: str
    ) -> Answered:
        """The answer to the one who opens the purchase: with a checkout, or a refusal.

        What it says is read from the committed rows, so every copy of the request and every
        repetition is told the same. Raises ApiError (NOT_READY).
        """
        commit = partial(self._owners.commit_here, correlation_id=correlation_id)
        answered = await commit(command)
        reply = answered.reply
        while isinstance(reply, PurchaseOpened) and reply.checkout_url is None:
            task = self._opening.get(reply.purchase_id)
            if task is None:
                task = asyncio.create_task(
                    self._open(command, reply, shop_domain, correlation_id),
                    name=f"checkout-{reply.purchase_id}",
                )
                self._opening[reply.purchase_id] = task
                task.add_done_callback(partial(self._opened, reply.purchase_id))
            # Whoever waits may give up; the platform was asked, and its answer must be kept.
            await asyncio.shield(task)
            answered = await commit(command)
            reply = answered.reply
        return answered

    async def close(self) -> None:
        """Wait for what was asked of the platforms; each ends by itself in seconds."""
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        await asyncio.gather(*(platform.close() for platform in self._platforms.values()))

    async def _open(
        self,
        command: ReservePurchase,
        opened: PurchaseOpened,
        shop_domain: str,
        correlation_id: str,
    ) -> None:
        commit = partial(self._owners.commit_here, correlation_id=correlation_id)
        merchant_id, purchase_id = command.merchant_id, opened.purchase_id
        wanted = base.CheckoutRequest(
            merchant_id=merchant_id,
            purchase_id=purchase_id,
            shop_domain=shop_domain,
            title=f"{opened.credits} credits",
            credits=opened.credits,
            amount=opened.amount,
            currency=self._currency,
            return_url=command.return_url,
        )
        try:
            checkout = await self._platforms[command.platform].create_checkout(wanted)
            attach = AttachCharge(
                merchant_id, purchase_id, checkout.charge_id, checkout.url, f"attach/{purchase_id}"
            )
            require_valid(attach)
        except PlatformError as error:
            reason = str(error)
        else:
            attached = (await commit(attach)).reply
            if not isinstance(attached, Rejected):
                return
            # Another purchase has this charge; or this one has another charge by now, and
            # then it stays as it is.
            reason = attached.message
        logger.warning("purchase %s got no checkout: %s", purchase_id, reason)
        await commit(
            FailPurchase(merchant_id, purchase_id, reason[:REASON_MAX], f"fail/{purchase_id}")
        )

    def _opened(self, purchase_id: str, task: asyncio.Task[None]) -> None:
        del self._opening[purchase_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.warning("purchase %s has no checkout yet: %s", purchase_id, error)


def require_valid(command: Command) -> None:
    """Raises PlatformError when a platform's answer does not fit our records."""
    try:
        msgspec.convert(msgspec.to_builtins(command), type(command))
    except msgspec.ValidationError as error:
        raise PlatformError(f"the platform's answer does not fit: {error}") from None
