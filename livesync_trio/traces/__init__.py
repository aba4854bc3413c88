"""Traces: each push as a span with its stages, joined to the client's own trace (OpenTelemetry, OTLP).

    push ─┬─ admission   taken from the mailbox → decided
          ├─ commit      handed to the database thread → durable
          └─ publish     → handed to everybody who follows

OpenTelemetry is an extra (`pip install 'livesync-trio[otel]'`) and is not imported unless `traces` is set. The spans of
a push are made when it has been answered, from the marks it carried; a thread of the SDK sends them, and what it cannot
send is dropped. Where to is said by the standard's own variables (`OTEL_*`).
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from livesync_trio.errors import Kind, StartupError

if TYPE_CHECKING:
    from livesync_trio.traces.spans import Traces

SERVICE_NAME: Final = "livesync"
"""How the server calls itself unless `OTEL_SERVICE_NAME` says otherwise."""

_PROTOCOLS: Final = ("", "http/protobuf")


def open_traces(environ: Mapping[str, str] = os.environ) -> "Traces":
    """Begin to send traces by OTLP over HTTP.

    Args:
        environ: where the variables of the standard are looked for; the SDK reads those of the process.

    Raises:
        StartupError: the extra is not installed, or another protocol is asked for.
    """
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    if protocol not in _PROTOCOLS:
        raise StartupError(
            Kind.BAD_CONFIG, f"traces are sent by OTLP over HTTP only (http/protobuf), not by {protocol!r}"
        )
    try:
        from livesync_trio.traces.spans import by_otlp  # noqa: PLC0415 - an extra, and 200 ms
    except ImportError as error:
        raise StartupError(
            Kind.BAD_CONFIG,
            f"LIVESYNC_TRACES needs an extra that is not installed: pip install 'livesync-trio[otel]' ({error})",
        ) from error
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return by_otlp(None if named else SERVICE_NAME)
