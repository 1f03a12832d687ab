"""Input records that are about no merchant: shops, charges, inputs and the catalogue."""

from billing_stream.domain.outcomes import ShopRegistered, TrialClaimed
from billing_stream.domain.shops import Claim
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.records.charge_records import ChargeRecord, ChargeRegistered, UnroutedWebhook
from billing_stream.records.dead_letters import AddLetter, dead_letter
from billing_stream.records.operator_commands import CatalogueCommand, InputCommand
from billing_stream.records.schemas import InputRecord
from billing_stream.tables import charges, shop_trials, shops
from billing_stream.tables.catalogue_versions import Catalogue
from billing_stream.tables.rows import StagedRows

OTHERS = (
    ShopRegistered,
    TrialClaimed,
    ChargeRegistered,
    UnroutedWebhook,
    InputCommand,
    CatalogueCommand,
)
FOREIGN_CLAIM = "a claim to a shop's trial where workers write none"


def take_other(
    said: ShopRegistered | TrialClaimed | ChargeRecord | InputCommand | CatalogueCommand,
    record: InputRecord,
    correlation_id: str | None,
    rows: StagedRows,
    place: charges.Place,
    catalogue: Catalogue,
    out: list[Outgoing],
    add_letter: AddLetter,
    claims: list[Claim],
) -> bool | InputCommand:
    """Take it; False: it is a dead letter. A command about an input is for the lane.

    `claims` gets the outcome of a claim of a shop that is not simply its next one.
    """
    if isinstance(said, InputCommand):
        return said
    if isinstance(said, CatalogueCommand):
        return catalogue.take(said, record, rows, out, add_letter)
    if isinstance(said, ShopRegistered):
        return shops.take(said, record, rows, place, out, add_letter, claims)
    if isinstance(said, TrialClaimed):
        taken = shop_trials.take(said, record, correlation_id, rows, place, out)
        if not taken:
            add_letter(dead_letter(record, FOREIGN_CLAIM), charges.MISPLACED)
        return taken
    return charges.take(said, record, correlation_id, rows, place, out, add_letter)
