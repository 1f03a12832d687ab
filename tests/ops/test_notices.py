"""The three states of the banner, and what is on the lists where there is no projection."""

import html
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from billing_stream.engine.input_rows import StoppedInput
from billing_stream.records.endpoint_changes import (
    EndpointChanged,
    EndpointEvent,
    EndpointState,
    decode_endpoint_event,
    endpoint_event,
)
from billing_stream.records.topics import COMMANDS
from billing_stream.tables.early_webhooks import EarlyWebhooks
from billing_stream.web.ops.cluster_snapshot import ClusterSnapshot, PartitionSnapshot
from billing_stream.web.ops.figures import PartitionFigures
from billing_stream.web.ops.notices import (
    Level,
    level_of,
    of_early,
    of_endpoints,
    of_letters,
    of_projection,
)
from billing_stream.web.ops.projection_state import ProjectionState
from billing_stream.web.ops.recorder import Rate
from tests.support.nodes import Cluster, cluster, get
from tests.support.tokens import operator_headers

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FRESH = NOW - timedelta(seconds=10)
OLD = NOW - timedelta(minutes=5)


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers with two partitions each."""
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        yield found


async def banner(two: Cluster, path: str = "/ops/workers") -> tuple[str, str]:
    """The state of the banner and its text, at the worker that is not concerned."""
    reply = await get(two.nodes[0].url, path, operator_headers())
    found = re.search(
        r'<div id="banner" class="note (\w+) well">(.*?)<time', reply.raw.decode(), re.DOTALL
    )
    assert found is not None
    text = html.unescape(re.sub(r"<[^>]+>", " ", found[2]))
    return found[1], " ".join(text.split())


def stop_input(two: Cluster) -> None:
    stopped = StoppedInput("1001 invalid records in a row", datetime.now(UTC))
    two.nodes[1].lanes[2].inputs.stopped[COMMANDS] = stopped


def pay_without_credit(two: Cluster) -> None:
    two.nodes[1].metrics.paid_not_credited.set(2)


def fail_requests(two: Cluster) -> None:
    two.nodes[1].metrics.http_requests.labels("GET", "/api/billing/status", "503").inc(3)
    two.nodes[1].context.dashboard.recorder.look()


@pytest.mark.parametrize(
    ("happen", "state", "text"),
    [
        (lambda _: None, "good", "All is well."),
        (stop_input, "bad", "Money waits 1 input stopped: its records wait."),
        (pay_without_credit, "bad", "2 purchases paid at the platform and not credited."),
        (fail_requests, "warn", "3 HTTP requests failed in the last hour (5xx)."),
    ],
)
async def test_the_banner_is_red_where_money_waits_and_amber_for_the_rest(
    two: Cluster, happen: Callable[[Cluster], None], state: str, text: str
) -> None:
    happen(two)

    found = await banner(two)

    assert found[0] == state
    assert text in found[1]


async def test_dead_letters_that_cannot_be_read_are_no_green_banner(two: Cluster) -> None:
    state, text = await banner(two, "/ops")

    assert (state, "Dead letters cannot be read." in text) == ("warn", True)
    assert "Endpoints of outgoing webhooks cannot be read." in text


def test_disabled_endpoints_are_amber_and_named_as_far_as_there_is_room() -> None:
    def endpoint(number: int, state: EndpointState) -> EndpointEvent:
        change = EndpointChanged(endpoint_id=f"e{number}", state=state, url="https://a.example")
        return decode_endpoint_event(endpoint_event(change, NOW))

    enabled = endpoint(0, EndpointState.ENABLED)
    disabled = [endpoint(number, EndpointState.DISABLED) for number in range(1, 8)]

    assert list(of_endpoints([enabled])) == []
    (one,) = of_endpoints([disabled[0], enabled])
    text = "1 endpoint of outgoing webhooks disabled: e1."
    assert (one.level, one.text) == (Level.AMBER, text)
    (many,) = of_endpoints(disabled)
    assert many.text == "7 endpoints of outgoing webhooks disabled: e1, e2, e3, e4, e5 and 2 more."


def test_open_dead_letters_are_amber_and_none_are_green() -> None:
    assert level_of(list(of_letters(0, older=False))) is Level.GREEN
    (one,) = of_letters(1, older=False)
    assert (one.level, one.text) == (
        Level.AMBER,
        "1 open dead letter: a payment may be among them.",
    )
    (many,) = of_letters(1_000, older=True)
    assert many.text.startswith("At least 1,000 open dead letters:")


@pytest.mark.parametrize(
    ("state", "level", "text"),
    [
        (ProjectionState(False, "DATABASE_URL is not set"), Level.GREEN, ""),
        (ProjectionState(True, None, FRESH, FRESH), Level.GREEN, ""),
        (
            ProjectionState(True, "the projection does not answer"),
            Level.AMBER,
            "The projection does not answer.",
        ),
        (ProjectionState(True, None, OLD, FRESH), Level.AMBER, "is catching up"),
        (ProjectionState(True, None, None, FRESH), Level.AMBER, "is catching up"),
        (ProjectionState(True, None, OLD, OLD), Level.AMBER, "since 2026-01-01 11:55:00 UTC"),
        (ProjectionState(True, None, FRESH, FRESH, rejects=1), Level.AMBER, "1 record without"),
        (ProjectionState(True, None, FRESH, FRESH, gaps=2), Level.RED, "2 open gaps"),
    ],
)
def test_a_projection_that_lacks_something_is_told(
    state: ProjectionState, level: Level, text: str
) -> None:
    found = list(of_projection(state, NOW))

    assert level_of(found) is level
    assert text in " ".join(one.text for one in found)


async def test_what_look_ups_found_is_on_the_overview(two: Cluster) -> None:
    for node, count in zip(two.nodes, (2, 3), strict=True):
        node.metrics.lookups_reported.labels("shopify", "paid").inc(count)

    shown = (await get(two.nodes[0].url, "/ops", operator_headers())).raw.decode()

    assert "<dt>Found paid at Shopify, their webhook was missing</dt><dd>5</dd>" in shown


def waiting(partition: int, early_of: dict[str, EarlyWebhooks]) -> PartitionSnapshot:
    """A partition with these early webhooks, by the merchant of their shop."""
    early = EarlyWebhooks.together(early_of.values())
    figures = PartitionFigures(partition, None, 0, 0, None, Rate(), [], early, early_of)
    return PartitionSnapshot(partition, "http://127.0.0.1:1", figures, None, False)


def test_merchants_of_early_webhooks_are_named_the_longest_wait_first() -> None:
    one = waiting(0, {"merchant-2": EarlyWebhooks(1, FRESH)})
    two = waiting(1, {"merchant-1": EarlyWebhooks(2, OLD), "merchant-2": EarlyWebhooks(3, FRESH)})

    found = ClusterSnapshot([], [one, two]).early_merchants

    assert list(found.items()) == [
        ("merchant-1", EarlyWebhooks(2, OLD)),
        ("merchant-2", EarlyWebhooks(4, FRESH)),
    ]


@pytest.mark.parametrize(("minutes", "count"), [(9, 0), (11, 1)])
def test_only_a_webhook_that_is_very_early_is_told(minutes: int, count: int) -> None:
    since = NOW - timedelta(minutes=minutes)
    cluster = ClusterSnapshot([], [waiting(0, {"merchant-1": EarlyWebhooks(1, since)})])

    assert len(list(of_early(cluster, NOW))) == count


@pytest.mark.parametrize("path", ["/ops/merchants", "/ops/purchases", "/ops/revenue"])
async def test_without_a_projection_a_list_says_what_it_needs(two: Cluster, path: str) -> None:
    reply = await get(two.nodes[0].url, path, operator_headers())

    assert reply.status == 200
    assert b"There is no projection here." in reply.raw


@pytest.mark.parametrize("path", ["/ops/merchants.csv", "/ops/purchases.csv"])
async def test_without_a_projection_there_is_no_csv(two: Cluster, path: str) -> None:
    reply = await get(two.nodes[0].url, path, operator_headers())

    assert (reply.status, reply.body["error"]["code"]) == (503, "NOT_READY")
