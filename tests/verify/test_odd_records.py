"""The verifier and the replay read odd records as the lanes do."""

import json
from typing import Any

from billing_stream.records import topics as names
from billing_stream.records.schemas import REDRIVEN_FROM
from tests.replaying.log import replayed, text
from tests.verify.world import World, merchant_id

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ODD: list[Any] = [None, {}, {"merchant_id": 5}, {"any": "thing"}, [1], "text"]


def created(merchant: str, **more: Any) -> dict[str, Any]:
    domain = f"{merchant[:8]}.example"
    return {"merchant_id": merchant, "platform_name": "shopify", "domain": domain, **more}


async def test_odd_records_are_read_as_the_lanes_read_them() -> None:
    world = await World().restart()
    for number, data in enumerate(ODD):
        world.send(names.MERCHANT_CREATED, created(merchant_id(number), data=data))
    marked = merchant_id(20)
    raw = BYTE_ORDER_MARK + json.dumps({"data": created(marked)}).encode()
    world.send(names.MERCHANT_CREATED, raw, merchant=marked)
    command = {"command": "start_trial", "merchant_id": marked}
    headers: dict[str, Any] = {REDRIVEN_FROM: None, "x": None}
    world.send(names.COMMANDS, command, **headers)
    world.send(names.COMMANDS, b"{", merchant=marked, x=None)
    await world.feed_all()

    copy = world.copy()
    report = await copy.verify()
    again = await replayed(copy)
    await world.stop()

    assert report.faults() == set(), "\n".join(report.lines())
    assert not again.differences, text(again)
    # One merchant per record, and `{"merchant_id": 5}` is an envelope with a bad payload.
    assert again.merchants == len(ODD)
