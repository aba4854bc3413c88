"""Spans of pushes: joined to the client's trace, in their order, sent without holding anybody up."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from livesync_trio.app.server import Server
from livesync_trio.config import Config
from livesync_trio.errors import Kind, StartupError
from livesync_trio.hooks import Hooks
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.traces import open_traces
from livesync_trio.traces.spans import TRACES_FLUSH_LIMIT_S, Traces
from livesync_trio.wire import messages, rpc
from livesync_trio.wire.messages import PushRequest, TraceContext
from tests.bad_input.clients import NO_CURSOR, RpcClient, event, push, push_payload, request, sync_url
from tests.bad_input.servers import TestedServer
from tests.bad_input.wires import post
from tests.conformance.servers import REPOSITORY
from tests.telemetry.process import watched

TRACE, SPAN = "14fc6fbef49f5398e51d2c2fbbfbf08c", "f8c55bb23896a0da"
RECORDED = REPOSITORY / "tests/transcripts/data/0.4.0"


def recorded_push(name: str, kind: str) -> dict[str, Any]:
    """The first push that a real 0.4 client sent in a recorded session: the whole line."""
    for text in (RECORDED / name).read_text().splitlines():
        line: dict[str, Any] = json.loads(text)
        if line["dir"] == "c2s" and line["kind"] == kind and "Rpc.Push" in line["data"]:
            return line
    raise AssertionError(f"no push in {name}")


class Stage:
    """A server in this process whose spans are kept."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces = Traces(provider)
        self.server = Server(Config(port=0), Hooks(), MemoryEngine())
        self.server.door.shared.watch.tell(self.traces.tell)

    def spans(self, name: str) -> Sequence[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@asynccontextmanager
async def stage() -> AsyncIterator[tuple[Stage, TestedServer]]:
    made = Stage()
    ready, told = trio.open_memory_channel[str](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.server.run, lambda url, _: ready.send_nowait(url))
        with trio.fail_after(10):
            client = TestedServer(int((await told.receive()).rpartition(":")[2]), [], ...)
            yield made, client
            await client.hang_up()
        nursery.cancel_scope.cancel()


def ids(span: ReadableSpan) -> tuple[str, str | None]:
    """Trace id of a span, and the id of its parent."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}", None if span.parent is None else f"{span.parent.span_id:016x}"


async def test_a_real_clients_push_is_joined_to_its_trace() -> None:
    frame = json.loads(recorded_push("ws-07-push-1.jsonl", "ws-text")["data"])
    assert (frame["traceId"], frame["spanId"], frame["sampled"]) == (TRACE, SPAN, True)
    store = frame["payload"]["storeId"]
    async with stage() as (made, server):
        client = await server.rpc(store)
        await client.send(frame)
        await client.answer_to(frame["id"])
        (whole,) = made.spans("push")
        assert ids(whole) == (TRACE, SPAN)
        assert whole.kind is SpanKind.SERVER
        assert whole.attributes is not None
        assert whole.attributes["livesync.store"] == store
        assert whole.attributes["livesync.request"] == frame["id"]
        assert whole.attributes["livesync.outcome"] == "stored"
        assert whole.attributes["livesync.events"] == 1
        assert (whole.attributes["livesync.generation"], whole.attributes["livesync.transport"]) == ("0.4", "websocket")
        moments = [whole.start_time]
        for name in ("admission", "commit", "publish"):
            (part,) = made.spans(name)
            assert whole.context is not None
            assert ids(part) == (TRACE, f"{whole.context.span_id:016x}")
            moments += [part.start_time, part.end_time]
        moments.append(whole.end_time)
        assert moments == sorted(moments, key=lambda moment: moment or 0)  # one after the other, within the whole
        assert None not in moments


async def test_over_http_the_header_is_the_parent() -> None:
    line = recorded_push("http-04-push-1-and-pull-cursor.jsonl", "http-request")
    sent, traceparent = json.loads(line["data"]), line["headers"]["traceparent"]
    store = sent["payload"]["storeId"]
    body = json.dumps(sent).encode()
    async with stage() as (made, server):
        await server.ask(post(sync_url(store, "http"), body, f"traceparent: {traceparent}"))
        await server.ask(post(sync_url(f"{store} 2", "http"), body.replace(store.encode(), f"{store} 2".encode())))
        by_header, by_request = made.spans("push")
        assert ids(by_header) == (traceparent.split("-")[1], traceparent.split("-")[2])
        assert ids(by_request) == (sent["traceId"], sent["spanId"])
        assert by_header.attributes is not None
        assert by_header.attributes["livesync.transport"] == "http"


async def test_a_refused_push_is_a_failed_span_without_a_commit() -> None:
    async with stage() as (made, server):
        client = await server.rpc("s")
        await client.push(event(1, 0))
        made.exporter.clear()
        await client.push(event(1, 0))
        (whole,) = made.spans("push")
        assert whole.status.status_code is StatusCode.ERROR
        assert whole.status.description == Kind.SERVER_AHEAD
        assert len(made.spans("admission")) == 1
        assert made.spans("commit") == made.spans("publish") == []


async def test_who_sends_no_trace_gets_one_of_its_own_and_who_does_not_sample_none() -> None:
    async with stage() as (made, server):
        client = await server.rpc("s")
        await client.push(event(1, 0))
        (whole,) = made.spans("push")
        assert whole.parent is None
        made.exporter.clear()
        await client.send({**push("7", "s", event(2, 1)), "traceId": TRACE, "spanId": SPAN, "sampled": False})
        await client.answer_to("7")
        await client.send({**push("8", "s", event(3, 2)), "traceId": "nonsense", "spanId": 3, "sampled": "perhaps"})
        await client.answer_to("8")
        (other,) = made.spans("push")
        assert other.parent is None
        assert other.attributes is not None
        assert other.attributes["livesync.request"] == "8"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN, sampled=False)),
        (f" 00-{TRACE}-{SPAN}-03 ", TraceContext(TRACE, SPAN, sampled=True)),
        (f"01-{TRACE}-{SPAN}-01-more", TraceContext(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        ("", None),
    ],
)
def test_the_header_is_read_as_the_standard_says(header: str, expected: TraceContext | None) -> None:
    assert messages.trace_of_header(header) == expected


def test_a_trace_that_makes_no_sense_refuses_nothing() -> None:
    for nonsense in ({"traceId": 7}, {"traceId": TRACE}, {"traceId": TRACE, "spanId": "x"}, {"spanId": None}):
        frame = {**push("7", "s", event(1, 0)), **nonsense}
        (read,) = rpc.decode(json.dumps(frame).encode(), "ws")
        assert isinstance(read, PushRequest)
        assert read.trace is None or messages.trace_of_request(*read.trace) is None


class Collector:
    """A collector of traces on the loopback interface, which understands just enough HTTP; or one that hangs."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.spans: list[Any] = []
        self.names: list[str] = []
        self.hangs = hangs
        self.met = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < _length(data):
                received = await stream.receive_some()
                if not received:
                    return
                data += received
            head, _, body = data.partition(b"\r\n\r\n")
            self.met.set()
            if self.hangs:
                await trio.sleep_forever()
            assert head.startswith(b"POST /v1/traces ")
            for resource in ExportTraceServiceRequest.FromString(body[: _length(data)]).resource_spans:
                self.names += [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            data = body[_length(data) :]
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
            )


def _length(data: bytes) -> int:
    head = data.partition(b"\r\n\r\n")[0].lower()
    return int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])


@asynccontextmanager
async def collecting(collector: Collector) -> AsyncIterator[str]:
    """Run a collector; gives its URL."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, collector.serve, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_a_real_server_sends_them_and_what_is_left_at_its_end(tmp_path: Path) -> None:
    collector = Collector()
    async with collecting(collector) as url:
        # So long a pause that nothing is sent before the end.
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        async with watched(tmp_path, environment, traces=True) as server:
            client = await server.rpc("s")
            for number in range(3):
                await client.push(event(number + 1, number))
            assert collector.spans == []
    assert sorted(span.name for span in collector.spans) == sorted(["push", "admission", "commit", "publish"] * 3)
    assert set(collector.names) == {"livesync"}


async def test_a_collector_that_hangs_holds_up_neither_pushes_nor_the_end(tmp_path: Path) -> None:
    collector = Collector(hangs=True)
    async with collecting(collector) as url:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "10"}
        async with watched(tmp_path, environment, traces=True) as server:
            client = await server.rpc("s")
            await client.push(event(1, 0))
            with trio.fail_after(10):
                await collector.met.wait()
                for number in range(1, 20):
                    await client.push(event(number + 1, number))
            with trio.fail_after(TRACES_FLUSH_LIMIT_S + 5):
                assert await trio.to_thread.run_sync(server.process.stop) == 0
        assert server.lines("traces were left behind") != []


async def test_a_collector_that_is_not_there_is_told_of_in_one_line(tmp_path: Path) -> None:
    async with collecting(Collector()) as url:
        pass
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "10"}
    async with watched(tmp_path, environment, traces=True) as server:
        client = await server.rpc("s")
        for number in range(20):
            await client.push(event(number + 1, number))
        await server.wait_for("traces cannot be sent")
    assert len(server.lines("traces cannot be sent")) == 1
    bare = [line for line in (tmp_path / "server.log").read_text().splitlines() if not line.startswith("{")]
    assert bare == []


def test_another_protocol_and_a_missing_extra_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartupError, match="not by 'grpc'"):
        open_traces({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    monkeypatch.setitem(sys.modules, "livesync_trio.traces.spans", None)
    with pytest.raises(StartupError, match=r"pip install 'livesync-trio\[otel\]'"):
        open_traces({})


async def test_pulls_and_http_pings_go_their_way_while_pushes_are_watched() -> None:
    async with stage() as (made, server):
        client: RpcClient = await server.rpc("s")
        await client.check_works()
        body = json.dumps(request("1", "SyncHttpRpc.Pull", {"storeId": "s", "cursor": NO_CURSOR})).encode()
        assert (await server.ask(post(sync_url("s", "http"), body))).status == 200
        body = json.dumps(request("2", "SyncHttpRpc.Push", push_payload("s", event(2, 1)))).encode()
        assert (await server.ask(post(sync_url("s", "http"), body))).status == 200
        assert len(made.spans("push")) == 2
