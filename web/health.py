"""Whether this worker lives, and whether it should get requests."""

from typing import Literal

from msgspec import Struct

from billing_stream import __version__
from billing_stream.config.listener_settings import Listener
from billing_stream.engine import watchdog as engine
from billing_stream.engine.watchdog import Watchdog
from billing_stream.kafka.silent_brokers import NO_ANSWER
from billing_stream.plain_text import shown
from billing_stream.web.envelope import ApiError, WebCode
from billing_stream.web.operation import ANYONE, About, Answer, Call, operation

HEALTH_PATH = "/health"
READY_PATH = "/ready"
MOVING = "partitions are being assigned or restored"
LEASE_LOST = (
    "the broker that coordinates the consumer group has not answered for longer than "
    "BILLING_SESSION_TIMEOUT, so another worker may own these partitions"
)
# Whoever sends requests to a listener asks that listener whether it may.
_EVERYWHERE = frozenset(Listener)


class HealthBody(Struct, frozen=True):
    """The process lives."""

    status: Literal["ok"]
    version: str


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


@operation(
    "GET",
    HEALTH_PATH,
    ANYONE,
    listeners=_EVERYWHERE,
    limited=False,
    about=About(
        id="getHealth",
        tag="health",
        summary="Whether the process lives",
        example=HealthBody("ok", __version__),
    ),
)
async def get_health(call: Call[None]) -> Answer[HealthBody]:
    """Always the same."""
    return Answer(HealthBody("ok", __version__))


@operation(
    "GET",
    READY_PATH,
    ANYONE,
    listeners=_EVERYWHERE,
    limited=False,
    codes=(WebCode.NOT_READY,),
    about=About(
        id="getReady",
        tag="health",
        summary="Whether this worker should get requests",
        example=ReadyBody(True, [], [], [PartitionBody(0, True, 1204, 311)]),
        details=ReadyBody,
    ),
)
async def get_ready(call: Call[None]) -> Answer[ReadyBody]:
    """200 when requests are welcome; else 503, with the reasons."""
    watchdog, lanes = call.context.watchdog, call.context.watchdog.lanes
    problems = [shown(problem) for problem in ready_problems(watchdog)]
    found = [*watchdog.warnings(), *call.context.peers.warnings()]
    warnings = [shown(warning) for warning in found]
    if call.context.gate.stopping:
        problems.insert(0, "this worker is stopping")
    partitions = [
        PartitionBody(p, lane.is_idle, lane.stats.records, lane.stats.transactions)
        for p, lane in sorted(lanes.items())
    ]
    body = ReadyBody(not problems, problems, warnings, partitions)
    if problems:
        raise ApiError(WebCode.NOT_READY, "; ".join(problems), body)
    return Answer(body)


def ready_problems(watchdog: Watchdog) -> list[str]:
    """Why this worker should get no requests now, one line for each cause."""
    found, lanes = watchdog.problems(), watchdog.lanes
    away = [problem for problem in found if problem.startswith(NO_ANSWER)]
    if away:
        # All that is not ready or waits is so because of it.
        return away
    why = LEASE_LOST if lanes.recovered and not lanes.lease_held else MOVING
    return [why if problem == engine.NOT_READY else problem for problem in found]


OPERATIONS = (get_health, get_ready)
