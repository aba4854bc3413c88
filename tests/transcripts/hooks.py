"""The hooks of the servers that were recorded, for ours (LIVESYNC_HOOKS). What they do depends on what the
transcript sends, so that one server process serves all transcripts."""

from __future__ import annotations

import json
from typing import Any

import trio

from livesync_trio import Refused

SLOW_HOOK_S = 0.3
TEXTS = {
    "hook-throw-error": "push rejected by hook",
    "hook-throw-string": "plain string thrown",
    "hook-throw-object": '{"code":42,"reason":"object thrown"}',
    "reject-me": "push rejected by hook",
}


class Rejected(Refused):
    """What a hook raises to refuse."""


def validate_payload(payload: Any, context: Any) -> None:
    """Stores named ``secure...``, and clients that say so, need the token."""
    said = payload if isinstance(payload, dict) else {}
    if (context.store_id.startswith("secure") or said.get("needAuth")) and said.get("authToken") != "sesame":
        raise Rejected("Invalid auth token")


async def on_push(batch: Any, context: Any) -> None:
    """The name of the first event says what is to happen."""
    if context.store_id.startswith("x~"):
        raise Rejected("effect failure")
    name = batch[0].name
    if name == "hook-slow":
        await trio.sleep(SLOW_HOOK_S)
    elif name == "hook-echo-ctx":
        raise Rejected(_echo(context))
    elif name in TEXTS:
        raise Rejected(TEXTS[name])


def on_pull(cursor: Any, context: Any) -> None:
    """A payload (RPC) or a magic cursor (0.3, where a pull has no payload) says what is to happen."""
    said = context.payload if isinstance(context.payload, dict) else {}
    if said.get("pull") == "throw" or "424242" in str(cursor):
        raise Rejected("pull rejected by hook")
    if said.get("pull") == "echo":
        raise Rejected(_echo(context))


def _echo(context: Any) -> str:
    """The context as the recorded hook wrote it: only the headers that the recorded server was told to forward."""
    forwarded = [[name, context.headers[name]] for name in ("authorization", "x-demo") if name in context.headers]
    return json.dumps(
        {"payload": context.payload, "headers": forwarded, "storeId": context.store_id}, separators=(",", ":")
    )
