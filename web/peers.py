"""The other workers: who owns a partition, and how they are asked. One hop, never more."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus

from yarl import URL

from billing_stream.engine.partition_processor import FAILED
from billing_stream.faust_adapter.assignment import Distribution, distribution, own_url
from billing_stream.faust_adapter.faust_app import App
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from billing_stream.web.envelope import ApiError, Ids, WebCode, not_ready, outcome_unknown
from billing_stream.web.peer_client import (
    AWAY,
    FIGURES_PATH,
    NEVER_SENT,
    AddressNotAllowed,
    PeerClient,
)
from billing_stream.web.peer_tokens import Call
from billing_stream.web.refusals import Credential, Refusals

logger = logging.getLogger(__name__)

# What is wrong between two workers is known before a client needs it.
WATCH_SECONDS = 15.0
ASK_SECONDS = 1.5
WARNINGS_MAX = 10


class Peers:
    """Sends requests to the workers that own the partitions."""

    def __init__(self, app: App, client: PeerClient, refusals: Refusals, topics: Topics) -> None:
        self._app = app
        self._changelog = topics.changelog(names.BILLING_RECORDS)
        self._client = client
        self._refusals = refusals
        self._assignment: Distribution | None = None
        self._urls: Mapping[int, str] = {}
        self._noted: set[str] = set()

    @property
    def own_url(self) -> str:
        """Where others reach this worker."""
        return own_url(self._app)

    def assigned(self) -> dict[str, list[int]]:
        """The workers and their partitions, by the latest assignment that we know."""
        found = distribution(self._app)
        return {url: list(topics.get(self._changelog, ())) for url, topics in found.items()}

    def url_of(self, partition: int) -> str | None:
        """The worker that owns the partition, by the latest assignment that we know."""
        assignment = distribution(self._app)
        if assignment is not self._assignment:
            self._urls = {
                partition: url
                for url, topics in assignment.items()
                for partition in topics.get(self._changelog, ())
            }
            self._assignment = assignment
            self._noted.clear()
        return self._urls.get(partition)

    def trouble(self, url: str) -> str | None:
        """Why a worker is not asked, or in vain; None where nothing is known to be wrong."""
        return None if url == self.own_url else self._client.trouble(url)

    def warnings(self) -> list[str]:
        """The troubles between this worker and others, for operators."""
        found = []
        if not self._client.allows(self.own_url):
            found.append(f"BILLING_PEERS does not match the address of this worker, {self.own_url}")
        troubles = {url: self.trouble(url) for url in self.assigned()}
        found += [f"the worker at {url} {why}" for url, why in sorted(troubles.items()) if why]
        return found[:WARNINGS_MAX]

    async def watch(self) -> None:
        """Ask the other workers from time to time."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Ask each of the other workers once."""
        urls = self.assigned().keys() - {self.own_url}
        self._client.keep(urls)
        for url in urls:
            try:
                await self.ask_at(url, FIGURES_PATH, Ids("peers", "peers"), ASK_SECONDS)
            except ApiError as error:
                logger.debug("the worker at %s was asked in vain: %s", url, error.message)

    async def ask(
        self,
        method: str,
        partition: int,
        path: str,
        ids: Ids,
        seconds: float,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        operator: str | None = None,
    ) -> bytes:
        """The body of the owner's good answer. `operator` is who asks, where it is one.

        Raises ApiError: NOT_READY when surely nothing was done (the partition has no owner,
        the owner may not be asked, cannot be reached, or refuses); OUTCOME_UNKNOWN when a
        request other than GET was sent and not answered.
        """
        url = self.url_of(partition)
        if url is None or url == self.own_url:
            raise not_ready(f"partition {partition} is recovering")
        try:
            call = Call(url, method, URL(path).with_query(query).raw_path_qs, body, operator)
            status, answer = await self._send(call, path, ids, seconds)
        except AWAY as error:
            # Not the error itself: some show the headers of the request, and so a token.
            self.note(logging.WARNING, url, f"does not answer: {type(error).__name__}")
            if method == "GET" or isinstance(error, NEVER_SENT):
                raise not_ready(f"the owner of partition {partition} does not answer") from None
            raise outcome_unknown("the worker that was asked did not answer") from None
        if status == HTTPStatus.OK:
            self._noted.discard(url)
            return answer
        if status == HTTPStatus.INTERNAL_SERVER_ERROR and FAILED.encode() in answer:
            raise ApiError(WebCode.INTERNAL_ERROR, FAILED)
        if status != HTTPStatus.SERVICE_UNAVAILABLE:
            level = logging.WARNING if status == HTTPStatus.GATEWAY_TIMEOUT else logging.ERROR
            self.note(level, url, self.trouble(url) or f"rejected the internal token with {status}")
            if method != "GET" and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise outcome_unknown("the worker that was asked has not done it")
        raise not_ready(f"the owner of partition {partition} is not ready")

    async def ask_at(self, url: str, path: str, ids: Ids, seconds: float) -> bytes:
        """The body of the good answer of one worker, whatever it owns, to a GET.

        Raises ApiError (NOT_READY).
        """
        try:
            status, body = await self._send(Call(url, "GET", path), path, ids, seconds)
        except AWAY as error:
            raise not_ready(f"{url} does not answer: {type(error).__name__}") from None
        if status != HTTPStatus.OK:
            raise not_ready(f"{url} answers with {status}")
        return body

    def not_understood(self, partition: int, error: Exception) -> ApiError:
        """The error for an invalid answer of an owner; logged once."""
        self.note(logging.ERROR, self.url_of(partition) or "?", f"is not understood: {error}")
        return not_ready(f"the owner of partition {partition} is not understood")

    def note(self, level: int, url: str, why: str) -> None:
        """Log the problem of a worker: once, until it answers or partitions move."""
        if url not in self._noted:
            self._noted.add(url)
            logger.log(level, "the worker at %s %s", url, why)

    async def _send(self, call: Call, path: str, ids: Ids, seconds: float) -> tuple[int, bytes]:
        """As of the client; ApiError (NOT_READY) where the address is not allowed."""
        try:
            return await self._client.send(call, ids, seconds)
        except AddressNotAllowed:
            self._refusals.note(Credential.PEER_ADDRESS, path)
            raise not_ready("the worker to be asked has an address that is not allowed") from None

    async def close(self) -> None:
        """Close the connections to other workers."""
        await self._client.close()
