"""What holds for all tests: how examples are drawn, and how tracebacks of the server under test are written."""

import os

import structlog
from hypothesis import HealthCheck, settings

# No deadlines: how long an example takes says how busy the machine is. Where a change is judged, the same examples are
# drawn each time, so that it is judged by what it changes; whoever runs the tests by hand looks for new ones.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("unhurried")

# Unless it is configured, structlog draws a traceback with the values of all variables, which takes seconds for each.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.dev.set_exc_info,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
