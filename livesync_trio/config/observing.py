"""Settings of what others may see of the server's inner life."""

import attrs

from livesync_trio.config.declaring import declare, not_empty
from livesync_trio.config.secret import Secret


@attrs.frozen(kw_only=True, slots=False)  # several of these are one class in the end
class ObservingSettings:
    """Metrics and traces. See `docs/observability.md`."""

    metrics_token: Secret | None = declare(
        None,
        "any text that is not empty",
        "Token with which `GET /metrics` is answered on the public port too; without it there is nothing.",
        check=not_empty,
    )
    traces: bool = declare(
        False,
        "true or false",
        "Send traces of pushes by OTLP; needs the extra `otel`, and `OTEL_*` variables say where to.",
    )
