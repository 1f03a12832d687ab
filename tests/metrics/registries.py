"""All metrics that there are: of a worker that is built and not started, and of the others."""

from prometheus_client.core import Metric

from billing_stream.app import build
from billing_stream.config.settings import Settings
from billing_stream.deliver.deliver_metrics import Metrics as DeliverMetrics
from billing_stream.projector.projector_metrics import Metrics

# How the names of a type's samples end.
ENDINGS = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


def families() -> list[Metric]:
    """The families of a worker, made from the environment, of a projector, of `deliver`."""
    worker = build(Settings.from_env()).metrics.registry
    others = Metrics().registry, DeliverMetrics().registry
    return [*worker.collect(), *(family for one in others for family in one.collect())]


def sample_names() -> set[str]:
    """Names as they stand in expressions."""
    return {
        family.name + ending for family in families() for ending in ENDINGS.get(family.type, ("",))
    }
