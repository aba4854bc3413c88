"""What Quart and Hypercorn log, as lines of ours.

Both write to a `logging.Logger`, and without one to standard error, with request paths as strangers sent them.
"""

import logging

from livesync_trio.telemetry import get_logger

_log = get_logger("admin")


class _Lines(logging.Handler):
    """Passes records on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record; what it says may hold anything."""
        what = ascii(record.getMessage())[1:-1]
        _log.log(record.levelno, "from a library of the control plane", what=what, exc_info=record.exc_info)


def library_logger() -> logging.Logger:
    """A logger for a library. It is none of the process's tree, so nobody else writes down what it is told."""
    logger = logging.Logger("control plane", logging.WARNING)  # noqa: LOG001 - see above
    logger.addHandler(_Lines())
    return logger
