"""Peers that send much and read nothing, or open more than they need: bounded, cut, and nobody else waits."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
import trio
import trio.testing

from livesync_trio.connection import outbox
from livesync_trio.connection.channel import ChannelEnded, Incoming
from livesync_trio.connection.outbox import Outbox
from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import (
    CONTROL_MAX_BYTES,
    EVENTS_PER_PUSH_MAX,
    FRAMES_PER_TURN,
    MESSAGES_PER_ARRAY_MAX,
    RECEIVE_BYTES,
)
from livesync_trio.transport.websocket import WebSocketChannel

from .clients import NO_CURSOR, event, http_rpc, pull, push, reason, sync_url, v3_url
from .servers import STORE, TestedServer, running_server
from .websockets import PING, PONG, TEXT, WebSocket, frame, text
from .wires import PATIENCE_S, Wire

QUEUE_BYTES = 256 * 1024
"""Limit of the queue for one peer in these tests."""

ANSWERS_TO_ONE_READ_BYTES = 20 * RECEIVE_BYTES
"""What may be queued beyond the limit: the answers to what was read before it was noticed."""

KERNEL_BYTES = 16 * 1024 * 1024
"""What the kernel may hold of one connection in both directions, generously."""


async def deaf_websocket(server: TestedServer, target: str) -> WebSocket:
    """A WebSocket whose kernel takes little, so that the server soon feels that nobody reads."""
    return await WebSocket.shake_hands(await server.wire(4096), target)


async def flood(wire: Wire, data: bytes, most_bytes: int, patience_s: float = 0.25) -> tuple[int, bool]:
    """Send `data` again and again until the server takes no more for `patience_s`, or cuts the connection.

    Returns how many bytes were taken, and whether the connection was cut.
    """
    sent = 0
    while sent < most_bytes:
        with trio.move_on_after(patience_s) as patience:
            try:
                await wire.stream.send_all(data)
            except trio.BrokenResourceError:
                return sent, True
        if patience.cancelled_caught:
            return sent, False
        sent += len(data)
    pytest.fail(f"{sent} bytes were taken from a peer that reads nothing")


FLOODS = {
    "websocket pings": frame(PING, b"x" * 125) * 500,
    "small websocket pings": frame(PING, b"") * 5_000,
    "json pings": text({"_tag": "Ping"}) * 3_000,
    "pulls of nothing": b"".join(text(pull(str(n), STORE)) for n in range(3_000)),
    "refused pushes": text(push("1", STORE, event(7, 7))) * 300,
    "interrupts of nothing": text({"_tag": "Interrupt", "requestId": "9"}) * 1_000,
    "unknown procedures": text({"_tag": "Request", "id": "1", "tag": "x"}) * 1_000,
}


@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
async def test_a_flood_from_a_peer_that_never_reads_is_not_read_without_end(
    server: TestedServer, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    most_queued = _watch_outboxes(monkeypatch)
    client = await deaf_websocket(server, sync_url(STORE))
    await flood(client.wire, data, 4 * KERNEL_BYTES)
    assert most_queued[0] <= QUEUE_BYTES + ANSWERS_TO_ONE_READ_BYTES
    await (await server.rpc()).check_works()


async def test_a_0_3_flood_is_not_read_without_end(server: TestedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    most_queued = _watch_outboxes(monkeypatch)
    client = await deaf_websocket(server, v3_url(STORE))
    pings = text({"_tag": "WSMessage.Ping", "requestId": "p" * 1000}) * 100
    await flood(client.wire, pings, 4 * KERNEL_BYTES)
    assert most_queued[0] <= QUEUE_BYTES + ANSWERS_TO_ONE_READ_BYTES
    await (await server.v3()).check_works()


def _watch_outboxes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the most bytes queued in any outbox; with a lower limit for it, so that floods need not be that large."""
    monkeypatch.setattr(outbox, "OUTBOX_HARD_MAX_BYTES", QUEUE_BYTES)
    most = [0]
    put = Outbox.put

    def noting(self: Outbox, message: bytes) -> None:
        put(self, message)
        most[0] = max(most[0], self.queued_bytes)

    monkeypatch.setattr(Outbox, "put", noting)
    return most


async def test_pongs_are_not_queued_without_end(server: TestedServer) -> None:
    """From a peer that does not read, not more is read than what its pongs and the kernel may hold."""
    client = await deaf_websocket(server, sync_url(STORE))
    sent, _ = await flood(client.wire, frame(PING, b"x" * 125) * 500, 4 * KERNEL_BYTES)
    assert sent <= KERNEL_BYTES + CONTROL_MAX_BYTES + 2 * RECEIVE_BYTES


async def test_a_peer_that_takes_nothing_for_the_stall_limit_is_cut() -> None:
    async with running_server(stall_limit_s=0.1) as server:
        client = await deaf_websocket(server, sync_url(STORE))
        _, cut = await flood(client.wire, frame(PING, b"x" * 125) * 500, 4 * KERNEL_BYTES, PATIENCE_S)
        assert cut
        (line,) = server.logged("connection cut")
        assert line["kind"] == Kind.STALLED


async def test_an_http_client_that_does_not_read_its_answer_is_cut_and_nobody_waits() -> None:
    async with running_server(stall_limit_s=0.1) as server:
        writer = await server.rpc("long")
        for start in range(40):
            await writer.push(event(start + 1, start, "x" * 500_000))
        wire = await server.wire(4096)
        await wire.send(http_rpc("long", "1", "Pull", {"storeId": "long", "cursor": NO_CURSOR}))
        for _ in range(5):
            await server.check_works()
        await trio.sleep(1)  # ten times the limit: nothing but reading would show that it was cut
        assert len(await wire.read_to_end()) < 20_000_000


async def test_ten_thousand_pulls_on_one_socket_are_answered_and_the_others_are_served(server: TestedServer) -> None:
    client = await server.rpc(numbered=True)
    live = 0
    for start in range(0, 10_000, 500):
        ids = range(start, start + 500)
        await client.send(*(pull(request_id, STORE, live=True) for request_id in ids))
        for _ in ids:
            message = await client.receive()
            if message["_tag"] == "Chunk":
                live += 1
            else:
                assert reason(message)[0] == Kind.TOO_MANY_REQUESTS
    assert live == 32
    await (await server.rpc()).check_works()


async def test_many_connections_that_say_nothing_hold_up_nobody(server: TestedServer) -> None:
    silent = [await server.wire() for _ in range(200)]
    half = [await server.wire() for _ in range(200)]
    for wire in half:
        await wire.send(b"GET / HTTP/1.1\r\nX:")
    await server.check_works()
    for wire in (*silent, *half):
        await wire.close()


async def test_connections_that_are_reset_at_once_leave_nothing_behind(server: TestedServer) -> None:
    for _ in range(100):
        client = await server.rpc()
        await client.send(pull("1", STORE, live=True), push("2", STORE, event(1)), {"_tag": "Ping"})
        await client.wire.reset()
    with trio.fail_after(30):
        while (await server.ask(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")).json["connections"]:
            await trio.lowlevel.checkpoint()
    assert len(await (await server.rpc()).pull()) == 1


async def test_messages_full_of_pings_are_no_trouble(server: TestedServer) -> None:
    client = await server.rpc()
    many = b"[" + b",".join([b'{"_tag":"Ping"}'] * MESSAGES_PER_ARRAY_MAX) + b"]"
    for _ in range(20):
        await client.send(many)
    for _ in range(20 * MESSAGES_PER_ARRAY_MAX):
        assert await client.receive_text() == b'{"_tag":"Pong"}'
    await client.check_works()


@pytest.mark.parametrize("opcode", [PING, TEXT], ids=["pings of the protocol", "messages"])
@pytest.mark.parametrize("behind_the_handshake", [False, True])
async def test_a_flood_of_frames_gives_others_their_turn(opcode: int, behind_the_handshake: bool) -> None:
    """One read may bring ten thousand of them, which would hold everybody up for tens of milliseconds."""
    ours, theirs = trio.testing.memory_stream_pair()
    flood = b"".join(frame(opcode, b"%d" % number) for number in range(5_000))
    leftover = flood if behind_the_handshake else b""
    channel = WebSocketChannel(theirs, leftover=leftover, frame_max_bytes=1000, stall_limit_s=10)
    taken: list[int] = []
    turns: list[int] = []

    def take(messages: list[Incoming]) -> bool:
        taken.extend(int(message.data) for message in messages)
        assert len(messages) <= FRAMES_PER_TURN
        channel.begin(())  # the pongs
        return True

    async def others() -> None:
        while True:
            turns.append(len(taken))
            await trio.lowlevel.checkpoint()

    async def read() -> None:
        with suppress(ChannelEnded):
            while True:
                await channel.flow(take)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        if not behind_the_handshake:
            await ours.send_all(flood)
        await ours.send_eof()
        nursery.start_soon(others)
        nursery.start_soon(read)
    if opcode == TEXT:
        assert taken == list(range(5_000))
        assert max(after - before for before, after in pairwise(turns)) <= 2 * FRAMES_PER_TURN
    assert len(turns) >= 5_000 // FRAMES_PER_TURN


async def test_pongs_that_nobody_asked_for_are_ignored(server: TestedServer) -> None:
    client = await server.rpc()
    await client.wire.send(frame(PONG, b"x" * 125) * 10_000)
    await client.check_works()


async def test_the_largest_batch_is_stored_and_comes_in_pages_and_one_event_more_is_refused(
    server: TestedServer,
) -> None:
    client, old = await server.rpc("many"), await server.v3("many")
    tiny = [event(n + 1, n, None, name="", clientId="", sessionId="") for n in range(EVENTS_PER_PUSH_MAX + 1)]
    kind, words = reason(await client.push(*tiny))
    assert (kind, f"at most {EVENTS_PER_PUSH_MAX} events" in words) == (Kind.INVALID_REQUEST, True)
    assert await client.pull() == []
    await old.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": tiny})
    assert f"at most {EVENTS_PER_PUSH_MAX} events" in (await old.receive())["message"]
    assert (await client.push(*tiny[:-1]))["exit"]["_tag"] == "Success"
    assert await client.pull() == tiny[:-1]


async def test_silence_is_answered_by_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    from livesync_trio.connection import peers

    monkeypatch.setattr(peers, "LIVENESS_SWEEP_S", 0.02)
    monkeypatch.setattr(peers, "PROBE_AFTER_S", 0.05)
    async with running_server(idle_limit_s=1) as server:
        client, old = await server.rpc(), await server.v3()
        assert (await client.receive_frame()).opcode == PING
        assert (await old.receive_frame()).opcode == PING
        assert await client.closed() == RULES[Kind.SILENT].close_code == 1001
        assert await old.closed() == RULES[Kind.SILENT].close_code
