"""What the handlers of a worker's HTTP operations work with."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing_stream.config.listener_settings import Address
from billing_stream.domain.model import Platform, Purchase
from billing_stream.domain.policy import Pack, Policy
from billing_stream.engine.watchdog import Watchdog
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.platforms import base
from billing_stream.web.commands import Checkouts, Commands
from billing_stream.web.ingress import Ingress
from billing_stream.web.limits import BodyLimit, ConcurrencyLimit, Connections, RateLimit
from billing_stream.web.models import PurchaseBody, purchase_body
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.dashboard import Dashboard
from billing_stream.web.ops.ended_sessions import EndedSessions
from billing_stream.web.owners import PartitionRouter
from billing_stream.web.peer_tokens import PeerCalls
from billing_stream.web.peers import Peers
from billing_stream.web.projection import Projection
from billing_stream.web.refusals import Refusals
from billing_stream.web.webhook_dead_letters import WebhookDeadLetters


@dataclass(frozen=True)
class Context:
    """One per worker; `request_seconds` is how long a request may take.

    `sellable` is `platforms.sellable.sellable_packs` for the settings of the worker.
    """

    owners: PartitionRouter
    peers: Peers
    peer_calls: PeerCalls
    commands: Commands
    checkouts: Checkouts
    platforms: Mapping[Platform, base.Platform]
    ingress: Ingress
    webhook_dead_letters: WebhookDeadLetters
    projection: Projection
    dashboard: Dashboard
    ended_sessions: EndedSessions
    cookies: CookiePolicy
    rate_limit: RateLimit
    webhook_limit: RateLimit
    login_limit: RateLimit
    refusals: Refusals
    gate: ConcurrencyLimit
    bodies: BodyLimit
    request_seconds: float
    connections: Connections
    other_listeners: Mapping[Address, Connections]
    watchdog: Watchdog
    metrics: WorkerMetrics
    client_secrets: tuple[str, ...]
    client_token_lifetime: timedelta | None
    internal_secrets: tuple[str, ...]
    max_record_bytes: int
    policy: Policy
    sellable: Callable[[Mapping[str, Any]], dict[str, Pack]]

    def bodies_of(self, purchases: Iterable[Purchase]) -> list[PurchaseBody]:
        """Purchases as clients read them."""
        old = self.policy.currency_of_old_rows or self.policy.currency
        return [purchase_body(purchase, old) for purchase in purchases]

    def now(self) -> datetime:
        """The time by which the lanes decide."""
        return self.watchdog.lanes.clock()
