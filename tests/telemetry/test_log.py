"""The log: one line a thing, none of it from users, and no flood."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.config import Secret
from livesync_trio.connection.frame_log import SEVERAL, UNREADABLE, label
from livesync_trio.errors import Kind
from livesync_trio.hooks import HookContext, HookRunner, Hooks
from livesync_trio.limits import REPEATED_LINES_MAX, REPEATED_LINES_PERIOD_S
from livesync_trio.telemetry import Flood, configure_logging, get_logger
from livesync_trio.telemetry.logs import EVERYBODY_ELSE, REPEATED_SOURCES_MAX
from tests.bad_input.clients import NO_CURSOR, event, http_rpc
from tests.bad_input.servers import running_server
from tests.bad_input.websockets import upgrade
from tests.conformance.servers import REPOSITORY
from tests.telemetry.process import watched

RECORDED = REPOSITORY / "tests/transcripts/data"


def left_out(logs: list[Any]) -> list[tuple[str, str, int]]:
    return [(line["source"], line["what"], line["left_out"]) for line in logs if line["event"] == "lines left out"]


# --- floods ----------------------------------------------------------------------------------------------------------


def test_the_first_lines_of_each_source_and_kind_are_written() -> None:
    flood = Flood()
    for source in ("a", "b"):
        for what in ("x", "y"):
            allowed = [flood.allows(source, what, 5.0) for _ in range(REPEATED_LINES_MAX + 3)]
            assert allowed == [True] * REPEATED_LINES_MAX + [False] * 3


def test_after_its_minute_a_source_is_heard_again_and_the_rest_is_told() -> None:
    flood = Flood()
    with structlog.testing.capture_logs() as logs:
        for _ in range(REPEATED_LINES_MAX + 7):
            flood.allows("a", "x", 5.0)
        assert not flood.allows("a", "x", 5.0 + REPEATED_LINES_PERIOD_S - 0.1)
        assert logs == []
        assert flood.allows("a", "x", 5.0 + REPEATED_LINES_PERIOD_S)
    assert left_out(logs) == [("a", "x", 8)]


async def test_the_rest_is_told_although_nobody_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    flood = Flood()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood.watch)
            for _ in range(REPEATED_LINES_MAX + 2):
                flood.allows("a", "x", trio.current_time())
            flood.allows("quiet", "x", trio.current_time())
            await trio.sleep(REPEATED_LINES_PERIOD_S - 1)
            assert left_out(logs) == []
            await trio.sleep(REPEATED_LINES_PERIOD_S / 4 + 2)
            assert left_out(logs) == [("a", "x", 2)]
            for _ in range(REPEATED_LINES_MAX + 5):
                flood.allows("a", "x", trio.current_time())
            nursery.cancel_scope.cancel()
    assert left_out(logs) == [("a", "x", 2), ("a", "x", 5)]


def test_more_sources_than_can_be_remembered_count_together() -> None:
    flood = Flood()
    for number in range(REPEATED_SOURCES_MAX):
        assert flood.allows(str(number), "x", 0.0)
    assert [flood.allows(f"late {number}", "x", 0.0) for number in range(REPEATED_LINES_MAX + 1)][-1] is False
    with structlog.testing.capture_logs() as logs:
        flood._sweep(REPEATED_LINES_PERIOD_S)
    assert left_out(logs) == [(EVERYBODY_ELSE, "x", 1)]
    assert flood.allows("late 0", "x", REPEATED_LINES_PERIOD_S)


async def test_a_client_that_is_refused_again_and_again_fills_no_log() -> None:
    count = 3 * REPEATED_LINES_MAX
    payload = {"authToken": "the token"}
    async with running_server(auth_token=Secret("the token"), payload=payload) as server:
        body = http_rpc("s", "1", "Pull", {"storeId": "s", "cursor": NO_CURSOR})
        for number in range(count):
            await server.ask(upgrade(f"/?storeId=s{number}&transport=ws") if number % 2 else body)
        client = await server.rpc("s", payload=payload)
        for number in range(count):
            await client.push(event(5, 5 + number))
        kinds = Counter(line["kind"] for line in server.logged("request refused"))
        assert kinds == {Kind.UNAUTHENTICATED: REPEATED_LINES_MAX, Kind.INVALID_BATCH: REPEATED_LINES_MAX}
        line = server.logged("request refused")[0]
        assert (line["store"], line["kind"], line["log_level"]) == ("s", Kind.UNAUTHENTICATED, "warning")
        assert line["peer"].startswith("127.0.0.1:")
    assert ("127.0.0.1", Kind.UNAUTHENTICATED, count - REPEATED_LINES_MAX) in left_out(server.logs)


async def test_a_hook_that_always_fails_fills_no_log() -> None:
    def validate_payload(payload: Any, context: Any) -> None:
        raise KeyError("no")

    count = REPEATED_LINES_MAX + 5
    with structlog.testing.capture_logs() as logs:
        flood = Flood()
        runner = HookRunner(Hooks(validate_payload=validate_payload), 5.0, flood)
        context = HookContext("s", None, {}, "127.0.0.1:1")
        for _ in range(count):
            assert (await runner.ask(validate_payload, None, context)) is not None
        flood._sweep(float("inf"))
    assert len([line for line in logs if line["event"] == "hook failed"]) == REPEATED_LINES_MAX
    assert left_out(logs) == [("validate_payload", "hook failed", 5)]


# --- connections and frames ------------------------------------------------------------------------------------------


async def test_a_connection_has_a_line_at_its_beginning_and_one_at_its_end() -> None:
    async with running_server() as server:
        client = await server.rpc("s")
        await client.push(event(1, 0))
        await client.wire.close()
        with trio.fail_after(5):
            while not server.logged("disconnected"):
                await trio.testing.wait_all_tasks_blocked()
        (begun,), (ended,) = server.logged("connected"), server.logged("disconnected")
        for line in (begun, ended):
            assert (line["store"], line["log_level"]) == ("s", "info")
            assert line["peer"].startswith("127.0.0.1:")
        assert begun["connection"] == ended["connection"]
        assert (ended["generation"], 0 <= ended["duration_s"] < 5) == ("0.4", True)


async def test_pushes_and_requests_have_lines_with_their_durations(tmp_path: Path) -> None:
    async with watched(tmp_path, log_level="debug") as server:
        client = await server.rpc("s")
        await client.push(event(1, 0))
        await client.push(event(1, 0))
        await server.ask(http_rpc("s", "7", "Push", {"storeId": "s", "batch": [event(2, 1)], "backendId": NO_CURSOR}))
        await server.wait_for("request answered")
        stored, late, by_http = server.lines("push answered")
        assert (stored["outcome"], late["outcome"], by_http["outcome"]) == ("stored", "server-ahead", "stored")
        assert 0 < stored["commit_ms"] <= stored["duration_ms"] < 5000
        assert late["commit_ms"] is None
        assert (stored["store"], stored["events"], by_http["request"]) == ("s", 1, "7")
        (answered,) = server.lines("request answered")
        assert (answered["status"], 0 < answered["duration_s"] < 5) == (200, True)
        frames = [line["message"] for line in server.lines("frame received") + server.lines("frame sent")]
        assert frames == ["SyncWsRpc.Push", "SyncWsRpc.Push", "Exit", "Exit"]


def recorded_messages() -> list[bytes]:
    """Everything that real clients and servers said over WebSockets."""
    found = set()
    for path in [*RECORDED.rglob("*.jsonl"), *RECORDED.rglob("*.jsonl.gz")]:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in map(json.loads, content.splitlines()):
            if line.get("kind") == "ws-text" and "raw" not in path.name:
                found.add(line["data"].encode())
    return sorted(found)


def test_every_message_of_real_clients_and_servers_has_a_name() -> None:
    messages = recorded_messages()
    assert len(messages) > 100
    unnamed = [message[:80] for message in messages if label(message)[0] == UNREADABLE]
    assert unnamed == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b'{"_tag":"Request","id":"7","tag":"SyncWsRpc.Push","payload":{}}', ("SyncWsRpc.Push", "7")),
        (b'{"_tag":"Request","id":7,"tag":"SyncWsRpc.Pull"}', ("SyncWsRpc.Pull", "7")),
        (b'{"_tag":"Request","id":"7","tag":"secret"}', ("Request", "7")),
        (b'{"_tag":"secret","id":"7"}', (UNREADABLE, "7")),
        (b'{"_tag":"Ping","requestId":"not a request id"}', ("Ping", None)),
        (b'{"_tag":"WSMessage.PullRes","requestId":{"context":"pull","requestId":"a"}}', ("WSMessage.PullRes", None)),
        (b'[{"_tag":"Ping"}]', (SEVERAL, None)),
        (b"secret", (UNREADABLE, None)),
        (b"[" * 100_000, (SEVERAL, None)),
        (b'{"a":' * 100_000, (UNREADABLE, None)),
        (b'{"_tag":"\xff"}', (UNREADABLE, None)),
        (b"", (UNREADABLE, None)),
    ],
)
def test_what_a_message_is_called(message: bytes, expected: tuple[str, str | None]) -> None:
    assert label(message) == expected


@given(st.dictionaries(st.sampled_from(["_tag", "tag", "id", "requestId", "payload"]), st.text(min_size=33)))
def test_nothing_that_a_stranger_wrote_is_part_of_a_name(fields: dict[str, str]) -> None:
    name, request = label(json.dumps(fields).encode())
    assert (name, request) == (UNREADABLE, None)


# --- the set-up ------------------------------------------------------------------------------------------------------


def test_a_change_reaches_loggers_that_have_been_used(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    log = get_logger("room of this test")
    try:
        configure_logging("warning", "json")
        log.info("not yet")
        configure_logging("info", "json")
        log.info("now")
        configure_logging("info", "console")
        log.info("for people")
        configure_logging("error", "json")
        log.info("no more")
    finally:
        structlog.configure(**before)
        log.__dict__.pop("bind", None)
    first, second = capsys.readouterr().err.splitlines()
    written = json.loads(first)
    assert written["timestamp"].endswith("Z")
    assert {name: value for name, value in written.items() if name != "timestamp"} == {
        "event": "now", "level": "info", "component": "room of this test"
    }  # fmt: skip
    assert "for people" in second
    assert not second.startswith("{")
