"""The merchants of the old database as commands, with a bar that shows how far it is."""

from collections.abc import AsyncIterator, Mapping

from billing_stream.console.progress import bar
from billing_stream.domain.commands import ImportMerchant
from billing_stream.domain.policy import Policy
from billing_stream.migration.findings import Findings
from billing_stream.migration.mapping import Mapper, Shop
from billing_stream.migration.old_database import PURCHASES, RECORDS, OldDatabase


async def merchants(
    old: OldDatabase,
    policy: Policy,
    findings: Findings,
    label: str,
    shops: Mapping[str, Shop] | None = None,
) -> AsyncIterator[ImportMerchant]:
    """Every merchant that can be brought in, in the order of the ids."""
    duplicate_purchase_ids = await old.duplicate_purchase_ids()
    mapper = Mapper(policy, findings, shops=shops, duplicate_purchase_ids=duplicate_purchase_ids)
    rows = await old.count(RECORDS) + await old.count(PURCHASES)
    with bar(label, rows) as advance:
        async for group in old.groups():
            command = mapper.command(group)
            advance(len(group.records) + len(group.purchases))
            if command is not None:
                yield command


async def note_columns(old: OldDatabase, findings: Findings) -> None:
    """Findings about the tables as a whole."""
    naive = await old.naive_columns()
    if naive:
        findings.notes.append(f"times without a time zone, read as UTC: {', '.join(naive)}")
    shared = await old.shared_charge_ids()
    if shared:
        findings.notes.append(
            f"{shared:,} charges are of more than one merchant: each keeps its own, webhooks "
            "name the merchant"
        )
