"""All connections of a moment, in a few numbers."""

from collections import Counter
from collections.abc import Iterable

import attrs

from livesync_trio.connection.peer import Peer


@attrs.define
class PeersStatistics:
    """The connections of a moment.

    Attributes:
        by_generation: open WebSockets by client generation, `unknown` until the first request says which.
        outbox_bytes: queued for all peers together.
        outbox_longest_bytes: queued for the one with most.
        pulls_following: live pulls at the head of their store.
        pulls_reading: pulls that still read history.
        lag_events: by how many numbers the pull that is furthest behind is behind.
    """

    by_generation: Counter[str] = attrs.field(factory=Counter)
    outbox_bytes: int = 0
    outbox_longest_bytes: int = 0
    pulls_following: int = 0
    pulls_reading: int = 0
    lag_events: int = 0


def statistics(peers: Iterable[Peer]) -> PeersStatistics:
    """Look at every peer; costs a few microseconds for each of them."""
    found = PeersStatistics()
    for peer in peers:
        found.by_generation[UNKNOWN if peer.generation is None else str(peer.generation)] += 1
        queued_bytes = peer.outbox.queued_bytes
        found.outbox_bytes += queued_bytes
        found.outbox_longest_bytes = max(found.outbox_longest_bytes, queued_bytes)
        for pull in peer.pulls():
            if pull.following:
                found.pulls_following += 1
            else:
                found.pulls_reading += 1
                found.lag_events = max(found.lag_events, pull.lag)
    return found


UNKNOWN = "unknown"
"""Generation of a client that has not asked for anything."""
