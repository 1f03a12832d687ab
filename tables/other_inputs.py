"""Input records that are about no merchant: shops, charges, inputs and the catalogue."""

from billing_stream.domain.outcomes import ShopRegistered
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.records.charge_records import ChargeRecord, ChargeRegistered, UnroutedWebhook
from billing_stream.records.dead_letters import AddLetter, dead_letter
from billing_stream.records.operator_commands import CatalogueCommand, InputCommand
from billing_stream.records.schemas import InputRecord
from billing_stream.tables import charges
from billing_stream.tables.catalogue_versions import Catalogue
from billing_stream.tables.rows import StagedRows

OTHERS = (ShopRegistered, ChargeRegistered, UnroutedWebhook, InputCommand, CatalogueCommand)
ADDED_SHOP = "a shop on a partition that was added to its topic: workers write none there"
MISPLACED = charges.MISPLACED


def take_other(
    said: ShopRegistered | ChargeRecord | InputCommand | CatalogueCommand,
    record: InputRecord,
    correlation_id: str | None,
    rows: StagedRows,
    place: charges.Place,
    catalogue: Catalogue,
    out: list[Outgoing],
    add_letter: AddLetter,
) -> bool | InputCommand:
    """Take it; False: it is a dead letter. A command about an input is for the lane."""
    if isinstance(said, InputCommand):
        return said
    if isinstance(said, CatalogueCommand):
        return catalogue.take(said, record, rows, out, add_letter)
    if not isinstance(said, ShopRegistered):
        return charges.take(said, record, correlation_id, rows, place, out, add_letter)
    if record.partition != place.partition:
        # Only lanes write them, and none writes there.
        add_letter(dead_letter(record, ADDED_SHOP), MISPLACED)
        return False
    rows.add_shop(said)
    return True
