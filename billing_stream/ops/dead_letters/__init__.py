"""Dead letters: find them, look at them, redrive or discard them, and who did it.

For code: `find`, `find_one`, `redrive` and `discard`, on a `Cluster`. A letter that is redriven
is processed once: the copy and the record of who sent it are one transaction under one
transactional id, so that of two who begin at once one gets an error; and the lane carries out one
copy of a letter, however many there are.
"""

from billing_stream.ops.dead_letters.acting import ActionResult, discard, redrive
from billing_stream.ops.dead_letters.action_log import State
from billing_stream.ops.dead_letters.dead_letter_history import (
    DeadLetterHistory,
    Filters,
    find,
    find_one,
)
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.entries import DeadLetterEntry

__all__ = [
    "ActionResult",
    "Cluster",
    "DeadLetterEntry",
    "DeadLetterHistory",
    "Filters",
    "State",
    "discard",
    "find",
    "find_one",
    "redrive",
]
