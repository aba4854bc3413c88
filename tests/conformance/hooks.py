"""The hooks of the servers in ``test_hooks.py`` (``LIVESYNC_HOOKS`` names this file).

Each refuses by name or payload what its test sends; one is plain, one is asynchronous, since both are promised.
"""

from __future__ import annotations

from typing import Any


def validate_payload(payload: Any, context: Any) -> None:
    """Connections to stores called ``private-*`` need a ticket made out to that store."""
    if context.store_id.startswith("private-") and (payload or {}).get("ticket") != context.store_id:
        raise PermissionError("this ticket is for another store")


def on_push(batch: Any, context: Any) -> None:
    """Events called ``forbidden`` are refused, and so is who says he only reads."""
    for event in batch:
        if event.name == "forbidden":
            raise ValueError(f"event {event.seq_num} is forbidden")
    if isinstance(context.payload, dict) and context.payload.get("readOnly"):
        raise PermissionError("read only")


async def on_pull(cursor: Any, context: Any) -> None:
    """Who says he only writes may not pull."""
    if isinstance(context.payload, dict) and context.payload.get("writeOnly"):
        raise PermissionError("write only")
