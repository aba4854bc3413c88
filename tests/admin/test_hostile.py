"""What ends Hypercorn ends one connection: sync goes on, the control plane too, SIGTERM ends the process in time.

The inputs are those of the measurements that kept Hypercorn away from the public port (decision 0001), against a real
process: a fault that took the process down would take the tests down, were it in theirs.
"""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import h2.config
import h2.connection
import trio

from livesync_trio.limits import ADMIN_GRACE_S, DRAIN_LIMIT_S
from tests.bad_input.websockets import UPGRADE
from tests.bad_input.wires import head

from .processes import Process, serving
from .stage import SECRET

BEARER = f"Authorization: Bearer {SECRET}"
LARGE = "/api/v1/store/events?storeId=store%2F%C3%B6+1"


def over_h2(*headers: tuple[str, str]) -> bytes:
    """A request over HTTP/2 with these headers, whether they make sense or not."""
    config = h2.config.H2Configuration(
        client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, list(headers), end_stream=True)
    return bytes(connection.data_to_send())


MORTAL = {
    "early data behind an upgrade": head("GET /api/v1/info HTTP/1.1", *UPGRADE) + b"\x81\x85\0\0\0\0hello",
    "early data that is no frame": head("GET /nowhere HTTP/1.1", *UPGRADE) + b"hello hello hello",
    "CONNECT over h2 without a path": over_h2((":method", "CONNECT"), (":authority", "a")),
}
"""Each of them raises in Hypercorn, and would end its `serve`."""

STRANGE = {
    "extended CONNECT": over_h2((":method", "CONNECT"), (":authority", "a"), (":protocol", "websocket")),
    "h2 without a path": over_h2((":method", "GET"), (":authority", "a"), (":scheme", "http")),
    "h2 without a method": over_h2((":path", "/"), (":authority", "a"), (":scheme", "http")),
    "h2 preface and garbage": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 50,
    "upgrade to h2c and garbage": head(
        "GET / HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"
    )
    + b"garbage" * 9,
    "upgrade to h2c with bad settings": head("GET / HTTP/1.1", "Upgrade: h2c", "HTTP2-Settings: !!!"),
    "bytes in the target": b"GET /\xff\xfe?\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "bytes in the method": b"G\xc3T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute target": b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no target": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a long head": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000,
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 100,
    "two lengths": head("POST / HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a chunk that is none": head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"zz\r\n",
    "half a body": head("POST /api/v1/store/reset HTTP/1.1", BEARER, "Content-Length: 100") + b"{",
    "a negative length": head("POST / HTTP/1.1", "Content-Length: -1"),
    "pipelined": head("GET /api/v1/info HTTP/1.1", BEARER) * 50,
    "pipelined behind an upgrade": head("GET / HTTP/1.1", *UPGRADE) + head("GET / HTTP/1.1") * 3,
    "an upgrade to nothing": head("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"),
    "an upgrade over HTTP/1.0": head("GET / HTTP/1.0", *UPGRADE),
    "zeros": b"\0" * 1000,
    "nothing": b"",
}
"""Whatever becomes of these; some of them raise as well."""


async def send_and_leave(server: Process, data: bytes) -> None:
    """Send it, and wait for the server's end of the connection."""
    wire = await server.wire(server.control_port)
    await wire.send(data)
    with contextlib.suppress(trio.BrokenResourceError):
        await wire.half_close()
    if data:  # a connection without a request is kept for a while
        await wire.read_to_end()
    await wire.close()


async def test_what_ends_hypercorn_ends_one_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        client = await server.client()
        await client.check_works()
        neighbour = await server.wire(server.control_port)
        await neighbour.send(head("GET /api/v1/store/tail?storeId=store%2F%C3%B6+1&after=0 HTTP/1.1", BEARER))
        await neighbour.read_until(b"id: 1\n")
        for data in (*MORTAL.values(), *MORTAL.values()):
            await send_and_leave(server, data)
            assert (await server.info())["health"]["controlPlane"] == "listening"
            await client.check_works()  # the same connection as before
        await neighbour.read_until(b"id: 7\n")  # the same tail as before, with every event
        assert (await server.health())["status"] == "ok"
        assert "Traceback" not in server.log
        assert "level=error" not in server.log
        assert await server.stop() < DRAIN_LIMIT_S


async def test_a_flood_of_strangers_leaves_sync_its_descriptors(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        client = await server.client()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (160, 160))
        for _ in range(200):
            await (await server.wire(server.control_port)).send(head("GET /api/v1/info HTTP/1.1"))
        assert (await server.health())["status"] == "ok"
        await (await server.client()).check_works()
        await client.check_works()
        assert (await server.info())["healthy"]
        assert server.log.count("\n") < 20


async def test_strange_inputs_leave_both_as_they_were(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        client = await server.client()
        for data in STRANGE.values():
            await send_and_leave(server, data)
            await server.info()
            await client.check_works()
        assert "site-packages/quart" not in server.log  # the app itself never failed
        assert await server.stop() < DRAIN_LIMIT_S


async def test_who_reads_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.fill(8_000_000)
        client = await server.client()
        for _ in range(3):
            greedy = await server.wire(server.control_port, receive_buffer_bytes=4096)
            await greedy.send(head(f"GET {LARGE} HTTP/1.1", BEARER) * 4)
            await greedy.read(1000)  # the answer has begun, and the rest of it is not read
        await client.check_works()
        assert await server.stop() < ADMIN_GRACE_S + 3


async def test_an_address_that_is_taken_is_told_and_taken_later(tmp_path: Path) -> None:
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = taken.socket.getsockname()[1]
    async with serving(tmp_path, ADMIN_PORT=str(port)) as server:
        assert server.control_port == port
        assert (await server.health())["control_plane"] == "cannot listen"
        client = await server.client()
        await client.check_works()
        await taken.aclose()
        assert (await server.info())["healthy"]
        await client.check_works()
        assert server.log.count("the control plane cannot listen") == 1


async def test_a_tail_takes_its_leave_when_the_process_is_told_to_stop(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await (await server.client()).check_works()
        tail = await server.wire(server.control_port)
        await tail.send(head("GET /api/v1/store/tail?storeId=store%2F%C3%B6+1&after=0 HTTP/1.1", BEARER))
        await tail.read_until(b"id: 1\n")
        assert await server.stop() < ADMIN_GRACE_S + 3
        assert b"event: end\n" in await tail.read_to_end()


async def test_an_address_that_no_name_server_knows_keeps_nothing_from_serving(tmp_path: Path) -> None:
    async with serving(tmp_path, ADMIN_HOST="x" * 70 + ".localhost", ADMIN_PORT="8100") as server:
        assert (await server.health())["control_plane"] == "cannot listen"
        await (await server.client()).check_works()
