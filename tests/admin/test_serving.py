"""Connections of the control plane's own address are few, end by themselves, and never cost sync a descriptor."""

from __future__ import annotations

import contextlib
import resource

import pytest
import trio
from quart import Response, request

from livesync_trio.admin import serving
from livesync_trio.admin.serving import Connections, connections_max
from tests.bad_input.wires import Ended, Wire, head

from .stage import PATIENCE_S, SECRET, Stage, running

BEARER = f"Authorization: Bearer {SECRET}"
ASKS = head("GET /api/v1/info HTTP/1.1")
TAIL = head("GET /api/v1/store/tail?storeId=store%2F%C3%B6+1 HTTP/1.1", BEARER)


def connections_of(stage: Stage) -> Connections:
    assert stage.server.control is not None
    return stage.server.control._connections


async def knock(stage: Stage) -> Wire:
    """A connection on which a request has been refused."""
    wire = await stage.wire(stage.control_url)
    await wire.send(ASKS)
    await wire.read_until(b"}}")
    return wire


async def ended(wire: Wire) -> bool:
    """Wait until the server has ended a connection."""
    with trio.fail_after(PATIENCE_S):
        with contextlib.suppress(trio.BrokenResourceError, Ended):
            await wire.read_to_end()
    return True


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        ASKS,
        ASKS * 3,
        head("POST /api/v1/store/reset HTTP/1.1", "Content-Length: 100") + b"{",
        head("POST /api/v1/store/reset HTTP/1.1", "Expect: 100-continue", "Content-Length: 100"),
        head("GET /api/v1/info HTTP/1.1", BEARER),
        head("OPTIONS /api/v1/info HTTP/1.1"),
    ],
)
async def test_a_connection_without_a_request_ends(stage: Stage, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ADMIN_KEEP_ALIVE_S", 0.2)
    wire = await stage.wire(stage.control_url)
    await wire.send(sent)
    assert await ended(wire)


async def test_a_connection_ends_with_its_last_answer(stage: Stage) -> None:
    """Without waiting for the limit, which is 15 s."""
    for last in (head("GET / HTTP/1.1", "Connection: close"), b"GET / HTTP/1.0\r\n\r\n"):
        wire = await stage.wire(stage.control_url)
        await wire.send(last)
        with trio.fail_after(5):
            assert b"401" in await wire.read_to_end()


async def test_a_tail_is_no_idle_connection(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ADMIN_KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr("livesync_trio.admin.tail.ADMIN_HEARTBEAT_S", 0.1)
    await stage.fill(1)
    wire = await stage.wire(stage.control_url)
    await wire.send(TAIL)
    await wire.read_until(b"event: store")
    for _ in range(3):
        await wire.read_until(b": still here")
    await stage.fill(1, first=2)
    await wire.read_until(b"id: 2\n")


async def test_whoever_is_idle_makes_room(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_of(stage), "_max", 8)  # 4 from one address
    await stage.fill(1)
    tail = await stage.wire(stage.control_url)
    await tail.send(TAIL)
    await tail.read_until(b"event: store")
    idle = [await knock(stage) for _ in range(3)]
    await idle[0].send(ASKS)  # now the second has been idle for longest
    await idle[0].read_until(b"}}")
    newest = await knock(stage)
    assert len(connections_of(stage)) <= 4
    assert await ended(idle[1])
    for still in (idle[0], idle[2], newest):
        await still.send(ASKS)
        await still.read_until(b"}}")
    await stage.fill(1, first=2)
    await tail.read_until(b"id: 2\n")


async def test_where_all_are_busy_the_newcomer_is_refused_and_counted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_of(stage), "_max", 4)  # 2 from one address
    await stage.fill(1)
    tails = [await stage.wire(stage.control_url) for _ in range(2)]
    for tail in tails:
        await tail.send(TAIL)
        await tail.read_until(b"event: store")
    before = stage.server.counters.refusals["too-many-requests"]
    assert await ended(await stage.wire(stage.control_url))
    assert stage.server.counters.refusals["too-many-requests"] == before + 1
    await stage.fill(1, first=2)
    for tail in tails:
        await tail.read_until(b"id: 2\n")
    await (await stage.client()).check_works()


async def test_connections_of_a_believed_proxy_are_counted_in_all_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(trusted_proxies=("loopback",)) as stage:
        monkeypatch.setattr(connections_of(stage), "_max", 8)
        for _ in range(20):
            await knock(stage)
        assert len(connections_of(stage)) == 8


async def test_a_flood_of_strangers_keeps_no_operator_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_of(stage), "_max", 16)
    for _ in range(200):
        await (await stage.wire(stage.control_url)).send(b"GET / HTTP/1.1\r\n")
    assert (await stage.get("/api/v1/info"))["healthy"]
    assert len(connections_of(stage)) <= 8


async def test_pages_with_cookies_and_headers_of_their_own_can_be_served(stage: Stage) -> None:
    """What the console will need of the app and of Hypercorn, on one connection."""
    assert stage.server.control is not None
    app = stage.server.control.app

    async def page() -> Response:
        answer = Response(f"seen {request.cookies.get('seen', '0')}", content_type="text/html")
        answer.headers["content-security-policy"] = "default-src 'self'"
        answer.set_cookie("seen", "1", httponly=True, samesite="Strict")
        return answer

    async def asset() -> Response:
        return Response(b"x" * 1_000_000, content_type="text/javascript", headers={"cache-control": "max-age=60"})

    app.add_url_rule("/page", "page", page)
    app.add_url_rule("/asset", "asset", asset)
    assert [(await stage.http.get("/page")).text for _ in range(2)] == ["seen 0", "seen 1"]
    answer = await stage.http.get("/page")
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    answer = await stage.http.get("/asset")
    assert (len(answer.content), answer.headers["cache-control"]) == (1_000_000, "max-age=60")
    assert len(connections_of(stage)) == 1


async def test_who_takes_no_byte_is_cut(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ADMIN_STALL_LIMIT_S", 0.2)
    monkeypatch.setattr("livesync_trio.admin.events.ADMIN_ANSWER_BYTES", 50_000_000)
    for number in range(1, 13):
        await stage.fill(1, first=number, args="x" * 1_000_000)
    wire = await stage.wire(stage.control_url)
    await wire.send(head("GET /api/v1/store/events?storeId=store%2F%C3%B6+1 HTTP/1.1", BEARER))
    await wire.read_until(b"\r\n\r\n")
    with trio.fail_after(PATIENCE_S):
        while len(connections_of(stage)) > 1:  # the one that asks
            await stage.get("/api/v1/info")


def test_few_descriptors_are_for_sync_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(descriptors: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
        return connections_max()

    assert [limit(number) for number in (512, 1024, 65_536, resource.RLIM_INFINITY)] == [64, 128, 128, 128]
