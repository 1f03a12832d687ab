"""Dead letters: find them, look at them, send them again or give them up, and who did it.

For code: `find`, `find_one`, `redrive` and `discard`, on a `Cluster`. A letter that is sent again
is processed once: the copy and the record of who sent it are one transaction under one
transactional id, so that of two who begin at once one is told so; and the lane carries out one
copy of a letter, however many there are.
"""

from billing_stream.dead_letters.acting import Outcome, discard, redrive
from billing_stream.dead_letters.cluster import Cluster
from billing_stream.dead_letters.filters import Filters
from billing_stream.dead_letters.finding import Found, find, find_one
from billing_stream.dead_letters.ledger import State
from billing_stream.dead_letters.letters import Letter

__all__ = [
    "Cluster",
    "Filters",
    "Found",
    "Letter",
    "Outcome",
    "State",
    "discard",
    "find",
    "find_one",
    "redrive",
]
