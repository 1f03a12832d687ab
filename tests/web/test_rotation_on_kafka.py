"""A secret is replaced, worker by worker, and nobody is refused meanwhile."""

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from tests.support.tokens import client_headers, client_token, operator_token
from tests.support.traffic import Traffic
from tests.support.worker import CLIENT_SECRET, INTERNAL_SECRET, create_topics, environment, worker
from tests.web.test_two_workers import Client, wait_for_all

NEW_CLIENT = "client-secret-that-comes-next-0123456789"
NEW_INTERNAL = "internal-secret-that-comes-next-0123456789"
# As docs/rotate-secrets.md says: accept the new one everywhere, then sign with it.
ROUNDS = (
    {"CLIENT_JWT_SECRET_OLD": NEW_CLIENT, "INTERNAL_JWT_SECRET_OLD": NEW_INTERNAL},
    {
        "CLIENT_JWT_SECRET": NEW_CLIENT,
        "CLIENT_JWT_SECRET_OLD": CLIENT_SECRET,
        "INTERNAL_JWT_SECRET": NEW_INTERNAL,
        "INTERNAL_JWT_SECRET_OLD": INTERNAL_SECRET,
    },
)


async def test_workers_of_both_rounds_serve_tokens_of_either_secret(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    async with Traffic(kafka, prefix, 4, 11) as traffic:
        await traffic.merchants(12, purchases_each=1)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        # Each owns half of the partitions, so half of what is asked goes from one to the other.
        workers = [
            await stack.enter_async_context(worker({**env, **settings}, folder))
            for settings in ROUNDS
        ]
        await wait_for_all(Client(session), workers[0], traffic)
        for asked in workers:
            await asked.ready()
            async with session.get(asked.url + "/ready") as ready:
                assert len((await ready.json())["data"]["partitions"]) == 2
            for domain in traffic.expected.domains.values():
                for secret in (CLIENT_SECRET, NEW_CLIENT):
                    headers = client_headers(domain, token=client_token(domain, secret=secret))
                    async with session.get(asked.url + "/api/billing", headers=headers) as reply:
                        assert reply.status == 200, await reply.text()
            for secret in (INTERNAL_SECRET, NEW_INTERNAL):
                headers = {"Authorization": f"Bearer {operator_token('olga', secret=secret)}"}
                url = asked.url + "/internal/adjustments"
                async with session.post(url, headers=headers, json={}) as reply:
                    # Known, and so told what is wrong with the body.
                    assert reply.status == 422, await reply.text()
