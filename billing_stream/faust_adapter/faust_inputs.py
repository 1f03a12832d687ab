"""An agent that reads one input: batches in, lanes out."""

from typing import Any

import faust

from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_inputs import Batch


def read_input(app: faust.App, lanes: Lanes[Any], topic: str, name: str) -> Any:
    """Give what was fetched of `topic` to the lanes that read it. `name` is the agent's."""
    # Without acknowledgements: where to go on stands in the lanes' transactions.
    raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw"}
    channel = app.topic(topic, **raw, internal=False, allow_empty=True, acks=False)

    async def intake(stream: Any) -> None:
        async for event in stream.noack().events():
            batches: list[Batch] = event.message.value
            for batch in batches:
                lane = lanes.get(batch.lane)
                # If it was revoked since the fetch, its new owner reads it again.
                if lane is not None:
                    lane.put(batch)

    return app.agent(channel, name=name)(intake)
