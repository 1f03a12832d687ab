"""A request on which a rule fails: 500, nothing is stored, its key stays free, others go on."""

import asyncio
from typing import Any

import pytest

from billing_stream.domain.decide import decide
from billing_stream.records import topics as names
from tests.support.nodes import Cluster
from tests.web.conftest import M1, M2

SHOP, OTHER = "one.example", "two.example"
TRIALS = "/api/billing/trials"


@pytest.mark.logs_errors
@pytest.mark.parametrize("asked", [0, 1])
async def test_request_on_which_a_rule_fails_is_refused_and_its_key_is_free(
    two: Cluster, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two.create(M1, SHOP)
    await two.create(M2, OTHER)
    broken = True

    def failing(state: Any, command: Any, now: Any) -> Any:
        if broken and command.merchant_id == M1:
            raise ZeroDivisionError
        return decide(state, command, now)

    monkeypatch.setattr("billing_stream.processor.decide", failing)
    node = two.nodes[asked]
    refused, good = await asyncio.gather(
        node.post(TRIALS, SHOP, Idempotency_Key="key-1"), node.post(TRIALS, OTHER)
    )

    assert (refused.status, refused.code) == (500, "INTERNAL_ERROR")
    message = "a rule failed on this request: nothing was done, and the failure is logged"
    assert refused.body["error"] == {"code": "INTERNAL_ERROR", "message": message, "details": None}
    assert good.status == 201
    entries = [r for r in two.log.read(names.JOURNAL) if b"start_trial" in (r.value or b"")]
    assert [entry.key for entry in entries] == [M2.encode()]

    broken = False
    again = await node.post(TRIALS, SHOP, Idempotency_Key="key-1")
    assert again.status == 201
