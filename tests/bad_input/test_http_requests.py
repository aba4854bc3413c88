"""HTTP requests that are well-formed and wrong, or shaped to be read in two ways."""

from __future__ import annotations

import re

import pytest

from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import HEADERS_MAX_BYTES

from .clients import http_rpc, sync_url
from .servers import STORE, TestedServer
from .websockets import UPGRADE
from .wires import HttpAnswer, head, post

BAD_SYNC_URLS = [
    "/?transport=ws",
    "/?storeId=&transport=ws",
    "/?storeId=a&storeId=b&transport=http",
    "/?storeId=a&transport=ws&transport=ws",
    "/?storeId=a&transport=",
    "/?storeId=a&transport=tcp",
    "/?storeId=a&transport=WS",
    "/?storeId=a&transport=ws&payload=",
    "/?storeId=a&transport=ws&payload=undefined",
    "/?storeId=a&transport=ws&payload=notjson",
    "/?storeId=a&transport=ws&payload=1&payload=1",
    "/?storeId=a&transport=ws&payload=%2525",
    "/?storeId=a&transport=ws&payload=%25ff",
    "/?storeId=a%00b&transport=ws",
    "/?storeId=" + "a" * 1025 + "&transport=ws",
    "/?storeId=a&transport=ws" + "&x=1" * 100,
    "/websocket",
    "/websocket?storeId=",
    "/deep/websocket?payload=1",
]


@pytest.mark.parametrize("target", BAD_SYNC_URLS, ids=[url[:50] for url in BAD_SYNC_URLS])
async def test_a_bad_sync_url_is_answered_with_400(server: TestedServer, target: str) -> None:
    for request in (head(f"GET {target} HTTP/1.1"), head(f"GET {target} HTTP/1.1", *UPGRADE), post(target, b"{}")):
        answer = await server.ask(request)
        assert answer.status == RULES[Kind.BAD_SYNC_URL].http_status == 400
        assert re.search("`storeId`|`payload`|`transport`|64", answer.text)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "TRACE", "BREW"])
async def test_unknown_paths_are_404_and_known_ones_405_for_other_methods(server: TestedServer, method: str) -> None:
    for path in ("/nothing", "/health/", "/websocket/", "/Health", "//", "/../etc/passwd", "/%2e%2e/"):
        answer = await server.ask(head(f"{method} {path} HTTP/1.1"))
        assert answer.status == RULES[Kind.NOT_FOUND].http_status == 404, path
    expected = 200 if method in ("GET", "HEAD") else RULES[Kind.METHOD_NOT_ALLOWED].http_status
    for path in ("/", "/health", "/?storeId=a", "/?"):
        answer = await server.ask(head(f"{method} {path} HTTP/1.1"))
        assert answer.status == expected, path
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "BREW"])
async def test_http_sync_is_a_post(server: TestedServer, method: str) -> None:
    answer = await server.ask(head(f"{method} {sync_url(STORE, 'http')} HTTP/1.1"))
    assert answer.status == RULES[Kind.METHOD_NOT_ALLOWED].http_status == 405


@pytest.mark.parametrize("target", ["http://sync.example/health", "*", "//sync.example/health"])
async def test_odd_targets_are_no_trouble(server: TestedServer, target: str) -> None:
    assert (await server.ask(head(f"GET {target} HTTP/1.1"))).status in (200, 400, 404)
    assert (await server.ask(head(f"OPTIONS {target} HTTP/1.1"))).status == 204


# --- smuggling -------------------------------------------------------------------------------------------------------

INNER = head("GET /health HTTP/1.1")
TARGET = sync_url("s", "http")
BODY = http_rpc("s", "1", "Ping", {"storeId": "s"}).partition(b"\r\n\r\n")[2]
SIZE = len(BODY)

AMBIGUOUS = {
    "a length and chunks": [f"Content-Length: {SIZE}", "Transfer-Encoding: chunked"],
    "chunks and a length": ["Transfer-Encoding: chunked", f"Content-Length: {SIZE}"],
    "two lengths": [f"Content-Length: {SIZE}", f"Content-Length: {SIZE + 1}"],
    "two lengths in one": [f"Content-Length: {SIZE}, {SIZE + 1}"],
    "a length with a sign": [f"Content-Length: +{SIZE}"],
    "a negative length": ["Content-Length: -1"],
    "a length in hex": ["Content-Length: 0x10"],
    "a length with an underscore": ["Content-Length: 1_0"],
    "an empty length": ["Content-Length:"],
    "a length beyond 2^64": ["Content-Length: 99999999999999999999999"],
    "an unknown coding": ["Transfer-Encoding: gzip"],
    "two codings": ["Transfer-Encoding: gzip, chunked"],
    "chunked twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "identity": ["Transfer-Encoding: identity"],
    "a coding with a blank": [f"Content-Length: {SIZE}", "Transfer-Encoding : chunked"],
    "a folded coding": [f"Content-Length: {SIZE}", "Transfer-Encoding:\r\n chunked"],
    "a coding after a vertical tab": [f"Content-Length: {SIZE}", "Transfer-Encoding: \x0bchunked"],
}


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, BODY)


@pytest.mark.parametrize("order", [1, -1], ids=["length first", "chunks first"])
async def test_a_body_with_two_lengths_is_refused_even_where_both_say_the_same(
    server: TestedServer, order: int
) -> None:
    wire = await server.wire()
    headers = [f"Content-Length: {len(CHUNKED)}", "Transfer-Encoding: chunked"][::order]
    await wire.send(head(f"POST {TARGET} HTTP/1.1", *headers) + CHUNKED + INNER)
    assert (await wire.read_answer()).status == RULES[Kind.BAD_HTTP].http_status
    assert await wire.read_to_end() == b""


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_a_body_of_unclear_length_is_refused_and_nothing_behind_it_is_read(
    server: TestedServer, headers: list[str]
) -> None:
    wire = await server.wire()
    await wire.send(head(f"POST {TARGET} HTTP/1.1", *headers) + BODY + INNER)
    answer = await wire.read_answer()
    assert answer.status == RULES[Kind.BAD_HTTP].http_status == 400
    assert await wire.read_to_end() == b""


async def test_the_same_length_twice_is_one_length(server: TestedServer) -> None:
    size = f"Content-Length: {SIZE}"
    wire = await server.wire()
    await wire.send(head(f"POST {TARGET} HTTP/1.1", size, size) + BODY + INNER)
    first = await wire.read_answer()
    assert first.status in (200, 400)
    if first.status == 200:
        assert (await wire.read_answer()).json["status"] == "ok"


@pytest.mark.parametrize(
    "chunks",
    [b"x\r\n", b"-1\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n", b"2\r\n{}0\r\n\r\n", b"g\r\n", b"\r\n",
     b"2;" + b"x" * 100_000, b"2 \r\n{}\r\n0\r\n\r\n", b"fffffffffffffffffffff\r\n"],
    ids=lambda chunks: repr(chunks[:12]),
)  # fmt: skip
async def test_malformed_chunks_are_refused(server: TestedServer, chunks: bytes) -> None:
    wire = await server.wire()
    await wire.send(head(f"POST {TARGET} HTTP/1.1", "Transfer-Encoding: chunked") + chunks + INNER)
    await wire.half_close()
    answer = await wire.read_answer()
    assert 400 <= answer.status < 500
    assert b"livesync" not in await wire.read_to_end()


async def test_a_chunked_body_is_read_whole_and_what_follows_is_the_next_request(server: TestedServer) -> None:
    pieces = b"".join(b"1;ext=1\r\n%b\r\n" % BODY[at : at + 1] for at in range(SIZE)) + b"0\r\nX-Trailer: 1\r\n\r\n"
    request = head(f"POST {TARGET} HTTP/1.1", "Transfer-Encoding: chunked") + pieces + INNER
    for size in (len(request), 7, 1):
        wire = await server.wire()
        await wire.send_piecemeal(request, size)
        _check_ping(await wire.read_answer())
        assert (await wire.read_answer()).json["status"] == "ok"


def _check_ping(answer: HttpAnswer) -> None:
    pong = {"_tag": "Success", "value": {"_tag": "SyncMessage.Pong"}}
    assert (answer.status, answer.json) == (200, [{"_tag": "Exit", "requestId": "1", "exit": pong}])


# --- bombs, cuts, pipelines ------------------------------------------------------------------------------------------

BOMBS = {
    "a long target": head("GET /" + "a" * 2 * HEADERS_MAX_BYTES + " HTTP/1.1"),
    "a long header": head("GET / HTTP/1.1", "X: " + "a" * 2 * HEADERS_MAX_BYTES),
    "many headers": head("GET / HTTP/1.1", *["X: y"] * 40_000),
    "a long name": head("GET / HTTP/1.1", "X" * 2 * HEADERS_MAX_BYTES + ": y"),
    "a long method": b"G" * 2 * HEADERS_MAX_BYTES,
    "headers without end": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_a_head_larger_than_the_limit_is_answered_with_431(server: TestedServer, bomb: bytes) -> None:
    wire = await server.wire()
    answer = await wire.ask(bomb)
    assert answer.status == RULES[Kind.HEADERS_TOO_BIG].http_status == 431
    assert b"HTTP/1.1" not in await wire.read_to_end()


async def test_a_payload_of_30_kilobytes_in_the_url_is_fine(server: TestedServer) -> None:
    client = await server.rpc(payload={"authToken": "x" * 30_000})
    await client.check_works()


@pytest.mark.parametrize(
    "request_", [post(TARGET, BODY)[:-1], post(TARGET, BODY)[: -len(BODY)],
                 head(f"POST {TARGET} HTTP/1.1", "Transfer-Encoding: chunked") + b"5\r\n{\"_t"],
    ids=["one byte short", "no byte of it", "in a chunk"],
)  # fmt: skip
async def test_a_body_that_is_cut_off_is_not_acted_on(server: TestedServer, request_: bytes) -> None:
    wire = await server.wire()
    await wire.send(request_)
    await wire.half_close()
    answer = await wire.read_answer()
    assert answer.status == RULES[Kind.BAD_HTTP].http_status
    assert await wire.read_to_end() == b""
    wire = await server.wire()
    await wire.send(request_)
    await wire.reset()


async def test_a_hundred_requests_may_be_pipelined(server: TestedServer) -> None:
    wire = await server.wire()
    await wire.send(post(TARGET, BODY) * 100)
    for _ in range(100):
        _check_ping(await wire.read_answer())


async def test_a_request_may_be_split_at_every_byte(server: TestedServer) -> None:
    request = post(TARGET, BODY)
    wire = await server.wire()
    for split in range(1, len(request)):
        await wire.send_piecemeal(request, split)
        _check_ping(await wire.read_answer())


async def test_whoever_waits_for_100_continue_gets_it(server: TestedServer) -> None:
    wire = await server.wire()
    await wire.send(head(f"POST {TARGET} HTTP/1.1", f"Content-Length: {SIZE}", "Expect: 100-continue"))
    assert (await wire.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    _check_ping(await wire.ask(BODY))


async def test_http_1_0_and_connection_close_are_respected(server: TestedServer) -> None:
    for request in (
        b"GET /health HTTP/1.0\r\n\r\n",
        head("GET /health HTTP/1.1", "Connection: close"),
        post(TARGET, BODY, "Connection: close"),
        post(TARGET, BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ):
        wire = await server.wire()
        await wire.send(request + request)
        assert (await wire.read_answer()).status == 200
        assert b"HTTP/1.1" not in await wire.read_to_end()


async def test_a_head_request_gets_a_head(server: TestedServer) -> None:
    wire = await server.wire()
    answer = await wire.ask(head("HEAD /health HTTP/1.1", "Connection: close"))
    assert (answer.status, int(answer.headers["content-length"]) > 10) == (200, True)
    assert await wire.read_to_end() == b""


@pytest.mark.parametrize("asked", ["x-a,x-b", "x-\xe9", "x" * 10_000, "a\tb"], ids=ascii)
async def test_a_preflight_gets_the_headers_it_asks_for(server: TestedServer, asked: str) -> None:
    wire = await server.wire()
    answer = await wire.ask(head(f"OPTIONS {TARGET} HTTP/1.1", f"Access-Control-Request-Headers: {asked}"))
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] in (asked, "*")
    assert (await wire.ask(INNER)).status == 200


async def test_no_answer_lets_a_header_be_injected(server: TestedServer) -> None:
    injected = "Access-Control-Request-Headers: x%0d%0aSet-Cookie: a=b"
    for request in (
        head(f"OPTIONS {TARGET} HTTP/1.1", injected, "Origin: https://a%0d%0aSet-Cookie:b"),
        head("GET /%0d%0aSet-Cookie:%20a=b HTTP/1.1"),
    ):
        assert "set-cookie" not in (await server.ask(request)).headers
