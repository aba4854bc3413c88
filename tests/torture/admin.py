"""The operator's acts, over the admin messages of 0.3 (SPEC 5.2)."""

from __future__ import annotations

import msgspec
import trio

from tests.torture.server import ADMIN_SECRET
from tests.torture.sockets import connected, target_of

ANSWER_LIMIT_S = 60.0


async def reset(port: int, store: str) -> bool:
    """Ask for a reset. True: it was acknowledged; else nobody knows."""
    request = {"_tag": "WSMessage.AdminResetRoomReq", "requestId": "reset", "adminSecret": ADMIN_SECRET}
    with trio.move_on_after(ANSWER_LIMIT_S):
        async with connected(port, target_of(store, v3=True)) as line:
            if line is not None:
                line.put(msgspec.json.encode(request))
                while (data := await line.get()) is not None:
                    if msgspec.json.decode(data)["_tag"] == "WSMessage.AdminResetRoomRes":
                        return True
    return False
