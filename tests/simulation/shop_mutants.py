"""Rules of shops broken on purpose: each gives a shop to the wrong merchant, or in silence."""

from billing_stream.domain import merchants as domain_merchants
from billing_stream.domain import shops as domain_shops
from billing_stream.tables import shops
from tests.simulation.mutants import Mutant

SHOP_MUTANTS = (
    Mutant(
        "an older installation of a merchant counts",
        domain_merchants,
        "create",
        [("if shops.is_older(merchant, installed_at)", "if False")],
    ),
    Mutant(
        "an erased merchant comes back by an old record",
        domain_shops,
        "is_older",
        [("merchant.forgotten_at is not None", "False")],
        seed=23,
    ),
    Mutant(
        "a wrong clock keeps all later installations out",
        domain_shops,
        "credible",
        [("or installed_at > now + AHEAD_MAX ", "")],
    ),
    Mutant(
        "a shop that is known better is taken from another",
        domain_merchants,
        "create",
        [("again=again", "again=False")],
        seed=5,
    ),
    Mutant(
        "an older installation of another merchant counts",
        domain_shops,
        "claim",
        [("said.installed_at != installed_at", "False")],
        seed=5,
    ),
    Mutant(
        "the last shop with a domain has it",
        domain_shops,
        "claim",
        [("return shop, Claim.TAKEN", "return taken_over, Claim.TAKEN")],
        seed=12,
    ),
    Mutant(
        "a shop without an id is refused",
        domain_shops,
        "claim",
        [("return taken_over, Claim.REPLACED", "return shop, Claim.TAKEN")],
    ),
    Mutant(
        "a second claim is not told",
        shops,
        "take",
        [("add_letter(dead_letter(record, why), SHOP_TAKEN)", "str(why)")],
        seed=12,
    ),
    Mutant(
        "the first claim is left to compaction",
        domain_shops,
        "state_again",
        [("replace(said, again=True) == present", "True")],
        seed=5,
    ),
    Mutant(
        "the time of an erased shop is forgotten",
        domain_shops,
        "claim",
        [("Shop(installed_at=installed_at)", "NOBODYS")],
        seed=1,
    ),
    Mutant(
        "the row of an erased shop stays when it is claimed",
        shops,
        "_put",
        [("kept is not None or rows.shop(name) is not None", "kept is not None")],
    ),
)
