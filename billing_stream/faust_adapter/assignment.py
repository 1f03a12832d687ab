"""Which worker owns which partitions, by the latest assignment of the group."""

from collections.abc import Mapping, Sequence
from typing import cast

from faust.assignor.partition_assignor import PartitionAssignor

from billing_stream.faust_adapter.faust_app import App

Distribution = Mapping[str, Mapping[str, Sequence[int]]]
"""The partitions of each changelog by the URL of their worker."""


def own_url(app: App) -> str:
    """Where other workers reach this one."""
    return str(app.conf.canonical_url)


def distribution(app: App) -> Distribution:
    """Who owns what, as Faust's assignor has it: a new object after each assignment."""
    return cast(PartitionAssignor, app.assignor).changelog_distribution
