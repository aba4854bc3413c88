"""What of a client's acts goes into the record (`audit`), and with which words."""

from typing import Final

from livesync_trio.audit import Audit
from livesync_trio.errors import Kind, Refusal
from livesync_trio.hooks import HookContext

_RECORDED: Final = frozenset(
    {
        *(Kind.UNAUTHENTICATED, Kind.NOT_ALLOWED, Kind.ORIGIN_REFUSED, Kind.STORE_MISMATCH, Kind.TOKEN_EXPIRED),
        *(Kind.HOOK_REFUSED, Kind.TOO_FAST, Kind.TOO_MANY_REQUESTS, Kind.QUOTA_EXCEEDED),
    }
)
"""Refusals that say something about the client; the others are part of a healthy one's life."""


def record(audit: Audit, context: HookContext, act: str, **more: str) -> None:
    """Record an act of the client in `context`."""
    user = None if context.user is None else context.user.id
    audit.record(act, store=context.store_id, address=context.client_address, user=user, **more)


def record_refusal(audit: Audit, context: HookContext, refusal: Refusal) -> None:
    """Record a refusal, if it is of those that say something."""
    if audit.on and refusal.kind in _RECORDED:
        record(audit, context, "refuse", kind=str(refusal.kind), reason=refusal.message)
