"""The log: one line an event on standard error, for people or for machines.

Owns the set-up of structlog, which may be changed while the server runs. A line is made in the thread that has
something to say; nothing that can go wrong with it reaches that thread. Where it goes, and that nobody waits for it, is
decided by `standard`.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import Any, Final, Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from livesync_trio.telemetry.recent import recent_lines

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
"""Values of the setting `log_level`, least severe first."""

_EVENT_COLUMNS: Final = 30
"""Width of the message in a log for people that goes to a file or the journal."""

_loggers: Final[list[Any]] = []
"""Every logger that was given out, one for each module that logs."""


def configure_logging(level: str, style: Literal["console", "json"]) -> None:
    """Set up the log for the process: one line an event on standard error. May be called again to change it.

    Tracebacks are written without the values of local variables, which may be secrets or users' data.

    Args:
        level: one of `LOG_LEVELS`.
        style: `console` for people, `json` for machines. At a terminal the lines are short, with the time of day only.
    """
    at_terminal = sys.stderr is not None and sys.stderr.isatty()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        recent_lines,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        if style == "console" and at_terminal
        else structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if style == "json":
        tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        processors += [tracebacks, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        colours = at_terminal and not os.environ.get("NO_COLOR")
        width = 0 if at_terminal else _EVENT_COLUMNS
        processors += [
            structlog.dev.ConsoleRenderer(
                colors=colours, exception_formatter=plain, pad_event_to=width, pad_level=False
            )
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=_never_raising(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=_StandardError,
        cache_logger_on_first_use=True,
    )
    for logger in _loggers:
        logger.__dict__.pop("bind", None)  # what structlog has cached: the logger as it was set up before


def rendered(level: str, event: str, **fields: object) -> bytes:
    """A line as the log would write it, for who writes it elsewhere; empty when it is below the log's level."""
    line = getattr(structlog.wrap_logger(structlog.ReturnLogger(), component="telemetry"), level)(event, **fields)
    return f"{line}\n".encode(errors="backslashreplace") if isinstance(line, str) else b""


class _StandardError:
    """Where lines go: what is standard error at that moment."""

    def __init__(self, *_: object) -> None:
        """Structlog gives nothing of interest."""

    def msg(self, line: str) -> None:
        """Write a line. One that cannot be written is lost; nobody who logs can do anything about it."""
        if sys.stderr is not None:
            with suppress(OSError, ValueError):
                sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = msg


def _never_raising(level: int) -> type[structlog.typing.FilteringBoundLogger]:
    """Structlog's logger for a level, with lines that cannot be rendered told of instead of raised."""
    filtering: Any = structlog.make_filtering_bound_logger(level)

    class NeverRaising(filtering):  # type: ignore[misc]
        def _proxy_to_logger(self, method_name: str, event: str | None = None, *args: Any, **fields: Any) -> Any:
            try:
                return super()._proxy_to_logger(method_name, event, *args, **fields)
            except Exception as error:  # the text of somebody else's exception is somebody else's code
                with suppress(Exception):
                    fault = type(error).__name__
                    return super()._proxy_to_logger("error", "log line cannot be made", line=str(event), fault=fault)

    return NeverRaising


def get_logger(component: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a component, named in each of its lines. For modules: it is never forgotten."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(component=component)
    _loggers.append(logger)
    return logger
