"""What of the process goes to standard output and standard error: all of it through `LineOutput`.

Owns the exchange of the two streams, and of the places where Python and libraries write on their own account:
`logging`, warnings, exceptions of threads and finalizers. For a process that is a server and nothing else; a program
that embeds the server keeps its own.
"""

import atexit
import logging
import sys
import threading
from typing import Any, Final

from livesync_trio.limits import OUTPUT_FLUSH_LIMIT_S
from livesync_trio.telemetry.logs import get_logger, rendered
from livesync_trio.telemetry.output import LineOutput, LineStream

_log = get_logger("telemetry")

_outputs: Final[dict[str, LineOutput]] = {}
"""By the name of the stream; empty until they were exchanged."""


def exchange_standard_streams() -> None:
    """Let everything that is written to standard output and error go through queues, to the end of the process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or name in _outputs:
            continue
        descriptor = stream.fileno()
        stream.flush()
        output = _outputs[name] = LineOutput(descriptor, _notice, name=name)
        setattr(sys, name, LineStream(output, descriptor).as_text())
    atexit.register(flush_standard_streams)
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries(logging.WARNING)]
    logging.captureWarnings(capture=True)
    threading.excepthook = _thread_crashed
    sys.unraisablehook = _finalizer_failed


def standard_output() -> LineOutput | None:
    """Where standard output goes; None while it is what Python made."""
    return _outputs.get("stdout")


def flush_standard_streams(limit_s: float = OUTPUT_FLUSH_LIMIT_S) -> None:
    """Have written what waits, within the limit for each. Never raises."""
    for output in _outputs.values():
        output.flush(limit_s)


def log_lines_lost() -> int:
    """Lines of the log, and of standard output, that were lost since the start."""
    return sum(output.lost for output in _outputs.values())


def _notice(lost: int, reason: str) -> bytes:
    return rendered("warning", "log lines lost", lost=lost, reason=reason)


class _FromLibraries(logging.Handler):
    """Lines of libraries that use `logging`, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            what = record.getMessage()
        except Exception:  # arguments that do not fit the message
            what = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)  # libraries have levels between
        _log.log(level, "from a library", logger=record.name, what=what, exc_info=record.exc_info)


def _thread_crashed(crash: Any) -> None:
    if crash.exc_type is not SystemExit:
        name = None if crash.thread is None else crash.thread.name
        _log.error("thread crashed", thread=name, exc_info=crash.exc_value)


def _finalizer_failed(failure: Any) -> None:
    _log.error("exception in a finalizer", where=repr(failure.object)[:200], exc_info=failure.exc_value)
