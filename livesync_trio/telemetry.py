"""What the server notices about itself: the log, and counters that anybody may read.

Owns the set-up of structlog and the class `Counters`. Lowest of the rooms with behaviour; nothing here decides
anything.
"""

import logging
import sys
from collections import Counter
from typing import Final, Literal

import attrs
import structlog
from structlog.tracebacks import ExceptionDictTransformer

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
"""Values of the setting `log_level`, least severe first."""


def configure_logging(level: str, style: Literal["console", "json"]) -> None:
    """Set up the log for the process: one line an event on standard error.

    Tracebacks are written without the values of local variables, which may be secrets or users' data.

    Args:
        level: one of `LOG_LEVELS`.
        style: `console` for people, `json` for machines.
    """
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if style == "json":
        tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        processors += [tracebacks, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        processors += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a room of the house, named in each of its lines."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return logger


@attrs.define
class Counters:
    """Totals since the process started. Written by the room that sees the thing happen, read by anybody.

    Attributes:
        connections_opened: WebSocket connections accepted.
        http_requests: HTTP RPC requests served.
        pushes_accepted: batches made durable.
        events_accepted: events in them.
        refusals: requests refused, by `errors.Kind`.
        pushes_ahead_of_head: pushes whose parent is above the head, a sign of a damaged client (SPEC section 2).
        cursors_ahead_of_head: pulls from above the head, a sign of a log that lost its tail (SPEC section 2).
        live_pulls_abandoned: live pulls interrupted on a connection that goes on (SPEC section 2).
        orphans_closed: connections closed to wake an orphaned pull (SPEC 3.6).
        followers_sent_back: times a lagging live pull was sent back to the log.
        actors_started: generations of store actors.
        actors_crashed: those that ended with an exception.
        connections_crashed: connections that ended with an exception of ours.
    """

    connections_opened: int = 0
    http_requests: int = 0
    pushes_accepted: int = 0
    events_accepted: int = 0
    refusals: Counter[str] = attrs.field(factory=Counter)
    pushes_ahead_of_head: int = 0
    cursors_ahead_of_head: int = 0
    live_pulls_abandoned: int = 0
    orphans_closed: int = 0
    followers_sent_back: int = 0
    actors_started: int = 0
    actors_crashed: int = 0
    connections_crashed: int = 0
