"""How much a reader has to read to follow one purchase from the request to its answer."""

from pathlib import Path

import aiohttp

from tests.support.call_path import call_path
from tests.support.nodes import cluster
from tests.support.tokens import client_headers
from tests.web.conftest import M1

SHOP = "one.example"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}
# What observes a request decides nothing in it.
OBSERVERS = ("billing_stream/observability/", "web/measured.py")
# It may not rise.
FILES_MAX = 26


async def test_a_purchase_goes_through_few_files(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        await found.create(M1, SHOP)
        url = found.nodes[0].url + "/api/billing/purchases"
        headers = client_headers(SHOP)
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                with call_path() as path:
                    async with session.post(url, headers=headers, json=BUY) as reply:
                        assert reply.status == 201

    files = [file for file in path.lines() if not file.startswith(OBSERVERS)]
    print(*files, sep="\n")
    assert len(files) <= FILES_MAX
