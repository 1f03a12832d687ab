"""An agent that reads one input: batches in, lane out."""

from typing import Any

import faust

from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_inputs import Batch


def read_input(app: faust.App, lanes: Lanes[Any], topic: str, name: str) -> Any:
    """Give every batch of `topic` to the lane that reads its partition. `name` is the agent's."""
    channel = app.topic(
        topic, key_serializer="raw", value_serializer="raw", internal=False, allow_empty=True
    )

    async def intake(stream: Any) -> None:
        async for event in stream.noack().events():
            batch: Batch = event.message.value
            batch.done = event.ack
            lane = lanes.get(batch.lane)
            if lane is None:
                # Revoked since it was fetched: its new owner reads it again.
                event.ack()
            else:
                await lane.put(batch)

    return app.agent(channel, name=name)(intake)
