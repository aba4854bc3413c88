"""What the server counts, in Prometheus' format.

`declared` says which metrics there are and where each is read, `snapshot` gathers what is read, `exposition` writes it,
`pulse` measures the event loop and the garbage collector. Nothing here is called when something happens: the modules
below count with plain numbers (`telemetry.Counters`), which are read when somebody asks.

    metrics = Metrics(Sources(...))               # `app.Server.metrics`
    body, content_type = metrics.render()         # what `GET /metrics` answers
"""

from typing import TYPE_CHECKING

from livesync_trio.metrics.snapshot import Sources

if TYPE_CHECKING:
    from livesync_trio.metrics.exposition import Exposition

__all__ = ["Metrics", "Sources"]


class Metrics:
    """The metrics of one server."""

    def __init__(self, sources: Sources) -> None:
        """Loads nothing yet: a server that nobody asks for metrics does not pay for them."""
        self._sources = sources
        self._exposition: Exposition | None = None

    def prepare(self) -> "Exposition":
        """Load what is needed, so that the first `render` takes no longer than the others."""
        if self._exposition is None:
            from livesync_trio.metrics.exposition import Exposition  # noqa: PLC0415 - 50 ms, and only if anybody asks

            self._exposition = Exposition(self._sources)
        return self._exposition

    def render(self) -> tuple[bytes, str]:
        """All metrics as they are now.

        Called in the Trio thread, since it reads what only that may touch. Never waits; takes a millisecond, and some
        microseconds for each connection and active store.

        Returns:
            The body, and its content type.
        """
        return self.prepare().render()
