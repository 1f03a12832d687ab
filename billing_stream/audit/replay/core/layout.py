"""The modules of the code that decides again, wherever its release keeps them."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING or find_spec("billing_stream.records"):
    from billing_stream.records import schemas, topics
    from billing_stream.tables.rows import PartitionRows, StagedRows
else:
    # Releases up to 0.5.1.
    from billing_stream import schemas, topics
    from tables.rows import PartitionRows, StagedRows

if TYPE_CHECKING or find_spec("billing_stream.domain.catalogue"):
    from billing_stream.domain.catalogue import CatalogueVersion
else:
    CatalogueVersion = None

if TYPE_CHECKING or find_spec("billing_stream.domain.policy"):
    from billing_stream.domain.policy import Pack, Policy
else:
    from billing_stream.domain.model import Pack, Policy

__all__ = ["CatalogueVersion", "Pack", "PartitionRows", "Policy", "StagedRows", "schemas", "topics"]
