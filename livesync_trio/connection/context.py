"""What all connections of a server share, and what of their clients' acts is recorded, logged and counted."""

import logging
import time
from typing import Final, Literal

import attrs
import trio

from livesync_trio.audit import Audit
from livesync_trio.config import Secret
from livesync_trio.errors import Kind, Refusal
from livesync_trio.fairness import Attempts, address_group
from livesync_trio.hooks import HookContext, HookRunner
from livesync_trio.memory import Memory
from livesync_trio.rules.schemas import EventSchemas
from livesync_trio.store.commands import Accepted
from livesync_trio.telemetry import Counters, Flood, Marks, PushStory, PushWatch, get_logger
from livesync_trio.turns import Turns
from livesync_trio.wire.messages import PushRequest, trace_of_header, trace_of_request

_log = get_logger("connection")


@attrs.define(eq=False)
class ServerContext:
    """What every connection of a server shares. A reload of the configuration changes it (`reloading`).

    Attributes:
        hooks: runs the user's functions; a connection keeps those with which it was opened.
        counters: totals of the server.
        max_open_pulls: open pulls allowed on one connection.
        admin_secret: for the admin messages of 0.3; None switches them off.
        admin_attempts: wrong secrets so far, by address.
        audit: the record of who did what.
        flood: keeps repeated lines from filling the log.
        watch: whoever wants to know of each push.
        store_user: whether who pushed an event is stored beside it.
        memory: what all connections together may hold.
        turns: those of whoever hears for all sockets.
        schemas: what appended events must look like; None for anything.
        schemas_of_pushes: what becomes of a LiveStore client's push that does not fit them.
    """

    hooks: HookRunner
    counters: Counters
    max_open_pulls: int
    admin_secret: Secret | None = None
    admin_attempts: Attempts = attrs.field(factory=Attempts)
    audit: Audit = attrs.field(factory=Audit)
    flood: Flood = attrs.field(factory=Flood)
    watch: PushWatch = attrs.field(factory=PushWatch)
    store_user: bool = False
    memory: Memory = attrs.field(factory=Memory)
    turns: Turns = attrs.field(factory=Turns)
    schemas: EventSchemas | None = None
    schemas_of_pushes: Literal["off", "log", "refuse"] = "off"


_RECORDED: Final = frozenset(
    {
        *(Kind.UNAUTHENTICATED, Kind.NOT_ALLOWED, Kind.ORIGIN_REFUSED, Kind.STORE_MISMATCH, Kind.TOKEN_EXPIRED),
        *(Kind.HOOK_REFUSED, Kind.TOO_FAST, Kind.TOO_MANY_REQUESTS, Kind.QUOTA_EXCEEDED),
    }
)
"""Refusals that say something about the client; the others are part of a healthy one's life."""


HTTP: Final = "http"
WEBSOCKET: Final = "websocket"
STORED: Final = "stored"


def record(audit: Audit, context: HookContext, act: str, **more: str) -> None:
    """Record an act of the client in `context`."""
    user = None if context.user is None else context.user.id
    audit.record(act, store=context.store_id, address=context.client_address, user=user, **more)


def user_to_store(context: HookContext) -> str | None:
    """Who is stored beside the events that the client in `context` pushes (`store_user`); None for a stranger.

    What a database would not take for text (half a character, U+0000) is written out with a backslash.
    """
    if context.user is None:
        return None
    return context.user.id.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def note_refusal(shared: ServerContext, context: HookContext, refusal: Refusal, **where: str | int) -> None:
    """Count, record and log a refusal.

    Args:
        shared: where to.
        context: who was refused.
        refusal: what they were told.
        where: more for the log: the connection, the request.
    """
    shared.counters.refusals[str(refusal.kind)] += 1
    if shared.audit.on and refusal.kind in _RECORDED:
        record(shared.audit, context, "refuse", kind=str(refusal.kind), reason=refusal.message)
    level = refusal.rule.log_level
    if level == logging.DEBUG or may_log(shared, context, str(refusal.kind)):
        _log.log(
            level,
            "request refused",
            store=context.store_id,
            peer=context.client_address,
            kind=str(refusal.kind),
            reason=refusal.message,
            **where,
        )


def tell_of_push(
    watch: PushWatch,
    context: HookContext,
    request: PushRequest,
    answer: Accepted | Refusal,
    marks: Marks,
    *,
    transport: str,
) -> None:
    """Tell whoever wants to know what became of a push that carries marks."""
    trace = None if request.trace is None else trace_of_request(*request.trace)
    if transport == HTTP:  # the client's span of the HTTP request lies within that of the RPC
        trace = trace_of_header(context.headers.get("traceparent", "")) or trace
    watch.ended(
        PushStory(
            marks=marks,
            ended_ns=time.time_ns(),
            store_id=context.store_id,
            request=request.id.text,
            peer=context.client_address,
            generation=str(request.id.generation),
            transport=transport,
            events=len(request.events),
            outcome=str(answer.kind) if isinstance(answer, Refusal) else STORED,
            trace=None if trace is None else (trace.trace_id, trace.span_id, trace.sampled),
        )
    )


def log_push(story: PushStory) -> None:
    """A line for each push, at DEBUG."""
    _log.debug(
        "push answered",
        store=story.store_id,
        peer=story.peer,
        request=story.request,
        events=story.events,
        outcome=story.outcome,
        duration_ms=round(story.duration_ms, 3),
        commit_ms=None if story.commit_ms is None else round(story.commit_ms, 3),
    )


def may_log(shared: ServerContext, context: HookContext, what: str) -> bool:
    """Whether the client has not filled the log with such lines already."""
    host = context.client_host
    return shared.flood.allows(address_group(host) or host, what, trio.current_time())
