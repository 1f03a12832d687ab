"""Whether workers accept tokens signed with the INTERNAL_JWT_SECRET of this environment."""

from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus

from billing_stream.config.settings import Settings
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.group_members import describe_group
from billing_stream.ops.doctor.finding import Finding, Verdict, fail, ok, warn
from billing_stream.plain_text import shown
from billing_stream.web.envelope import Ids
from billing_stream.web.peer_client import AWAY, FIGURES_PATH, NOT_ALLOWED, PeerClient
from billing_stream.web.peer_tokens import Call

CHECK = "peers"
ASK_SECONDS = 1.5


async def check_peers(settings: Settings) -> AsyncIterator[Finding]:
    """Ask each worker of the group, by the address that it has given to the others."""
    group = settings.topic_prefix + settings.app_id
    found = await describe_group(await answering(client_options(settings)), group)
    urls = (member.url for member in found.members)
    async for finding in ask_workers(settings, sorted(url for url in urls if url is not None)):
        yield finding


async def ask_workers(settings: Settings, urls: Iterable[str]) -> AsyncIterator[Finding]:
    """A finding for each of these workers that is in trouble, or that all accept our tokens."""
    client, accepted = PeerClient(settings), 0
    wrong: dict[tuple[Verdict, str, str], list[str]] = {}
    try:
        for url in urls:
            finding = await _ask(client, url)
            accepted += finding is None
            if finding is not None:
                cause = finding.verdict, finding.message, finding.action
                wrong.setdefault(cause, []).append(shown(url))
    finally:
        await client.close()
    for (verdict, why, action), where in wrong.items():
        name = "the worker at" if len(where) == 1 else f"each of {len(where)} workers at"
        yield Finding(CHECK, verdict, f"{name} {', '.join(where)} {why}", action)
    if accepted and not wrong:
        yield ok(CHECK, f"{accepted} workers accept the tokens of this environment")


async def _ask(client: PeerClient, url: str) -> Finding | None:
    if not client.allows(url):
        action = "fix BILLING_PEERS, or find out who has joined the consumer group"
        return fail(CHECK, NOT_ALLOWED, action)
    try:
        call = Call(url, "GET", FIGURES_PATH)
        status, _ = await client.send(call, Ids("doctor", "doctor"), ASK_SECONDS)
    except AWAY as error:
        message = f"does not answer: {type(error).__name__}"
        return warn(CHECK, message, "run doctor where workers reach each other")
    if status == HTTPStatus.UNAUTHORIZED:
        action = (
            "give all workers and this shell the same one: `billing-stream docs rotate-secrets`"
        )
        return fail(CHECK, client.trouble(url) or "refuses our tokens", action)
    if status != HTTPStatus.OK:
        return warn(CHECK, f"answers with {status}", "see its log")
    return None
