"""What is counted, as Prometheus would read it."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from livesync_trio.app.server import Server
from livesync_trio.config import Config, Secret
from livesync_trio.errors import Kind, StorageUnavailable
from livesync_trio.fairness.buckets import ADMIN_FAILURES
from livesync_trio.hooks import Hooks
from livesync_trio.metrics import pulse
from livesync_trio.metrics.declared import METRICS
from livesync_trio.metrics.pulse import LOOP_PROBE_S
from livesync_trio.storage import base
from livesync_trio.storage.memory import MemoryEngine, MemoryWriter
from livesync_trio.store import writer as writer_module
from livesync_trio.store.actor import StoreActor
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.store.writer import ThreadWriter
from livesync_trio.telemetry import Counters, Histogram
from tests.bad_input.clients import NO_CURSOR, event, http_rpc, pull
from tests.bad_input.servers import TestedServer
from tests.bad_input.wires import head
from tests.telemetry.promql import PROCESS_SERIES

WEBSOCKET = 'transport="websocket"'


class Scraped:
    """A server in this process, and its metrics."""

    def __init__(self, server: Server, client: TestedServer) -> None:
        self.server = server
        self.client = client

    def families(self) -> dict[str, Family]:
        body, content_type = self.server.metrics.render()
        assert content_type == "text/plain; version=0.0.4; charset=utf-8"
        return {family.name: family for family in text_string_to_metric_families(body.decode())}

    def value(self, series: str, **labels: str) -> float:
        found = [
            sample.value
            for family in self.families().values()
            for sample in family.samples
            if sample.name == series and sample.labels == labels
        ]
        assert len(found) == 1, f"{series} {labels}: {found}"
        return float(found[0])

    async def becomes(self, value: float, series: str, **labels: str) -> None:
        """Wait until a number is this one: what ends a connection goes its way after the client has left."""
        with trio.fail_after(5):
            while self.value(series, **labels) != value:
                await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def scraped(hooks: Hooks | None = None, **settings: Any) -> AsyncIterator[Scraped]:
    server = Server(Config(port=0, **settings), hooks or Hooks(), MemoryEngine())
    ready, told = trio.open_memory_channel[str](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run, lambda url, _: ready.send_nowait(url))
        with trio.fail_after(20):
            client = TestedServer(int((await told.receive()).rpartition(":")[2]), [], ...)
            try:
                yield Scraped(server, client)
            finally:
                await client.hang_up()
        nursery.cancel_scope.cancel()


# --- the exposition --------------------------------------------------------------------------------------------------


async def test_everything_declared_is_there_and_nothing_else() -> None:
    async with scraped() as seen:
        await seen.client.check_works()
        families = seen.families()
        ours = {metric.name.removesuffix("_total"): metric for metric in METRICS}
        assert families.keys() - ours.keys() == {name.removesuffix("_total") for name in PROCESS_SERIES}
        for name, metric in ours.items():
            family = families[name]
            assert (family.type, family.documentation) == (metric.kind, metric.help)
            switched_off = name.startswith(("livesync_backup_", "livesync_feed_", "livesync_webhook_"))
            assert {sample.name for sample in family.samples} == (set() if switched_off else set(metric.series))
            for sample in family.samples:
                assert sample.labels.keys() - {"le"} == set(metric.labels)


async def test_histograms_are_cumulative() -> None:
    async with scraped() as seen:
        await seen.client.check_works()
        samples = seen.families()["livesync_commit_duration_seconds"].samples
        buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket")]
        assert buckets == sorted(buckets)
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        (count,) = [sample.value for sample in samples if sample.name.endswith("_count")]
        assert buckets[-1] == (float("inf"), count)
        assert count == 5  # two stores opened, three pushes


def test_a_value_falls_into_the_bucket_whose_end_it_does_not_exceed() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 7.5)


async def test_clients_cannot_make_series() -> None:
    async with scraped() as seen:
        before = {name: len(family.samples) for name, family in seen.families().items()}
        for number in range(20):
            client = await seen.client.rpc(f'store "{number}"\n', numbered=bool(number % 2))
            await client.push(event(1, 0))
            await client.push(event(1, 0))
            await seen.client.ask(head(f"GET /nothing/{number} HTTP/1.1"))
        assert {name: len(family.samples) for name, family in seen.families().items()} == before
        assert b'store "' not in seen.server.metrics.render()[0]


# --- what clients do -------------------------------------------------------------------------------------------------


async def test_pushes_events_and_refusals() -> None:
    async with scraped() as seen:
        client = await seen.client.rpc("s")
        await client.push(event(1, 0), event(2, 1), event(3, 2))
        await client.push(event(4, 3))
        await client.push(event(4, 3))
        await client.push(event(9, 8))
        assert seen.value("livesync_pushes_total") == 2
        assert seen.value("livesync_events_total") == 4
        assert seen.value("livesync_refusals_total", kind="server-ahead") == 2
        assert seen.value("livesync_pushes_above_head_total") == 1
        assert seen.value("livesync_commit_writes_count") == seen.value("livesync_commit_duration_seconds_count")
        assert seen.value("livesync_commit_wait_seconds_count") >= 2


async def test_what_is_refused_before_it_is_a_sync_request() -> None:
    async with scraped(auth_token=Secret("token")) as seen:
        for line, kind in (
            ("GET /nothing HTTP/1.1", "not-found"),
            ("GET /?storeId=s&transport=smoke HTTP/1.1", "bad-sync-url"),
            ("POST /health HTTP/1.1", "method-not-allowed"),
            ("GET /?storeId=s&transport=ws HTTP/1.1", "unauthenticated"),
            ("GET / HTTP/7.1", "bad-http"),
        ):
            await seen.client.ask(head(line))
            if kind != "unauthenticated":  # a request without upgrade is only told why it would be refused
                assert seen.value("livesync_refusals_total", kind=kind) == 1, kind
        await seen.client.ask(http_rpc("s", "1", "Pull", {"storeId": "s", "cursor": NO_CURSOR}))
        assert seen.value("livesync_refusals_total", kind="unauthenticated") == 1


async def test_connections_by_generation_and_transport_and_their_bytes() -> None:
    async with scraped() as seen:

        def open_now(generation: str, transport: str = "websocket") -> float:
            return seen.value("livesync_connections", generation=generation, transport=transport)

        fresh = await seen.client.rpc("s")
        assert open_now("unknown") == 1
        await fresh.push(event(1, 0))
        newer, older = await seen.client.rpc("s", numbered=True), await seen.client.v3("s")
        await newer.pull()
        await older.pull()
        assert [open_now(each) for each in ("0.3", "0.4", "next", "unknown")] == [1, 1, 1, 0]
        body = http_rpc("s", "1", "Pull", {"storeId": "s", "cursor": NO_CURSOR})
        kept = await seen.client.wire()
        received = seen.value("livesync_received_bytes_total", transport="http")
        sent = seen.value("livesync_sent_bytes_total", transport="http")
        answer = await kept.ask(body)
        assert open_now("unknown", "http") == 1
        assert seen.value("livesync_http_requests_total") == 1
        assert seen.value("livesync_received_bytes_total", transport="http") - received == len(body)
        assert seen.value("livesync_sent_bytes_total", transport="http") - sent >= len(answer.body)
        assert seen.value("livesync_connections_opened_total") == 3
        received = seen.value("livesync_received_bytes_total", transport="websocket")
        sent = seen.value("livesync_sent_bytes_total", transport="websocket")
        await fresh.check_ping()
        assert (
            seen.value("livesync_received_bytes_total", transport="websocket") - received == len('{"_tag": "Ping"}') + 6
        )
        assert seen.value("livesync_sent_bytes_total", transport="websocket") - sent == len('{"_tag":"Pong"}') + 2
        await seen.client.hang_up()
        await seen.becomes(0, "livesync_connections", generation="0.4", transport="websocket")
        await seen.becomes(0, "livesync_connections", generation="unknown", transport="http")


async def test_a_connection_that_the_server_closed() -> None:
    async with scraped() as seen:
        client = await seen.client.rpc("s")
        await client.send("no JSON at all")
        await client.closed()
        assert seen.value("livesync_connections_closed_total", kind="bad-frame") == 1


async def test_followers_and_who_lags_behind() -> None:
    async with scraped() as seen:
        writer, reader = await seen.client.rpc("s"), await seen.client.rpc("s")
        await reader.send(pull("1", "s", live=True))
        await reader.receive()
        assert seen.value("livesync_followers") == 1
        assert seen.value("livesync_actors", state="followed") == 1
        assert seen.value("livesync_pull_lag_events") == 0
        text = "x" * 400_000
        for number in range(40):  # 16 MB that nobody reads: more than socket and outbox hold
            await writer.push(event(number + 1, number, text))
        assert seen.value("livesync_followers_sent_back_total") == 1
        assert seen.value("livesync_followers") == 0
        assert seen.value("livesync_pulls_reading") == 1
        assert 0 < seen.value("livesync_pull_lag_events") <= 40
        assert seen.value("livesync_outbox_bytes") == seen.value("livesync_outbox_longest_bytes") > 0
        while (await reader.receive()).get("values", [{}])[-1]["batch"][-1]["eventEncoded"]["seqNum"] < 40:
            pass
        assert seen.value("livesync_pull_lag_events") == 0
        await seen.becomes(1, "livesync_followers")


# --- stores and storage ----------------------------------------------------------------------------------------------


async def test_actors_that_crash_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = StoreActor.run
    crashes = 2

    async def run(self: StoreActor) -> None:
        nonlocal crashes
        if crashes:
            crashes -= 1
            raise ValueError("broken on purpose")
        await healthy(self)

    monkeypatch.setattr(StoreActor, "run", run)
    async with scraped() as seen:
        client = await seen.client.rpc("s")
        while (await client.push(event(1, 0)))["exit"]["_tag"] == "Failure":
            pass
        assert seen.value("livesync_actor_crashes_total") == 2
        assert seen.value("livesync_actor_starts_total") == 3
        assert seen.value("livesync_actor_restarts_total") == 2
        assert seen.value("livesync_actors", state="quiet") == 1
        assert seen.value("livesync_actors", state="fenced") == 0


class Gate(MemoryEngine):
    """An engine whose commits wait until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_commit = threading.Event()
        self.fails = False

    def writer(self) -> MemoryWriter:
        inner, gate = super().writer(), self
        commit = inner.commit

        def gated(writes: Sequence[base.Write]) -> list[base.Outcome | Exception]:
            gate.may_commit.wait(10)
            if gate.fails:
                raise StorageUnavailable("broken on purpose")
            return commit(writes)

        inner.commit = gated  # type: ignore[method-assign]
        return inner


async def test_what_waits_while_the_disk_is_slow_and_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Gate()
    server = Server(Config(port=0), Hooks(), engine)
    seen = Scraped(server, TestedServer(0, [], ...))
    async with trio.open_nursery() as nursery:
        started, ready = trio.open_memory_channel[str](1)
        nursery.start_soon(server.run, lambda url, _: started.send_nowait(url))
        await ready.receive()
        answers: list[Any] = []

        async def inspect() -> None:
            answers.append(await server.registry.handle("s").inspect())  # type: ignore[arg-type]

        for _ in range(5):
            nursery.start_soon(inspect)
        await seen.becomes(5, "livesync_mailbox_commands")
        assert seen.value("livesync_mailbox_longest_commands") == 5
        assert seen.value("livesync_actors", state="busy") == 1
        engine.fails = True
        engine.may_commit.set()
        await seen.becomes(0, "livesync_mailbox_commands")
        await trio.testing.wait_all_tasks_blocked()
        assert {answer.kind for answer in answers} == {Kind.STORAGE_UNAVAILABLE}
        assert seen.value("livesync_storage_errors_total", operation="write") == 1
        assert seen.value("livesync_storage_healthy") == 0
        engine.fails = False
        monkeypatch.setattr(writer_module, "STORAGE_RECOVERY_S", 0.0)
        await inspect()
        await seen.becomes(1, "livesync_storage_healthy")
        nursery.cancel_scope.cancel()


async def test_reads_that_fail() -> None:
    class Broken:
        def read(self, *_: Any) -> Any:
            raise StorageUnavailable("broken on purpose")

    counters = Counters()
    readers = ThreadReaders(Broken, 1, counters)  # type: ignore[arg-type]
    with pytest.raises(StorageUnavailable):
        await readers.read(None, 0, 1)  # type: ignore[arg-type]
    assert counters.storage_errors == {"read": 1}


async def test_writes_of_many_stores_that_share_a_transaction() -> None:
    engine, counters = Gate(), Counters()
    writer = ThreadWriter(engine.writer, counters)
    writer.start()
    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(writer.commit, base.OpenStore(f"s{number}"))  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
        engine.may_commit.set()
    await writer.stop()
    assert counters.commit_writes.total == 9
    assert sum(counters.commit_writes.counts) < 9
    assert sum(counters.commit_seconds.counts) == sum(counters.commit_waiting_seconds.counts)
    assert counters.commit_seconds.total > 0


# --- the process -----------------------------------------------------------------------------------------------------


async def test_a_loop_that_comes_round_late(autojump_clock: trio.testing.MockClock) -> None:
    counters = Counters()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.measure, counters)
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.autojump_threshold = float("inf")
        autojump_clock.jump(LOOP_PROBE_S + 0.3)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert counters.loop_delay_seconds.total == pytest.approx(0.3)


async def test_seconds_in_which_the_loop_stood_still_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    counters = Counters()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.measure, counters)
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.autojump_threshold = float("inf")
        for late_s in (0.0, 0.05, 5.0, 0.05, 0.25):  # a freeze among turns that are merely busy
            autojump_clock.jump(LOOP_PROBE_S + late_s)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert counters.loop_blocked_seconds == pytest.approx(5.25)


async def test_pauses_of_the_garbage_collector(autojump_clock: trio.testing.MockClock) -> None:
    before, counters = list(gc.callbacks), Counters()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.measure, counters)
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert sum(counters.gc_pause_seconds[2].counts) >= 1
        assert counters.gc_pause_seconds[2].total > 0
        nursery.cancel_scope.cancel()
    assert gc.callbacks == before


async def test_the_end_is_shown() -> None:
    async with scraped() as seen:
        assert seen.value("livesync_draining") == 0
        seen.server.door.draining = True
        assert seen.value("livesync_draining") == 1


# --- who may read them on the public port ----------------------------------------------------------------------------


def bearer(token: str) -> bytes:
    return head("GET /metrics HTTP/1.1", f"Authorization: Bearer {token}")


async def test_without_a_token_there_is_no_such_page() -> None:
    async with scraped(admin_secret=Secret("the admin secret"), admin_port=0) as seen:
        for request in (head("GET /metrics HTTP/1.1"), bearer("the admin secret"), bearer("")):
            assert (await seen.client.ask(request)).status == 404


async def test_who_brings_the_token_reads_them_and_who_guesses_must_wait() -> None:
    async with scraped(metrics_token=Secret("the token"), trusted_proxies=("loopback",)) as seen:
        answer = await seen.client.ask(bearer("the token"))
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert "livesync_pushes_total 0.0" in answer.text
        assert (await seen.client.ask(head("GET /metrics HTTP/1.1"))).status == 401
        assert (await seen.client.ask(head("POST /metrics HTTP/1.1", "Content-Length: 0"))).status == 404

        async def elsewhere(token: str) -> int:
            asked = head("GET /metrics HTTP/1.1", f"Authorization: Bearer {token}", "X-Forwarded-For: 192.0.2.1")
            return (await seen.client.ask(asked)).status

        for _ in range(ADMIN_FAILURES):
            assert await elsewhere("a guess") == 401
        assert await elsewhere("a guess") == 429
        assert await elsewhere("the token") == 429
        assert (await seen.client.ask(bearer("the token"))).status == 200  # another address


async def test_a_real_process_shows_itself(tmp_path: Path) -> None:
    from tests.telemetry.process import watched

    async with watched(tmp_path, metrics_token="the token") as server:
        client = await server.rpc("s")
        await client.push(event(1, 0))
        answer = await server.ask(bearer("the token"))
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        assert families["livesync_pushes"].samples[0].value == 1
        assert families["livesync_build_info"].samples[0].labels["engine"] == "sqlite"
        assert families["process_resident_memory_bytes"].samples[0].value > 10_000_000
