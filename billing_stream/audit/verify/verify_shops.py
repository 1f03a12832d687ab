"""Shops: the merchant of each, by the topic, the table and the commands.

Written from the contract: an older installation replaces no newer one. Another merchant gets a
shop when the platform's id of it is the same or not known, or its merchant has left; otherwise its
claim is a dead letter.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from billing_stream.audit.verify.facts import History
from billing_stream.audit.verify.shop_claims import Said, ShopRow
from billing_stream.audit.verify.shop_names import shop_of
from billing_stream.audit.verify.verify_inputs import SET_SHOP
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records.record_ref import RecordRef

TAKEN = "SHOP_TAKEN: "
# Of these letters the record did nothing, whatever it says.
_NOTHING = ("SKIPPED: ", "INTERNAL_ERROR: ", "only workers")
_Fault = tuple[str, RecordRef | None, str | None]


def check_shops(history: History, report: Report) -> None:
    """The shops' table is what claims led to; each claim was asked for, and has its outcome."""
    if history.allow_lag or history.only or history.incomplete:
        return
    _check_asked(history, report)
    facts = history.shops
    rows, unknown = {}, set()
    for name in facts.said.keys() | {name for name in facts.rows if ":" in name}:
        report.count("shops")
        claims = _in_order(history, facts.said.get(name, ()))
        row, faults = _decided(claims, history.letters)
        for what, ref, merchant in faults:
            report.fault("shops", f"{name}: {what}", ref, merchant=merchant)
        erased = sha256(name.encode()).hexdigest()
        if claims and claims[0].shop.gone:
            # What went before was compacted away, and with it when the shop was installed.
            unknown.add(erased)
        if row.merchant is not None:
            rows[name] = row
        elif row.installed is not None:
            rows[erased] = row
    for name in (rows.keys() | facts.rows.keys()) - unknown:
        wanted, known = rows.get(name), facts.rows.get(name)
        if wanted != known:
            what = f"{name} is {known} in the table, {wanted} by the topic"
            about = (wanted or known or ShopRow()).merchant
            report.fault("shops", what, merchant=about)
    owners = {row.merchant for row in facts.rows.values()}
    for found in history.merchants.values():
        if (found.row or {}).get("forgotten_at") and found.merchant in owners:
            report.fault("shops", "a forgotten merchant has shops", merchant=found.merchant)


def _check_asked(history: History, report: Report) -> None:
    facts = history.shops
    asked: Counter[tuple[str, str]] = Counter()
    # An import registers a shop only for a merchant that has none, and an older installation none;
    # an operator registers one once per key. By which rules a name was read is not known here.
    perhaps: Counter[tuple[str, str]] = Counter()
    for found in history.merchants.values():
        for parsed, _ in found.parsed():
            if parsed.command in ("create", "import", SET_SHOP):
                shop = shop_of(parsed.platform, parsed.text)
                older = f"{parsed.platform}:{parsed.text}".lower()
                name = ":".join(shop) if shop else older
                sure = parsed.command == "create" and parsed.installed is None
                sure = sure and shop is not None and name == older
                counted = asked if sure else perhaps
                # Releases up to 0.5.1 named it as it came.
                counted.update((one, found.merchant) for one in {name, older})
    for (name, merchant), count in facts.registered.items():
        wanted = asked[name, merchant] + perhaps[name, merchant]
        if count > wanted:
            what = f"{name} was registered {count} times, asked for {wanted} times"
            report.fault("shops", what, merchant=merchant)
    for name, claims in facts.said.items():
        for claim in claims:
            who = name, claim.shop.merchant
            if claim.shop.if_free and not asked[who] + perhaps[who]:
                report.fault("shops", f"{name} was never asked for", claim.ref, merchant=who[1])
    for (name, merchant), count in facts.unregistered.items():
        # What it was registered by may be compacted away.
        known = max(
            facts.registered[name, merchant], asked[name, merchant] + perhaps[name, merchant]
        )
        if count > known + _restated(facts.said[name], merchant):
            what = f"{name} was given up more often than it was registered"
            report.fault("shops", what, merchant=merchant)
    for name, merchant in asked:
        # The claim itself may be compacted away, but not the last record of the shop.
        if name not in facts.said:
            report.fault("shops", f"{name} was never registered", merchant=merchant)


def _restated(claims: Sequence[Said], merchant: str) -> int:
    """How often the shop's lane may have written that the merchant has left: after other claims."""
    return sum(said.shop.merchant == merchant and not said.shop.gone for said in claims)


def _in_order(history: History, claims: Sequence[Said]) -> list[Said]:
    """As their lane took them: copies of dead letters come by another topic."""
    if len({said.ref.topic for said in claims}) < 2:
        return sorted(claims, key=lambda said: said.ref.offset)
    order = history.order(claims[0].ref.partition)
    placed = []
    for topic in {said.ref.topic for said in claims}:
        queue = [said for said in claims if said.ref.topic == topic]
        places = order.places(topic, ((said.ref.offset, said.at) for said in queue))
        placed += list(zip(places, queue, strict=True))
    return [said for _, said in sorted(placed, key=lambda one: one[0])]


def _decided(
    claims: Sequence[Said], letters: Mapping[RecordRef, Any]
) -> tuple[ShopRow, list[_Fault]]:
    """The row after all of them, and the faults of their letters."""
    row, found = ShopRow(), list[_Fault]()
    is_first = True
    for said in claims:
        ref, shop = said.ref, said.shop
        if _says(letters, ref, _NOTHING):
            continue
        is_letter = _says(letters, ref, (TAKEN,))
        if is_first and is_letter:
            # What it came after was compacted away.
            continue
        if is_first and (shop.again or shop.uninstalled):
            row = ShopRow(shop.merchant, shop.shop_id, shop.installed, shop.uninstalled)
            is_first = False
            continue
        is_first = is_first and shop.if_free
        if shop.if_free and row.merchant is not None:
            # It is a shop of an older log by its name of now, which takes none.
            continue
        newest = max((at for at in (row.installed, shop.installed) if at is not None), default=None)
        refused = False
        if shop.merchant == row.merchant:
            row = _by_its_merchant(row, said, newest)
        elif not (shop.gone or shop.again or shop.uninstalled):
            older = shop.installed is not None and shop.installed != newest
            others = None not in (row.merchant, row.shop_id, shop.shop_id)
            refused = others and row.shop_id != shop.shop_id and not row.uninstalled and not older
            if not (older or refused):
                row = ShopRow(shop.merchant, shop.shop_id, newest)
        found += _of_letter(said, refused=refused, is_letter=is_letter)
    return row, found


def _by_its_merchant(row: ShopRow, said: Said, newest: int | None) -> ShopRow:
    shop = said.shop
    if shop.gone:
        return ShopRow(installed=newest)
    if shop.again:
        return row._replace(shop_id=row.shop_id or shop.shop_id, installed=newest)
    return ShopRow(shop.merchant, shop.shop_id or row.shop_id, newest, shop.uninstalled)


def _of_letter(said: Said, *, refused: bool, is_letter: bool) -> Iterator[_Fault]:
    if refused and not is_letter:
        yield (
            "another shop has it, and the claim is not a dead letter",
            said.ref,
            said.shop.merchant,
        )
    elif is_letter and not refused:
        yield "is a dead letter, and no other shop has it", said.ref, said.shop.merchant


def _says(letters: Mapping[RecordRef, Any], ref: RecordRef, beginnings: tuple[str, ...]) -> bool:
    return any(letter.reason.startswith(beginnings) for letter in letters.get(ref, ()))
