"""The log: one line an event on standard error, for people or for machines; its last lines; lines that repeat.

Owns the set-up of structlog, which may be changed while the server runs. A line is made in the thread that has
something to say; nothing that can go wrong with it reaches that thread. Where it goes, and that nobody waits for it, is
decided by `output`. The last lines are kept in memory for whoever shows them, and only once somebody asks for it.

A client that is refused comes back; one that does it on purpose comes back ten thousand times. Of each thing that one
source does, the first lines of a minute are written in full, the others are counted and told in one line.
"""

import logging
import os
import sys
import traceback
from collections import deque
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal

import attrs
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from livesync_trio.limits import REPEATED_LINES_MAX, REPEATED_LINES_PERIOD_S

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


# --- the last lines ---------------------------------------------------------------------------------------------------


RECENT_LINES: Final = 2_000
"""Lines that are kept."""

RECENT_FIELD_MAX_CHARACTERS: Final = 1_000
RECENT_FIELDS_MAX: Final = 24
"""What of one line is kept; a traceback may be eight times as long as another field."""


@attrs.frozen
class RecentLine:
    """One line.

    Attributes:
        number: counts on from 1.
        at: when, as the wire writes times.
        level: how severe.
        component: who logged it.
        event: the message.
        fields: what else belongs to it, as text.
    """

    number: int
    at: str
    level: str
    component: str
    event: str
    fields: dict[str, str]


class RecentLines:
    """A bounded ring of lines."""

    def __init__(self) -> None:
        self.total = 0
        """Lines so far."""
        self._kept: deque[RecentLine] | None = None

    def keep(self) -> None:
        """Keep lines from now on."""
        if self._kept is None:
            self._kept = deque(maxlen=RECENT_LINES)

    def newest_first(self) -> list[RecentLine]:
        """What is kept."""
        return list(reversed(self._kept or ()))

    def __call__(self, _logger: Any, level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Keep a line on its way (a processor of structlog); it goes on as it came."""
        if self._kept is not None:
            self.total += 1
            known = {"event", "level", "component", "timestamp", "exc_info"}
            fields = {name: _text(value) for name, value in list(line.items())[:RECENT_FIELDS_MAX] if name not in known}
            if line.get("exc_info"):
                fields["traceback"] = _trace(line["exc_info"])
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            component, event = _text(line.get("component", "")), _text(line.get("event", ""))
            self._kept.append(RecentLine(self.total, at, level, component, event, fields))
        return line


def _text(value: object) -> str:
    return str(value)[:RECENT_FIELD_MAX_CHARACTERS].encode(errors="replace").decode()


def _trace(given: object) -> str:
    """The end of a traceback, which says what happened; without the values of local variables."""
    lines = traceback.format_exception(given) if isinstance(given, BaseException) else [traceback.format_exc()]
    return "".join(lines)[-8 * RECENT_FIELD_MAX_CHARACTERS :].encode(errors="replace").decode()


recent_lines: Final = RecentLines()
"""Those of this process."""


# --- lines that repeat ------------------------------------------------------------------------------------------------


REPEATED_SOURCES_MAX: Final = 10_000
"""Addresses whose lines are counted at the same time, some 3 MB; beyond that they are counted together."""

_log = get_logger("telemetry")

EVERYBODY_ELSE = "everybody else"
"""Stands for all sources that came when too many were remembered already."""


@attrs.define
class _Period:
    """What one source did since `began_s`."""

    began_s: float
    lines: int = 0


class Flood:
    """Who has filled the log with what, lately. Used in the Trio thread."""

    def __init__(self) -> None:
        self._periods: dict[tuple[str, str], _Period] = {}

    def allows(self, source: str, what: str, now_s: float) -> bool:
        """Whether a line is to be written.

        Args:
            source: who is the cause: an address, a store.
            what: which kind of line it is.
            now_s: Trio's clock.
        """
        key = (source, what)
        period = self._periods.get(key)
        if period is None:
            if len(self._periods) >= REPEATED_SOURCES_MAX:
                key = (EVERYBODY_ELSE, what)
            period = self._periods.setdefault(key, _Period(now_s))
        elif now_s - period.began_s >= REPEATED_LINES_PERIOD_S:
            self._tell(key, period)
            period = self._periods[key] = _Period(now_s)
        period.lines += 1
        return period.lines <= REPEATED_LINES_MAX

    async def watch(self) -> None:
        """Tell what was left out, when its minute is over. Runs until cancelled, and then tells the rest."""
        import trio  # noqa: PLC0415 - who writes no server's log needs none

        try:
            while True:
                await trio.sleep(REPEATED_LINES_PERIOD_S / 4)
                self._sweep(trio.current_time())
        finally:
            self._sweep(float("inf"))

    def _sweep(self, now_s: float) -> None:
        for key, period in tuple(self._periods.items()):
            if now_s - period.began_s >= REPEATED_LINES_PERIOD_S:
                del self._periods[key]
                self._tell(key, period)

    def _tell(self, key: tuple[str, str], period: _Period) -> None:
        left_out = period.lines - REPEATED_LINES_MAX
        if left_out > 0:
            source, what = key
            _log.warning(
                "lines left out", source=source, what=what, left_out=left_out, period_s=REPEATED_LINES_PERIOD_S
            )
