"""All workers and partitions: the worker that makes the page asks each one for its figures."""

import asyncio

import msgspec
from msgspec import Struct

from billing_stream.engine.lanes import Restoring
from billing_stream.engine.stopped_inputs import Stop
from billing_stream.tables.early_webhooks import EarlyWebhooks
from billing_stream.web.envelope import ApiError, Ids
from billing_stream.web.ops.figures import Figures, PartitionFigures, WorkerFigures
from billing_stream.web.ops.reconciliation import Reconciliation
from billing_stream.web.ops.recorder import Counts, Minute, together
from billing_stream.web.peer_client import FIGURES_PATH
from billing_stream.web.peers import Peers

ASK_SECONDS = 1.5
SILENT = "does not answer"

_figures = msgspec.json.Decoder(WorkerFigures)


class WorkerSnapshot(Struct, frozen=True):
    """A worker at an address, with the partitions that it was assigned.

    `figures`: None when `trouble` says why. `here`: it is the one that was asked.
    """

    url: str
    assigned: list[int]
    figures: WorkerFigures | None
    here: bool
    trouble: str = SILENT

    @property
    def lag(self) -> int | None:
        """Records that wait for it, None when that is not known."""
        known = [p.lag for p in self.partitions if p.lag is not None]
        return sum(known) if known else None

    @property
    def partitions(self) -> list[PartitionFigures]:
        """Those that it has, as far as it says."""
        return self.figures.partitions if self.figures is not None else []


class PartitionSnapshot(Struct, frozen=True):
    """A partition, owned or not; `url`: None without an owner.

    `figures`: None while no worker reports that it has it: it is restored, or its worker is silent.
    """

    number: int
    url: str | None
    figures: PartitionFigures | None
    restoring: Restoring | None
    silent: bool


class ClusterSnapshot(Struct, frozen=True):
    """All workers and partitions at one moment."""

    workers: list[WorkerSnapshot]
    partitions: list[PartitionSnapshot]

    @property
    def stops(self) -> list[Stop]:
        """The stopped inputs of all partitions."""
        return [stop for p in self.partitions if p.figures is not None for stop in p.figures.stops]

    @property
    def early(self) -> EarlyWebhooks:
        """Webhooks that wait for their charge, of all partitions that have a worker."""
        return EarlyWebhooks.together(p.figures.early for p in self.partitions if p.figures)

    @property
    def reconciliation(self) -> Reconciliation:
        """What the look-ups of all workers found."""
        return Reconciliation.together(one.reconciliation for one in self.figures)

    @property
    def early_merchants(self) -> dict[str, EarlyWebhooks]:
        """Those that wait at their charge, by the merchant of their shop; longest first."""
        known = {m for p in self.partitions if p.figures for m in p.figures.early_of}
        found = {merchant_id: self.early_of(merchant_id) for merchant_id in known}
        return dict(sorted(found.items(), key=lambda one: (str(one[1].oldest), one[0])))

    def early_of(self, merchant_id: str) -> EarlyWebhooks:
        """Those that wait at their charge, and came from a shop of this merchant."""
        known = [p.figures.early_of.get(merchant_id) for p in self.partitions if p.figures]
        return EarlyWebhooks.together(one for one in known if one is not None)

    @property
    def figures(self) -> list[WorkerFigures]:
        """The figures of the workers that answered."""
        return [worker.figures for worker in self.workers if worker.figures is not None]

    @property
    def lag(self) -> int | None:
        """Records that wait, None when not known."""
        known = [worker.lag for worker in self.workers if worker.lag is not None]
        return sum(known) if known else None

    def per_second(self, name: str) -> float:
        """How many a second there are now of one of the numbers in `Counts`."""
        spans = [one.now for one in self.figures if one.now.seconds > 0]
        return float(sum(getattr(span.counts, name) / span.seconds for span in spans))

    def now(self) -> Counts:
        """The latest few seconds."""
        return together(one.now.counts for one in self.figures)

    def minutes(self) -> list[Minute]:
        """The minutes of the last hour, oldest first, in which any of them ran."""
        by_minute: dict[int, list[Counts]] = {}
        for one in self.figures:
            for minute in one.minutes:
                by_minute.setdefault(minute.at, []).append(minute.counts)
        return [Minute(at, together(counts)) for at, counts in sorted(by_minute.items())]

    def hour(self) -> Counts:
        """The last hour."""
        return together(minute.counts for minute in self.minutes())


class ClusterFigures:
    """Asks all workers at once."""

    def __init__(self, figures: Figures, peers: Peers, partitions: int) -> None:
        self._figures = figures
        self._peers = peers
        self._partitions = partitions

    async def look(self, ids: Ids) -> ClusterSnapshot:
        """All of them as they are now; who does not answer in time is shown as such."""
        assigned = {url: sorted(numbers) for url, numbers in self._peers.assigned().items()}
        own = self._peers.own_url
        assigned.setdefault(own, [])
        figures = await asyncio.gather(*(self._ask(url, ids) for url in assigned))
        workers = [
            WorkerSnapshot(url, numbers, figures, url == own, self._peers.trouble(url) or SILENT)
            for (url, numbers), figures in zip(assigned.items(), figures, strict=True)
        ]
        workers.sort(key=lambda worker: worker.url)
        return ClusterSnapshot(workers, [_partition(n, workers) for n in range(self._partitions)])

    async def _ask(self, url: str, ids: Ids) -> WorkerFigures | None:
        if url == self._peers.own_url:
            return self._figures.read()
        try:
            return _figures.decode(await self._peers.ask_at(url, FIGURES_PATH, ids, ASK_SECONDS))
        except (ApiError, msgspec.DecodeError):
            return None


def _partition(number: int, workers: list[WorkerSnapshot]) -> PartitionSnapshot:
    for worker in workers:
        for figures in worker.partitions:
            if figures.partition == number:
                return PartitionSnapshot(number, worker.url, figures, None, False)
    for worker in workers:
        if number in worker.assigned:
            restoring = worker.figures.restoring if worker.figures is not None else None
            ours = restoring if restoring and number in restoring.partitions else None
            return PartitionSnapshot(number, worker.url, None, ours, worker.figures is None)
    return PartitionSnapshot(number, None, None, None, False)
