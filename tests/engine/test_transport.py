"""What Faust's consumer would keep, and ours does not."""

from collections import defaultdict
from typing import Any

from billing_stream.faust_adapter.transport import EngineConsumer


class Message:
    """A message as Faust's streams acknowledge it."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.topic = "t"
        self.tp = ("t", 0)
        self.acked = False


def test_nothing_is_kept_of_what_was_acknowledged() -> None:
    consumer: Any = EngineConsumer.__new__(EngineConsumer)
    consumer._unacked_messages = set()
    consumer._waiting_for_ack = None
    consumer._acked = defaultdict(list)
    consumer._acked_index = defaultdict(set)
    messages = [Message(offset) for offset in range(100)]
    consumer._unacked_messages.update(messages)

    acked = [consumer.ack(message) for message in messages]
    again = [consumer.ack(message) for message in messages]

    assert all(acked)
    assert not any(again)
    assert consumer._unacked_messages == set()
    assert dict(consumer._acked) == dict(consumer._acked_index) == {}
