"""The log: one line an event on standard error, for people or for machines.

Owns the set-up of structlog, which may be changed while the server runs.
"""

import logging
import sys
from typing import Any, Final, Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
"""Values of the setting `log_level`, least severe first."""

_loggers: Final[list[Any]] = []
"""Every logger that was given out, one for each module that logs."""


def configure_logging(level: str, style: Literal["console", "json"]) -> None:
    """Set up the log for the process: one line an event on standard error. May be called again to change it.

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
    for logger in _loggers:
        logger.__dict__.pop("bind", None)  # what structlog has cached: the logger as it was set up before


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a room of the house, named in each of its lines. For modules: it is never forgotten."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    _loggers.append(logger)
    return logger
