"""Versions of the catalogue, as the rules read them."""

from msgspec import Struct

from billing_stream.domain.model import Instant
from billing_stream.domain.policy import Pack


class CatalogueVersion(Struct, frozen=True, gc=False):
    """Packs that an operator set, in force from `effective_at`; `version` counts from 1."""

    version: int
    effective_at: Instant
    packs: dict[str, Pack]


Versions = tuple[CatalogueVersion, ...]
"""In the order in which they were set."""
