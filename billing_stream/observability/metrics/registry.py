"""The registry of a process."""

from prometheus_client import CollectorRegistry, disable_created_metrics


def new_registry() -> CollectorRegistry:
    """An empty registry. Its counters and histograms have no `_created` series.

    The client library can leave them out in a whole process only.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return CollectorRegistry()
