"""Whether this worker lives, and whether it should get requests."""

from aiohttp import web
from msgspec import Struct

from billing_stream import __version__
from billing_stream.plain_text import shown
from billing_stream.web.envelope import ApiError, WebCode, respond
from billing_stream.web.views import ApiView

HEALTH_PATH = "/health"
READY_PATH = "/ready"


class PartitionBody(Struct, frozen=True):
    """What a lane has done since it came to this worker."""

    partition: int
    idle: bool
    records: int
    transactions: int


class ReadyBody(Struct, frozen=True):
    """The state of this worker: `problems` make it not ready, `warnings` do not."""

    ready: bool
    problems: list[str]
    warnings: list[str]
    partitions: list[PartitionBody]


class Health(ApiView):
    """`/health`: the process lives and answers."""

    async def get(self, request: web.Request) -> web.Response:
        """Always the same."""
        return respond(request, {"status": "ok", "version": __version__})


class Ready(ApiView):
    """`/ready`: recovered, and making progress."""

    async def get(self, request: web.Request) -> web.Response:
        """200 when requests are welcome; else 503, with the reasons."""
        problems = [shown(problem) for problem in self.context.watchdog.problems()]
        found = [*self.context.watchdog.warnings(), *self.context.peers.warnings()]
        warnings = [shown(warning) for warning in found]
        if self.context.gate.stopping:
            problems.insert(0, "this worker is stopping")
        partitions = [
            PartitionBody(p, lane.is_idle, lane.stats.records, lane.stats.transactions)
            for p, lane in sorted(self.context.watchdog.lanes.items())
        ]
        body = ReadyBody(not problems, problems, warnings, partitions)
        if problems:
            raise ApiError(WebCode.NOT_READY, "; ".join(problems), body)
        return respond(request, body)
