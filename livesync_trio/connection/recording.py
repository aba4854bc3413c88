"""What of a client's acts goes into the record (`audit`) and into the log, and with which words."""

import logging
import time
from typing import Final, Protocol

import trio

from livesync_trio.audit import Audit
from livesync_trio.errors import Kind, Refusal
from livesync_trio.fairness import address_group
from livesync_trio.hooks import HookContext
from livesync_trio.store.commands import Accepted
from livesync_trio.telemetry import Counters, Flood, Marks, PushStory, PushWatch, get_logger
from livesync_trio.wire import trace_context
from livesync_trio.wire.messages import PushRequest

_log = get_logger("connection")

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


class Noticing(Protocol):
    """Where a server notes what it sees; `Surroundings` has it."""

    @property
    def audit(self) -> Audit:
        """The record of who did what."""

    @property
    def counters(self) -> Counters:
        """Totals of the server."""

    @property
    def flood(self) -> Flood:
        """Keeps repeated lines from filling the log."""

    @property
    def watch(self) -> PushWatch:
        """Whoever wants to know of each push."""


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


def note_refusal(notes: Noticing, context: HookContext, refusal: Refusal, **where: str | int) -> None:
    """Count, record and log a refusal.

    Args:
        notes: where to.
        context: who was refused.
        refusal: what they were told.
        where: more for the log: the connection, the request.
    """
    notes.counters.refusals[str(refusal.kind)] += 1
    if notes.audit.on and refusal.kind in _RECORDED:
        record(notes.audit, context, "refuse", kind=str(refusal.kind), reason=refusal.message)
    level = refusal.rule.log_level
    if level == logging.DEBUG or may_log(notes, context, str(refusal.kind)):
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
    trace = None if request.trace is None else trace_context.of_request(*request.trace)
    if transport == HTTP:  # the client's span of the HTTP request lies within that of the RPC
        trace = trace_context.of_header(context.headers.get("traceparent", "")) or trace
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


def may_log(notes: Noticing, context: HookContext, what: str) -> bool:
    """Whether the client has not filled the log with such lines already."""
    host = context.client_host
    return notes.flood.allows(address_group(host) or host, what, trio.current_time())
