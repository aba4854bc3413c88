"""Lines for a descriptor, written by a thread of their own: who has something to say never waits and never fails.

A disk can be full, the reader of a pipe can be gone or asleep. None of it may reach the event loop or a database
thread, so lines wait in a queue that is bounded in bytes. What finds no room there, and what cannot be written, is
counted, and told in one line when there is room again.

In a process that is a server and nothing else, all that goes to standard output and standard error takes this way:
also what Python and libraries write on their own account, by `logging`, warnings, exceptions of threads and
finalizers. A program that embeds the server keeps its own streams.
"""

import atexit
import io
import logging
import os
import queue
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from livesync_trio.limits import OUTPUT_FLUSH_LIMIT_S
from livesync_trio.telemetry.logs import get_logger, rendered

OUTPUT_QUEUE_MAX_BYTES: Final = 1024 * 1024
"""Lines that wait to be written to the log, to standard output or to the audit log; more are lost and counted."""

OUTPUT_RETRY_S: Final = 1.0
"""How often it is tried whether lines can be written again."""


class LineOutput:
    """A descriptor, the queue in front of it and the thread that writes."""

    def __init__(
        self,
        descriptor: int,
        notice: Callable[[int, str], bytes],
        *,
        troubled: Callable[[str], None] = lambda _: None,
        name: str = "output",
        max_bytes: int = OUTPUT_QUEUE_MAX_BYTES,
    ) -> None:
        """Start the thread.

        Args:
            descriptor: where to write; stays the caller's until `close`.
            notice: makes the line that tells how many lines were lost, and why. Called in the thread.
            troubled: told once when lines begin to be lost because they cannot be written. Called in the thread.
            name: of the thread.
            max_bytes: what may wait.
        """
        self._descriptor = descriptor
        self._notice = notice
        self._troubled = troubled
        self._max_bytes = max_bytes
        # Both can be entered again by the thread that is inside: a finalizer that warns may run at any moment.
        self._queue: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._queued_bytes = 0
        self._reason = ""
        self._torn = False  # whether the last thing written is the first part of a line
        self.lost = 0
        """Lines lost since the start."""
        self._told = 0
        self._thread = threading.Thread(target=self._run, name=f"livesync {name}", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether lines were lost of which nothing could be said yet."""
        return self.lost > self._told

    def put(self, line: bytes) -> bool:
        """Have something written, from any thread; never waits, never raises. False: it is lost, and counted."""
        with self._lock:
            if self._queued_bytes + len(line) > self._max_bytes:
                self._lose("the reader is too slow")
                return False
            self._queued_bytes += len(line)
        self._queue.put(line)
        return True

    def flush(self, limit_s: float) -> bool:
        """Wait until all that was put has been written or lost. False: not within the limit."""
        written = threading.Event()
        self._queue.put(written)
        return written.wait(limit_s)

    def close(self, limit_s: float) -> None:
        """Write what waits, within the limit, then have the thread close the descriptor. Never raises."""
        self._queue.put(None)
        self._thread.join(limit_s)

    def _lose(self, reason: str) -> None:
        with self._lock:
            self.lost += 1
            self._reason = reason

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=OUTPUT_RETRY_S if self.failing else None)
            except queue.Empty:
                self._tell_lost()
                continue
            if item is None:
                break
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._take(item)
            finally:
                with self._lock:
                    self._queued_bytes -= len(item)
        with suppress(OSError):  # some file systems tell only now that they could not write
            os.close(self._descriptor)

    def _take(self, line: bytes) -> None:
        """Write a line behind the notice of those that were lost before it."""
        written = self._tell_lost() and self._write(line)
        if not written:
            self._lose(self._reason)

    def _tell_lost(self) -> bool:
        """Say what was lost, if anything was. False: there is still no room for it."""
        lost, told, reason = self.lost, self._told, self._reason
        if lost == told:
            return True
        try:
            notice = self._notice(lost - told, reason)
        except Exception:
            notice = b""  # how it looks is not ours; that it cannot be made must not end this thread
        if not self._write(notice):
            return False
        self._told = lost
        return True

    def _write(self, line: bytes) -> bool:
        rest = memoryview(b"\n" + line if self._torn and line else line)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:  # whoever shares the descriptor has made it non-blocking
                    waiting = select.poll()
                    waiting.register(self._descriptor, select.POLLOUT)
                    waiting.poll(1000)
                else:
                    self._torn = bool(rest)
        except OSError as error:
            news = not self.failing
            self._reason = error.strerror or str(error)
            if news:
                self._troubled(self._reason)
            return False
        return True


class LineStream(io.RawIOBase):
    """A `LineOutput` in the form of a file, for what writes to standard output or standard error itself."""

    def __init__(self, output: LineOutput, descriptor: int) -> None:
        """`descriptor`: what `fileno` tells."""
        self._output = output
        self._descriptor = descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: object, /) -> int:
        """Take everything."""
        line = bytes(data)  # type: ignore[call-overload]
        self._output.put(line)
        return len(line)

    def fileno(self) -> int:
        """The descriptor behind it."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a person may be looking."""
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def as_text(self) -> io.TextIOWrapper:
        """The same for text; whole lines are handed over."""
        return io.TextIOWrapper(
            self,  # type: ignore[arg-type]
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )


# --- the standard streams of a server ---------------------------------------------------------------------------------


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
