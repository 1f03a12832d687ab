"""The part of a step about installations: who has a shop, and who has left."""

from typing import NamedTuple

from billing_stream.audit.verify.model_state import FORGOTTEN, RULES, Rules, State
from billing_stream.audit.verify.shop_names import INVALID_SHOP, shop_of
from billing_stream.audit.verify.verify_inputs import ParsedCommand
from billing_stream.audit.verify.verify_payments import Payments

# How far ahead of a record the installation may be that it tells of: a day, in microseconds.
AHEAD_MAX = 86_400_000_000


class Claim(NamedTuple):
    """A shop that a merchant claims; `again`: it has it, and adds its id or time.

    `uninstalled`: others may claim it.
    """

    name: str
    shop_id: str | None = None
    installed: int | None = None
    again: bool = False
    uninstalled: bool = False


class Installations(Payments):
    """Rules of installations. See `verify_model.Step`."""

    __slots__ = ()

    _rules: Rules
    shops: list[Claim]
    superseded: bool

    def create(self, parsed: ParsedCommand) -> None:
        """An installation: the merchant and its shop, or a change of it."""
        me, shop = self.state, self.named_shop(parsed)
        if shop is None:
            if me.created is None:
                me.created, self.changed = self.now, True
            return
        shop_id, installed = (
            (parsed.shop_id, parsed.installed) if parsed.rules > 1 else (None, None)
        )
        if installed is not None and installed > self.now + AHEAD_MAX:
            # A clock is wrong.
            installed = None
        known, new = me.installed, ":".join(shop)
        erased = me.forgotten if known is None else known
        is_newer = installed is not None and known is not None and installed > known
        if installed is not None:
            late = known is not None and installed < known
            if late or (me.forgotten is not None and erased is not None and installed <= erased):
                self.superseded = True
                return
        is_same = me.created is not None and (me.platform, me.domain) == shop
        kept = me.shop_id if is_same else None
        installation = (shop_id or kept, known if installed is None else installed)
        gone = me.uninstalled
        returns = gone is not None and (installed is None or installed > gone)
        if is_same and installation == (me.shop_id, known) and not returns:
            return
        if returns or not is_same:
            me.uninstalled = None
        me.forgotten, me.created = None, self.now if me.created is None else me.created
        self._take_shop(shop)
        me.shop_id, me.installed = installation
        again = is_same and not is_newer and not returns
        stays_gone = me.uninstalled is not None
        self.shops.append(Claim(new, shop_id, installed, again, stays_gone))
        self.changed = True

    def set_shop(self, parsed: ParsedCommand) -> None:
        """Claim it, also where it is the present one: another merchant may have it."""
        shop = self.named_shop(parsed)
        if shop is not None:
            self._take_shop(shop)
            self.state.uninstalled = None
            self.shops.append(Claim(":".join(shop)))

    def _take_shop(self, shop: tuple[str, str]) -> None:
        me = self.state
        if (me.platform, me.domain) != shop:
            former = [name for name in self._shops() if name != ":".join(shop)]
            # Of very many, the oldest go.
            me.former = tuple(former[max(0, len(former) - self._rules.former_max) :])
            me.shop_id = None
        me.platform, me.domain = shop
        self.changed = True

    def named_shop(self, parsed: ParsedCommand) -> tuple[str, str] | None:
        """The shop that it names; None where it names none, which its dead letter says."""
        if parsed.rules != RULES:
            return parsed.platform.lower(), parsed.text.lower()
        shop = shop_of(parsed.platform, parsed.text)
        if shop is None:
            self.refusal = INVALID_SHOP
        return shop

    def _shops(self) -> list[str]:
        me = self.state
        current = [f"{me.platform}:{me.domain}"] if me.domain else []
        return list(dict.fromkeys([*me.former, *current]))

    def uninstall(self, parsed: ParsedCommand) -> None:
        """Open purchases expire, once per installation."""
        me = self.state
        self.superseded = is_about_another(self.state, parsed)
        if self.superseded or me.uninstalled is not None:
            return
        for _, purchase in me.pending:
            self.expire(purchase, "uninstalled")
        current = f"{me.platform}:{me.domain}"
        for shop in self._shops():
            said = (me.shop_id, me.installed) if shop == current else (None, None)
            self.shops.append(Claim(shop, *said, uninstalled=True))
        at = self.now if parsed.at is None else min(parsed.at, self.now)
        me.uninstalled = at if me.installed is None else max(at, me.installed)
        self.publish("merchant.uninstalled", "")

    def forget(self, parsed: ParsedCommand) -> None:
        """Domain, shops, checkout pages and answers go; the money trail stays."""
        me = self.state
        if me.forgotten is not None:
            return
        if parsed.text and parsed.text in me.former:
            me.former = tuple(shop for shop in me.former if shop != parsed.text)
            self.changed = True
            return
        self.superseded = is_about_another(self.state, parsed)
        if self.superseded:
            return
        me.domain, me.former, me.keys, me.forgotten = "", (), {}, self.now
        me.shop_id = None
        for purchase, bought in me.purchases.items():
            bare = bought._replace(url=None, no_checkout=bought.no_checkout and FORGOTTEN)
            if bare != bought:
                self.put(purchase, bare)
        self.publish("merchant.forgotten", "")

    def expire(self, purchase: str, reason: str) -> None:
        bought = self.state.purchases[purchase]
        why = "expired" if bought.url is None else bought.no_checkout
        self.put(purchase, bought._replace(status="expired", no_checkout=why))
        self.publish("purchase.expired", purchase, more=reason)


def is_about_another(me: State, parsed: ParsedCommand) -> bool:
    """Another shop than the present one, or an installation before it."""
    if parsed.text and parsed.text != (f"{me.platform}:{me.domain}" if me.domain else ""):
        return True
    installed = me.created if me.installed is None else me.installed
    return parsed.at is not None and installed is not None and installed > parsed.at
