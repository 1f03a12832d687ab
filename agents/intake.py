"""What the agents have in common."""

from typing import Any

import faust

from billing_stream.engine.batch import Batch
from billing_stream.engine.lanes import Lanes


def register_intake(app: faust.App, lanes: Lanes, topic: str, name: str) -> Any:
    """An agent that hands every batch of `topic` to the lane of its partition."""
    channel = app.topic(
        topic,
        key_serializer="raw",
        value_serializer="raw",
        internal=False,
        allow_empty=True,
    )

    async def intake(stream: Any) -> None:
        async for event in stream.noack().events():
            batch: Batch = event.message.value
            batch.done = event.ack
            lane = lanes.get(event.message.partition)
            if lane is None:
                # Revoked meanwhile: its new owner reads it again.
                event.ack()
            else:
                await lane.put(batch)

    return app.agent(channel, name=name)(intake)
