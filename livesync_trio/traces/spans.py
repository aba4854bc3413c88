"""The spans of a push. The only file that imports OpenTelemetry; `open_traces` imports it when traces are wanted."""

import logging
import time
from collections.abc import Sequence
from typing import Final

import trio
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from livesync_trio.limits import REPEATED_LINES_PERIOD_S
from livesync_trio.telemetry import Marks, PushStory, get_logger
from livesync_trio.version import VERSION

TRACES_FLUSH_LIMIT_S: Final = 3.0
"""How long the end waits for the last traces to be sent; behind `DRAIN_LIMIT_S`, and together below 30 s."""

_log = get_logger("traces")

_STORED: Final = "stored"


class Traces:
    """Makes spans of pushes."""

    def __init__(self, provider: TracerProvider) -> None:
        """`provider` belongs to this object from now on."""
        self._provider = provider
        self._tracer = provider.get_tracer("livesync_trio", VERSION)

    def tell(self, story: PushStory) -> None:
        """Make the spans of a push that was answered. Called in the Trio thread; never waits."""
        span = self._tracer.start_span(
            "push",
            _parent_of(story),
            kind=SpanKind.SERVER,
            start_time=story.marks.received_ns,
            attributes={
                "livesync.store": story.store_id.encode(errors="replace").decode(),
                "livesync.request": story.request,
                "livesync.generation": story.generation,
                "livesync.transport": story.transport,
                "livesync.events": story.events,
                "livesync.outcome": story.outcome,
                "client.address": story.peer,
            },
        )
        if span.is_recording():
            inside = set_span_in_context(span)
            for name, start_ns, end_ns in _stages(story.marks):
                self._tracer.start_span(name, inside, start_time=start_ns).end(end_ns)
            if story.outcome != _STORED:
                span.set_status(Status(StatusCode.ERROR, story.outcome))
        span.end(story.ended_ns)

    async def close(self) -> None:
        """Send what is left, within the limit; what cannot be sent by then is lost."""
        with trio.move_on_after(TRACES_FLUSH_LIMIT_S, shield=True) as limit:
            await trio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)
        if limit.cancelled_caught:
            _log.warning("traces were left behind", limit_s=TRACES_FLUSH_LIMIT_S)


def _stages(marks: Marks) -> Sequence[tuple[str, int, int]]:
    """Name, beginning and end of the stages a push went through."""
    stages = (
        ("admission", marks.taken_ns, marks.admitted_ns),
        ("commit", marks.admitted_ns, marks.durable_ns),
        ("publish", marks.durable_ns, marks.published_ns),
    )
    return [stage for stage in stages if stage[1] and stage[2]]


def _parent_of(story: PushStory) -> Context:
    """The client's span; none for a push that names none, which begins a trace of its own."""
    if story.trace is None:
        return Context()
    trace_id, span_id, sampled = story.trace
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(parent), Context())


def by_otlp(name: str | None) -> Traces:
    """Traces that are sent by OTLP over HTTP, by a thread of the SDK. `name`: of the service; None: the SDK knows."""
    logger = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _Complaints) for handler in logger.handlers):
        logger.addHandler(_Complaints(logging.WARNING))
        logger.propagate = False
    resource = Resource.create({} if name is None else {"service.name": name})
    # The end of the process must not wait for the exporter: `close` has done so, with a limit.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)


class _Complaints(logging.Handler):
    """What the SDK complains about, in our log, and once a minute at most: a full queue complains of every span."""

    _quiet_until_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Log it, unless there was something just before."""
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + REPEATED_LINES_PERIOD_S
            _log.warning("traces cannot be sent", reason=record.getMessage())
