"""WebSocket requests that lost on the way what makes them one, as behind a proxy that is not set up for WebSockets.

The browser that sent one is told next to nothing, so the server remembers the last few: the console's check says which
header is missing. Bounded, since strangers write them.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import attrs

from livesync_trio.transport.http import Request

LOST_UPGRADES_KEPT: Final = 32
_STORE_KEPT: Final = 200
"""Characters of a store's name that are kept."""


@attrs.frozen
class LostUpgrade:
    """One of them.

    Attributes:
        number: counts them.
        at: when it came.
        store_id: the store it was for; the beginning of a long name.
        missing: headers without which it is no request for a WebSocket.
    """

    number: int
    at: datetime
    store_id: str
    missing: tuple[str, ...]


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.define(eq=False)
class LostUpgrades:
    """The last of them. `now`: tells the time."""

    now: Callable[[], datetime] = _now
    total: int = 0
    kept: deque[LostUpgrade] = attrs.field(factory=lambda: deque(maxlen=LOST_UPGRADES_KEPT))

    def note(self, request: Request, store_id: str) -> tuple[str, ...]:
        """Look at a request that became no WebSocket. Returns the headers that it lost; none: it never was one."""
        missing = _missing(request)
        if missing:
            self.total += 1
            self.kept.append(LostUpgrade(self.total, self.now(), store_id[:_STORE_KEPT], missing))
        return missing


def _missing(request: Request) -> tuple[str, ...]:
    headers = request.headers
    there = {
        "Upgrade": request.wants_websocket,
        "Connection": "upgrade" in headers.get("connection", "").lower(),
        "Sec-WebSocket-Key": "sec-websocket-key" in headers,
        "Sec-WebSocket-Version": "sec-websocket-version" in headers,
    }
    wanted = there["Upgrade"] or there["Sec-WebSocket-Key"] or there["Sec-WebSocket-Version"]
    return tuple(name for name, has in there.items() if not has) if wanted else ()
