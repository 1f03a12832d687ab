"""What the banner says: red where money waits, amber where somebody should look, else green."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import IntEnum

from msgspec import Struct

from billing_stream.records.endpoint_changes import EndpointEvent, EndpointState
from billing_stream.web.ops.cluster_snapshot import ClusterSnapshot, WorkerSnapshot
from billing_stream.web.ops.page_text import counted, moment
from billing_stream.web.ops.projection_state import ProjectionState

# A webhook that is only a little early has its charge after some seconds.
EARLY = timedelta(minutes=10)
WORKERS_PATH = "/ops/workers"
NAMES_MAX = 5


class Level(IntEnum):
    """How urgent it is; the highest is that of the banner."""

    GREEN = 0
    AMBER = 1
    RED = 2


class Notice(Struct, frozen=True):
    """A sentence of the banner, with the page that leads on."""

    level: Level
    text: str
    path: str | None = None


def level_of(notices: list[Notice]) -> Level:
    """The state of the banner."""
    return max((one.level for one in notices), default=Level.GREEN)


def of_cluster(cluster: ClusterSnapshot) -> Iterator[Notice]:
    """What workers, partitions and look-ups say."""
    stops = len(cluster.stops)
    if stops:
        text = f"{counted(stops, 'input')} stopped: its records wait."
        yield Notice(Level.RED, text, f"{WORKERS_PATH}#stopped-title")
    lost = ", ".join(str(p.number) for p in cluster.partitions if p.url is None)
    if lost:
        yield Notice(Level.RED, f"Partition {lost} has no owner.", WORKERS_PATH)
    paid = cluster.reconciliation.paid_not_credited
    if paid:
        text = f"{counted(paid, 'purchase')} paid at the platform and not credited."
        yield Notice(Level.RED, text, "/ops#reconciliation-title")
    for worker in cluster.workers:
        yield from _of_worker(worker)
    failures = cluster.hour().failures
    if failures:
        text = f"{counted(failures, 'HTTP request')} failed in the last hour (5xx)."
        yield Notice(Level.AMBER, text, "/ops#engine-title")


def _of_worker(worker: WorkerSnapshot) -> Iterator[Notice]:
    if worker.figures is None:
        # Whoever asks for its partitions is answered 503.
        level = Level.RED if worker.assigned else Level.AMBER
        yield Notice(level, f"The worker at {worker.url} {worker.trouble}.", WORKERS_PATH)
    elif worker.figures.restoring is not None:
        text = f"The worker at {worker.url} is restoring partitions."
        yield Notice(Level.AMBER, text, WORKERS_PATH)
    else:
        for problem in worker.figures.problems:
            yield Notice(Level.RED, f"{worker.url}: {problem}.", WORKERS_PATH)


def of_early(cluster: ClusterSnapshot, now: datetime) -> Iterator[Notice]:
    """Webhooks that have waited for their charge for longer than usual."""
    early = cluster.early
    if early.oldest is not None and now - early.oldest > EARLY:
        since = f"the oldest since {moment(early.oldest)} UTC"
        text = f"{counted(early.count, 'early webhook')} without a charge, {since}."
        yield Notice(Level.AMBER, text, "/ops#early-title")


def of_letters(open_letters: int | None, older: bool) -> Iterator[Notice]:
    """Open dead letters; None: they cannot be read."""
    path = "/ops/dead-letters"
    if open_letters is None:
        yield Notice(Level.AMBER, "Dead letters cannot be read.", path)
    elif open_letters:
        least = "At least " if older else ""
        text = f"{least}{counted(open_letters, 'open dead letter')}: a payment may be among them."
        yield Notice(Level.AMBER, text, path)


def of_endpoints(endpoints: Sequence[EndpointEvent] | None) -> Iterator[Notice]:
    """Endpoints of outgoing webhooks that get nothing; None: they cannot be read."""
    path = "/ops#endpoints-title"
    if endpoints is None:
        yield Notice(Level.AMBER, "Endpoints of outgoing webhooks cannot be read.", path)
        return
    disabled = [
        one.data.endpoint_id for one in endpoints if one.data.state is EndpointState.DISABLED
    ]
    if disabled:
        more = len(disabled) - NAMES_MAX
        names = ", ".join(disabled[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
        count = counted(len(disabled), "endpoint")
        yield Notice(Level.AMBER, f"{count} of outgoing webhooks disabled: {names}.", path)


def of_projection(state: ProjectionState, now: datetime) -> Iterator[Notice]:
    """What the projection lacks; nothing where the settings have no projection."""
    if not state.configured:
        return
    if state.why is not None:
        yield Notice(Level.AMBER, f"{state.why[0].upper()}{state.why[1:]}.")
        return
    if state.gaps:
        gaps = counted(state.gaps, "open gap")
        yield Notice(Level.RED, f"{gaps} in the projection: run billing-stream projector gaps.")
    if state.rejects:
        records = counted(state.rejects, "record")
        yield Notice(Level.AMBER, f"{records} without a place in the tables of the projection.")
    if state.away(now):
        since = f" since {moment(state.written_at)} UTC" if state.written_at else ""
        yield Notice(Level.AMBER, f"No projector has written{since}: lists and revenue are old.")
    elif state.behind(now):
        yield Notice(Level.AMBER, "The projector is catching up: lists and revenue lag.")
