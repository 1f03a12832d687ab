"""Records of the changelog about inputs: positions, their logs and order, and stops."""

from collections.abc import Callable
from typing import Any

from billing_stream.audit.verify.facts import TOPIC_CHANGED, History, input_of
from billing_stream.audit.verify.log_records import Record
from billing_stream.audit.written_order import OrderMark

POSITION, STOPPED, LOG, ORDER = "\0position/", "\0stopped/", "\0log/", "\0order"
FILLED = "\0mark/charges/filled"
SHOP_TRIAL = "\0mark/trial/"


def take(history: History, key: str, record: Record, decode: Callable[[bytes], Any]) -> str | None:
    """Note one of them; its fault, or None. Raises ValueError when it is unreadable."""
    partition, value = record.partition, record.value
    if key.startswith(STOPPED):
        at = input_of(key.removeprefix(STOPPED), partition)
        history.stopped.pop(at, None)
        if value is not None:
            stop = decode(value)
            history.stopped[at] = stop["reason"], stop.get("cause")
    elif key.startswith(LOG):
        history.marks[input_of(key.removeprefix(LOG), partition)] = decode(value or b"")
    elif key == FILLED:
        history.charges.filled.add(partition)
    elif key.startswith(SHOP_TRIAL):
        history.shop_trials.rows[key.removeprefix(SHOP_TRIAL)] = (value or b"").decode()
    elif key == ORDER:
        mark = decode(value or b"")
        history.order_marks[partition] = OrderMark(mark["number"], mark["read"])
    if not key.startswith(POSITION):
        return None
    name, position = key.removeprefix(POSITION), int(value or b"")
    positions = history.positions.setdefault(partition, {})
    before, positions[name] = positions.get(name, 0), position
    topic, partition = input_of(name, partition)
    # When an operator accepts that its topic changed, the stop is lifted in one with this.
    _, kind = history.stopped.get((topic, partition), ("", None))
    if position < before and kind != TOPIC_CHANGED:
        return f"the position in {topic}[{partition}] went back, {before} to {position}"
    return None
