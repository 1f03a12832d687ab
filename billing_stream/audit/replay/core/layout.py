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

__all__ = ["CatalogueVersion", "PartitionRows", "StagedRows", "schemas", "topics"]
