"""The catalogue broken on purpose: each sells under other terms than the log says."""

from billing_stream.domain import purchases, webhooks
from billing_stream.tables import catalogue_versions
from billing_stream.tables.catalogue_versions import Catalogue
from tests.simulation.mutants import Mutant

PAID = "draft.complete(purchase)"
OF_NOW = """newest = max(draft.rows.versions, key=lambda one: one.version, default=None)
    if newest is not None and purchase.pack in newest.packs:
        purchase = replace(purchase, credits=newest.packs[purchase.pack].credits)
    """
SOLD = "packs = draft.policy.packs if version is None else version.packs"

CATALOGUE_MUTANTS = (
    Mutant(
        "another lane is not told", Catalogue, "_decided", [("in others", "in list(others)[1:]")]
    ),
    Mutant(
        "a version is lost in a restart", Catalogue, "restore", [("value is not None", "False")]
    ),
    Mutant(
        "a lane does not remember a version",
        Catalogue,
        "_known",
        [("rows.versions, gone =", "_, gone =")],
    ),
    Mutant(
        "a key counts for nothing",
        catalogue_versions,
        "_is_repeated",
        [("key is not None", "False")],
    ),
    Mutant(
        "a version comes too early",
        catalogue_versions,
        "version_of",
        [("effective_at=effective_at", "effective_at=now")],
    ),
    Mutant(
        "a version in the past is accepted",
        catalogue_versions,
        "version_of",
        [("version.effective_at < now", "False")],
    ),
    Mutant(
        "a version is in force before its time",
        purchases,
        "in_force",
        [("one.effective_at <= moment", "True")],
    ),
    Mutant(
        "the first version stays in force",
        purchases,
        "in_force",
        [("max(begun", "min(begun")],
    ),
    Mutant(
        "a retired pack is sold",
        purchases,
        "reserve",
        [(SOLD, "packs = {**draft.policy.packs, **(version.packs if version else {})}")],
    ),
    Mutant(
        "a purchase has the price of the settings",
        purchases,
        "reserve",
        [("amount = pack.prices", "amount = draft.policy.packs.get(command.pack, pack).prices")],
    ),
    Mutant(
        "a purchase names no version",
        purchases,
        "reserve",
        [("None if version is None else version.version", "None")],
    ),
    Mutant(
        "a purchase is paid by the catalogue of now",
        webhooks,
        "complete",
        [(PAID, OF_NOW + PAID)],
        seed=45,
    ),
)
