"""What the server notices about itself: the log, and numbers that anybody may read.

`logs` sets structlog up, `output` and `standard` write without holding anybody up, `flood` keeps repeated lines from
filling the log, `recent` keeps the last lines, `counting` holds totals and histograms, `pushes` follows single pushes
where somebody wants to know. Lowest of the modules with behaviour; nothing here decides anything, and nothing here
knows Prometheus: `metrics` reads the numbers when somebody asks for them.
"""

from livesync_trio.telemetry.counting import Counters, Histogram, Traffic, WebhookCounts
from livesync_trio.telemetry.flood import Flood
from livesync_trio.telemetry.logs import LOG_LEVELS, configure_logging, get_logger
from livesync_trio.telemetry.output import LineOutput, hold_standard_descriptors
from livesync_trio.telemetry.pushes import Marks, PushStory, PushWatch
from livesync_trio.telemetry.recent import RecentLine, recent_lines
from livesync_trio.telemetry.standard import (
    exchange_standard_streams,
    flush_standard_streams,
    log_lines_lost,
    standard_output,
)

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
    "hold_standard_descriptors",
    "log_lines_lost",
    "recent_lines",
    "standard_output",
]
