"""Fetch sessions (KIP-227): a broker keeps what a client fetches, and fetches name the changes.

Without one, each fetch and its answer name every partition that is read, also those in which
nothing happens: at low load most of what both sides do. aiokafka has none.
"""

from collections.abc import Sequence
from typing import Any

from billing_stream.kafka.log_requests import Place, SessionFetch

NO_SESSION = 0
# The epoch of the fetch that begins one.
FIRST = 0
EPOCH_MAX = 2**31 - 1


class FetchSession:
    """The session with one broker. Each `next` must be followed by `answered` or `failed`.

    A broker sends the records at the places that it knows, whatever the client kept of earlier
    answers. So a place is known to it once it was sent.
    """

    def __init__(self) -> None:
        self._id = NO_SESSION
        self._epoch = FIRST
        self._known: dict[tuple[bytes, int], Place] = {}

    def next(self, places: Sequence[Place]) -> SessionFetch:
        """The fetch that has the broker read these places, and no others."""
        wanted = {(place.topic_id, place.partition): place for place in places}
        known, self._known = self._known, wanted
        changed = [place for log, place in wanted.items() if known.get(log) != place]
        forgotten = [place for log, place in known.items() if log not in wanted]
        return SessionFetch(changed, forgotten, self._id, self._epoch)

    def answered(self, answer: Any) -> None:
        """Take the broker's answer; after an error the next fetch begins a session."""
        if answer.error_code or answer.session_id == NO_SESSION:
            # Without an error: the broker has no room for one more session.
            self.failed()
        else:
            self._id = answer.session_id
            # 0 would begin another one.
            self._epoch = self._epoch % EPOCH_MAX + 1

    def failed(self) -> None:
        """What the broker knows is uncertain: begin another session, which ends this one."""
        self._epoch = FIRST
        self._known = {}
