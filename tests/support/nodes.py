"""Workers without a broker: real lanes on a log in memory, real HTTP, in one process."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import aiohttp
import faust
from aiohttp import web
from aiohttp.test_utils import TestServer

from billing_stream.config.settings import Settings
from billing_stream.domain.commands import (
    AttachCharge,
    Command,
    CreateMerchant,
    ReservePurchase,
    UpdateCharge,
)
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import PurchaseOpened
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Outgoing, Request
from billing_stream.engine.partitioner import partition_of
from billing_stream.engine.watchdog import Watchdog
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.platforms import base
from billing_stream.processor import BillingProcessor
from billing_stream.records import topics as names
from billing_stream.records.schemas import Headers
from billing_stream.records.topics import Topics
from billing_stream.web import server
from billing_stream.web.context import Context
from billing_stream.web.operation import OPERATION
from chaos.promises import without_ids as without_ids
from tests.support.catalogue import MemoryCatalogueLog, OperatorCommands
from tests.support.memory_log import MemoryLog
from tests.support.partition import Record, until_committed
from tests.support.platform import FakePlatform, MemoryIngress
from tests.support.ports import free_port
from tests.support.signed_webhooks import SECRETS
from tests.support.tokens import client_headers
from tests.support.worker import environment

TOPICS = Topics("app")
PARTITIONS = 4


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: Any
    raw: bytes = b""

    @property
    def data(self) -> Any:
        """The data of a good answer."""
        assert self.status in (HTTPStatus.OK, HTTPStatus.CREATED), self.body
        return self.body["data"]

    @property
    def replayed(self) -> bool:
        """Whether it says that it is a stored answer."""
        return self.headers.get("Idempotent-Replayed") == "true"

    @property
    def without_ids(self) -> str:
        """The body without the ids of the request: the same in every repetition."""
        return without_ids(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return str(self.body["error"]["code"])


async def get(
    url: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    **options: Any,
) -> Reply:
    """Ask once, on a connection of its own."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
        session.request(method, url + path, headers=headers, **options) as response,
    ):
        raw = await response.read()
        body = json.loads(raw) if "json" in response.headers.get("Content-Type", "") else None
        return Reply(response.status, response.headers, body, raw)


def platforms_of(fake: FakePlatform | None) -> Mapping[Platform, base.Platform] | None:
    """The same fake for two platforms, or None: those of the settings."""
    return None if fake is None else {Platform.SHOPIFY: fake, Platform.STRIPE: fake}


class _Server(TestServer):
    """A server with the bounds of the worker's own."""

    context: Context

    async def _make_runner(self, **options: Any) -> web.AppRunner:
        return self.context.connections.runner(self.app, self.context.other_listeners, **options)


class Node:
    """One worker: the lanes of some partitions, and the web on them."""

    def __init__(
        self, log: MemoryLog, folder: str, platform: FakePlatform | None, **settings: str
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.now: datetime | None = None
        env = environment("127.0.0.1:1", "", BILLING_PARTITIONS=str(PARTITIONS), **settings)
        found = Settings.model_validate(env)
        self.lanes = Lanes(
            log,
            partial(
                BillingProcessor,
                partitions=PARTITIONS,
                policy=found.policy,
                names=TOPICS,
                max_record_bytes=100_000,
            ),
            positions_topic=TOPICS.changelog(names.BILLING_RECORDS),
            stoppable=TOPICS.stoppable(),
            commands=names.OPERATOR_COMMANDS,
            clock=lambda: self.now or datetime.now(UTC),
        )
        self.app = faust.App(
            "app",
            datadir=folder,
            web_host="127.0.0.1",
            web_port=self.port,
            web_application_options=server.application_options(found),
        )
        self.ingress = MemoryIngress()
        self.metrics = WorkerMetrics()
        self.context: Context = server.register(
            self.app,
            Watchdog(self.lanes, die=lambda *_: None),
            TOPICS,
            found,
            metrics=self.metrics,
            platforms=platforms_of(platform),
            ingress=self.ingress,
        )
        self.context.ended_sessions.loaded = True
        self._undeclared: list[str] = []
        application: web.Application = cast(Any, self.app.web).web_app
        application.on_response_prepare.append(self._note_undeclared)
        self._server = _Server(application, port=self.port)
        self._server.context = self.context

    async def start(self, partitions: list[int]) -> None:
        """Own these partitions and listen."""
        await self.own(partitions)
        self.app.web.init_server()
        await self._server.start_server(**server.RUNNER_OPTIONS)

    def hears(self, owned: Mapping[str, list[int]]) -> None:
        """Learn from the group which url owns which partitions."""
        changelog = TOPICS.changelog(names.BILLING_RECORDS)
        metadata = {url: {changelog: partitions} for url, partitions in owned.items()}
        cast(Any, self.app.assignor).changelog_distribution = metadata

    async def own(self, partitions: list[int]) -> None:
        """As after a rebalance: these partitions and no others."""
        await self.lanes.pause()
        await self.lanes.drop(set(self.lanes) - set(partitions))
        restored = await self.lanes.restore(set(partitions) - set(self.lanes))
        self.lanes.adopt(restored)
        self.lanes.next_epoch()
        self.lanes.start()

    async def stop(self) -> None:
        """Stop listening, and let the partitions go. Every answer was one that is declared."""
        await self._server.close()
        await self.lanes.drop(set(self.lanes))
        assert not self._undeclared, self._undeclared

    async def _note_undeclared(self, request: web.Request, response: web.StreamResponse) -> None:
        operation = request.get(OPERATION)
        if operation is None or not isinstance(response, web.Response):
            return
        if "Content-Encoding" in response.headers:
            # The same for everyone, and no envelope.
            return
        error = None
        if response.content_type == "application/json":
            said = json.loads(cast(bytes, response.body) or b"null")
            error = said.get("error") if isinstance(said, dict) else None
        declared = operation.every_code() if error is not None else ()
        is_good = error is None and (operation.about is None or response.status == operation.status)
        if not is_good and (error is None or error["code"] not in declared):
            told = f"{operation.method} {operation.path} answers {response.status} {error}"
            self._undeclared.append(told)

    async def get(self, path: str, domain: str | None = None, **headers: str) -> Reply:
        """Ask this worker; for `domain` with good headers, else without any."""
        sent = client_headers(domain, **headers) if domain else headers
        return await get(self.url, path, sent)

    async def post(self, path: str, domain: str, body: Any = None, **headers: str) -> Reply:
        """Ask this worker to do something, as a client of `domain` with good headers."""
        sent = client_headers(domain, **headers)
        return await get(self.url, path, sent, method="POST", json=body)


class Cluster:
    """Some workers that know each other, and what clients do through other ways."""

    def __init__(self, log: MemoryLog, nodes: list[Node], platform: FakePlatform) -> None:
        self.log = log
        self.nodes = nodes
        self.platform = platform
        self.operators = OperatorCommands(self)
        self._told: Counter[tuple[str, int]] = Counter()
        self._routed_read: Counter[int] = Counter()
        self._webhooks_read: Counter[tuple[str, int]] = Counter()

    def assign(self, owned: Mapping[int, list[int]]) -> None:
        """Tell every worker which node (by its number) owns what."""
        for node in self.nodes:
            node.hears({self.nodes[number].url: p for number, p in owned.items()})

    def owner(self, key: str) -> Node:
        """The worker with the lane of the key."""
        partition = partition_of(key, PARTITIONS)
        return next(node for node in self.nodes if partition in node.lanes)

    def other(self, key: str) -> Node:
        """A worker without it."""
        return next(node for node in self.nodes if node is not self.owner(key))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The data of all published events of one kind."""
        return [json.loads(r.value or b"")["data"] for r in self.log.read(names.event_type(kind))]

    async def do(self, command: Command) -> Any:
        """As `ask`, and whose shops and charges are whose is known."""
        reply = await self.ask(command)
        await self.tell_shops()
        return reply

    async def ask(self, command: Command) -> Any:
        """Carry out a command at its owner; the reply."""
        lane = self.owner(command.merchant_id).lanes[partition_of(command.merchant_id, PARTITIONS)]
        answered = await lane.ask(Request(command, "cli", "c-1"))
        return answered.reply

    async def create(self, merchant_id: str, domain: str, platform: str = "shopify") -> None:
        """A merchant with a billing record and a shop."""
        await self.do(CreateMerchant(merchant_id, platform, domain, f"create/{domain}"))

    async def buy(self, merchant_id: str, number: int, *, paid: bool = True) -> str:
        """A purchase, paid or pending; its id."""
        reply: PurchaseOpened = await self.do(
            ReservePurchase(
                merchant_id, "small", Platform.SHOPIFY, command_id=f"{merchant_id}/{number}"
            )
        )
        charge = f"gid://shopify/AppPurchaseOneTime/{number}"
        await self.do(AttachCharge(merchant_id, reply.purchase_id, charge, "https://pay.example/1"))
        if paid:
            await self.do(UpdateCharge(merchant_id, charge, "ACTIVE", f"paid/{number}"))
        return reply.purchase_id

    async def take_webhooks(self) -> None:
        """Let the lanes take what came over HTTP since the last time."""
        for webhook in [kept for node in self.nodes for kept in node.ingress.taken()]:
            partition = partition_of(webhook.key, PARTITIONS)
            value, key = (
                webhook.value(self.nodes[0].now or datetime.now(UTC)),
                webhook.record_key or b"merchant",
            )
            if webhook.topic == names.CHARGES:
                # Lanes write there, too.
                self.log.append(names.CHARGES, partition, Outgoing(names.CHARGES, key, value))
            else:
                await self.take(webhook.topic, partition, value)
        await self.tell_charges()

    async def take(
        self, topic: str, partition: int, value: bytes | None, headers: Headers = ()
    ) -> None:
        """Let a lane take one record more of a topic that lanes of this cluster do not write."""
        now = self.nodes[0].now or datetime.now(UTC)
        offset = self._webhooks_read[topic, partition]
        self._webhooks_read[topic, partition] += 1
        at = int(now.timestamp() * 1000)
        record = Record(topic, offset, value, b"key", at, partition, headers)
        await self.put(partition, topic, [record], offset)

    async def put(self, partition: int, topic: str, records: list[Any], start: int) -> None:
        """Deliver records to the lane that owns the partition, and wait for its transaction."""
        node = next(node for node in self.nodes if partition in node.lanes)
        lane = node.lanes[partition]
        lane.put(Batch(topic, records, start, node.lanes.epoch))
        await until_committed(lane)

    async def tell_shops(self) -> None:
        """Let the lanes take the shops and charges that were registered."""
        await self._tell(names.SHOPS)
        await self.tell_charges()

    async def tell_charges(self) -> None:
        """Let the lanes take registrations of charges, and webhooks that found theirs."""
        await self._tell(names.CHARGES)
        for partition in range(PARTITIONS):
            routed = self.log.topics.get((names.COMMANDS, partition), [])
            while self._routed_read[partition] < len(routed):
                record = routed[self._routed_read[partition]]
                self._routed_read[partition] += 1
                await self.take(names.COMMANDS, partition, record.value, record.headers)

    async def _tell(self, topic: str) -> None:
        for partition in range(PARTITIONS):
            records = self.log.topics.get((topic, partition), [])
            begin = self._told[topic, partition]
            told: list[Any] = [
                Record(topic, offset, records[offset].value, partition=partition)
                for offset in range(begin, len(records))
            ]
            if not told:
                continue
            self._told[topic, partition] = len(records)
            await self.put(partition, topic, told, begin)


@asynccontextmanager
async def cluster(
    folder: str,
    owned: Mapping[int, list[int]],
    apart: Mapping[int, Mapping[str, str]] | None = None,
    /,
    **settings: str,
) -> AsyncIterator[Cluster]:
    """A running cluster; `owned` says which node has which partitions.

    `apart` has settings of single nodes.
    """
    async with _cluster(folder, owned, FakePlatform(), settings, apart or {}) as found:
        yield found


@asynccontextmanager
async def signed_cluster(
    folder: str, owned: Mapping[int, list[int]], **settings: str
) -> AsyncIterator[Cluster]:
    """A running cluster, whose platforms are those of the settings and verify signatures."""
    async with _cluster(folder, owned, None, {**SECRETS, **settings}, {}) as found:
        yield found


@asynccontextmanager
async def _cluster(
    folder: str,
    owned: Mapping[int, list[int]],
    platform: FakePlatform | None,
    settings: Mapping[str, str],
    apart: Mapping[int, Mapping[str, str]],
) -> AsyncIterator[Cluster]:
    log = MemoryLog({table: TOPICS.changelog(table) for table in names.TABLES})
    nodes = [
        Node(log, f"{folder}/{number}", platform, **{**settings, **apart.get(number, {})})
        for number in owned
    ]
    for node in nodes:
        node.ingress.followers = [one.context.ended_sessions for one in nodes]
    found = Cluster(log, nodes, platform or FakePlatform())
    for node in nodes:
        node.context.dashboard.catalogue_log = MemoryCatalogueLog(found)
    found.assign(owned)
    try:
        for node, partitions in zip(nodes, owned.values(), strict=True):
            await node.start(partitions)
        yield found
    finally:
        for node in nodes:
            await node.stop()
