"""What the server notices about itself: the log, and numbers that anybody may read.

`logs` sets structlog up, keeps repeated lines from filling the log and keeps the last ones; `output` writes without
holding anybody up; `counting` holds totals and histograms; `pushes` follows single pushes where somebody wants to know.
Lowest of the modules with behaviour; nothing here decides anything, and nothing here knows Prometheus: `metrics` reads
the numbers when somebody asks for them.
"""

from livesync_trio.telemetry.counting import Counters, Histogram, Traffic, WebhookCounts
from livesync_trio.telemetry.logs import LOG_LEVELS, Flood, RecentLine, configure_logging, get_logger, recent_lines
from livesync_trio.telemetry.output import (
    LineOutput,
    exchange_standard_streams,
    flush_standard_streams,
    log_lines_lost,
    standard_output,
)
from livesync_trio.telemetry.pushes import Marks, PushStory, PushWatch

__all__ = [
    "LOG_LEVELS",
    "Counters",
    "Flood",
    "Histogram",
    "LineOutput",
    "Marks",
    "PushStory",
    "PushWatch",
    "RecentLine",
    "Traffic",
    "WebhookCounts",
    "configure_logging",
    "exchange_standard_streams",
    "flush_standard_streams",
    "get_logger",
    "log_lines_lost",
    "recent_lines",
    "standard_output",
]
