"""Workers and partitions as any of the workers shows them, also when one is silent."""

import html
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from billing_stream.domain.commands import StartTrial
from billing_stream.engine.input_rows import StoppedInput
from billing_stream.records.topics import COMMANDS
from billing_stream.web.envelope import Ids
from billing_stream.web.ops.cluster_snapshot import ClusterFigures, ClusterSnapshot
from billing_stream.web.ops.dashboard import Dashboard
from tests.support.nodes import Cluster, cluster, get
from tests.support.partition import Record
from tests.support.tokens import old_worker_headers, operator_headers

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers with two partitions each."""
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        yield found


async def seen(two: Cluster, node: int) -> ClusterSnapshot:
    context = two.nodes[node].context
    return await ClusterFigures(context.dashboard.figures, context.peers, 4).look(Ids("r", "c"))


@pytest.mark.parametrize("asked", [0, 1])
async def test_whichever_is_asked_shows_all_of_them(two: Cluster, asked: int) -> None:
    found = await seen(two, asked)

    assert {worker.url for worker in found.workers if worker.figures} == {
        node.url for node in two.nodes
    }
    assert [worker.here for worker in found.workers] == [
        worker.url == two.nodes[asked].url for worker in found.workers
    ]
    owners = [one.url for one in found.partitions]
    assert owners == [two.nodes[0].url] * 2 + [two.nodes[1].url] * 2
    assert all(one.figures is not None for one in found.partitions)


async def test_a_worker_that_does_not_answer_is_shown_as_such(two: Cluster) -> None:
    gone = two.nodes[1]
    await gone._server.close()

    found = await seen(two, 0)

    (silent,) = (worker for worker in found.workers if worker.figures is None)
    assert (silent.url, silent.assigned) == (gone.url, [2, 3])
    assert [(one.url == gone.url, one.silent) for one in found.partitions] == [
        (False, False),
        (False, False),
        (True, True),
        (True, True),
    ]
    page = await get(two.nodes[0].url, "/ops/workers", operator_headers())
    assert page.status == 200
    assert f"The worker at {gone.url} does not answer.".encode() in page.raw
    assert b"Money waits" in page.raw
    assert page.raw.count(b"owner does not answer") == 2


async def test_a_partition_of_nobody_is_told(two: Cluster) -> None:
    await two.nodes[1].own([2])
    two.assign({0: [0, 1], 1: [2]})

    page = await get(two.nodes[0].url, "/ops/workers", operator_headers())

    assert b"Partition 3 has no owner." in page.raw
    assert b"no owner" in page.raw


@pytest.mark.parametrize("page", ["/ops", "/ops/workers"])
async def test_stopped_input_is_shown_with_the_commands_for_it(two: Cluster, page: str) -> None:
    inputs = two.nodes[1].lanes[2].inputs
    inputs.stopped[COMMANDS] = StoppedInput("1001 invalid records in a row", datetime.now(UTC))
    inputs.next_records[COMMANDS] = Record(COMMANDS, 17, b"{", partition=2)

    shown = html.unescape((await get(two.nodes[0].url, page, operator_headers())).raw.decode())

    assert "1 input stopped: its records wait." in shown
    assert "1001 invalid records in a row" in shown
    assert f"billing-stream inputs resume {COMMANDS} 2 --reason" in shown
    assert f"billing-stream inputs skip '{COMMANDS}[2]@17' --reason" in shown


async def test_last_commit_and_counts_are_those_of_the_lanes(two: Cluster) -> None:
    await two.create(M1, "one.example")
    for node in two.nodes:
        node.context.dashboard.recorder.look()

    found = await seen(two, 0)

    owner = two.owner(M1)
    partition = owner.context.owners.partition_of(M1)
    for one in found.partitions:
        assert one.figures is not None
        lane = two.owner(M1).lanes.get(one.number) or two.other(M1).lanes[one.number]
        assert (one.figures.last_commit is None) == (not lane.stats.transactions)
    of = found.partitions[partition].figures
    assert of is not None
    assert of.rate.transactions > 0


async def test_without_a_projection_the_rows_of_all_workers_are_counted(two: Cluster) -> None:
    for number, merchant in enumerate((M1, M2)):
        await two.create(merchant, f"{number}.example")
        await two.buy(merchant, 10 + number)
    await two.buy(M1, 20, paid=False)
    await two.do(StartTrial(M1))
    await two.buy(M1, 21)

    for node in two.nodes:
        dashboard: Dashboard = node.context.dashboard
        told = await dashboard.business()

        assert told.projected is False
        assert told.business is not None
        assert told.business.merchants == 2
        counts = {(p.status, p.platform): (p.count, p.amounts) for p in told.business.purchases}
        assert counts == {
            ("completed", "shopify"): (3, {"USD": "29.97"}),
            ("pending", "shopify"): (1, {"USD": "9.99"}),
        }
        assert (told.business.today.purchases, told.business.today.revenue) == (3, {"USD": "29.97"})
        assert told.business.today.refunded is None
        trials = told.business.trials
        assert (trials.started, trials.running, trials.converted) == (1, 1, 1)
        assert (trials.ending_day, trials.ending_week) == (0, 0)
        page = await get(node.url, "/ops", operator_headers())
        assert b"There is no projection: DATABASE_URL is not set." in page.raw


async def test_without_a_projection_the_timeline_says_what_it_needs(two: Cluster) -> None:
    await two.create(M1, "one.example")

    page = await get(two.nodes[0].url, f"/ops/merchants/{M1}", operator_headers())

    assert page.status == 200
    assert b"need the projection: set <code>DATABASE_URL</code>" in page.raw
    assert f"billing-stream explain {M1}".encode() in page.raw


@pytest.mark.parametrize("asked", ["one.example", "shopify:one.example", M1, M1.upper()])
async def test_a_merchant_is_found_by_shop_and_by_id_from_any_worker(
    two: Cluster, asked: str
) -> None:
    await two.create(M1, "one.example")

    for node in two.nodes:
        path = f"/ops/merchants?q={asked}"
        reply = await get(node.url, path, operator_headers(), allow_redirects=False)
        assert (reply.status, reply.headers["Location"]) == (303, f"/ops/merchants/{M1}")


@pytest.mark.parametrize("asked", ["two.example", "stripe:one.example", M2, "%F0%9F%92%B3"])
async def test_who_is_not_known_is_said_not_to_be(two: Cluster, asked: str) -> None:
    await two.create(M1, "one.example")

    reply = await get(two.nodes[0].url, f"/ops/merchants?q={asked}", operator_headers())

    assert reply.status == 404
    assert b"There is no merchant" in reply.raw


async def test_what_a_worker_tells_names_no_merchant(two: Cluster) -> None:
    await two.create(M1, "one.example")
    await two.buy(M1, 1)

    for path in ("/internal/ops/figures", "/internal/ops/rows"):
        reply = await get(two.owner(M1).url, path, old_worker_headers())
        told = json.dumps(reply.body)
        assert M1 not in told
        assert "one.example" not in told
