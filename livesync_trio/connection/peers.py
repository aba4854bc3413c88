"""The open WebSockets of a server: who is connected, who has fallen silent, and the farewell at the end.

Owns the table of peers and the one timer that watches the silence of all of them.
"""

from collections.abc import Iterator

import trio

from livesync_trio.connection.peer import Peer
from livesync_trio.errors import Kind
from livesync_trio.limits import LIVENESS_SWEEP_S, PROBE_AFTER_S


class Peers:
    """The table of connected peers."""

    def __init__(self, idle_limit_s: float) -> None:
        """`idle_limit_s`: silence after which a peer is taken for dead."""
        self._idle_limit_s = idle_limit_s
        self._probe_after_s = min(PROBE_AFTER_S, idle_limit_s / 2)  # so that nobody is closed unasked
        self._peers: dict[Peer, None] = {}  # in the order of arrival, so that a test's seed decides everything
        self._none_left = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers))

    async def run(self, peer: Peer) -> None:
        """Serve a peer until it goes."""
        self._peers[peer] = None
        try:
            await peer.run()
        finally:
            del self._peers[peer]
            if not self._peers:
                self._none_left.unpark_all()

    async def watch(self) -> None:
        """Probe peers that have fallen silent and close those that stay so. Runs until cancelled."""
        while True:
            await trio.sleep(min(LIVENESS_SWEEP_S, self._idle_limit_s / 4))
            now_s = trio.current_time()
            for peer in tuple(self._peers):
                silence_s = now_s - peer.last_heard_s
                if silence_s >= self._idle_limit_s:
                    peer.close(Kind.SILENT)
                elif silence_s >= self._probe_after_s:
                    peer.probe()

    async def say_goodbye(self) -> None:
        """Close every peer with 1012 after what is queued for it, and wait until they are gone."""
        for peer in tuple(self._peers):
            peer.close(Kind.SERVICE_RESTART)
        while self._peers:
            await self._none_left.park()
