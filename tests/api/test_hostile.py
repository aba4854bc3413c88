"""Whatever comes in at the doors of the API is answered as it should be, and the server goes on."""

from __future__ import annotations

from typing import Any

from livesync_trio.config import Secret
from tests.api.serving import LINES, STREAM, TOKEN, api, path_of
from tests.bad_input.servers import FRAME_MAX_BYTES
from tests.bad_input.wires import head

JSON = {"content-type": "application/json"}
DEEP = b"[" * 100_000 + b"]" * 100_000

BODIES: list[tuple[bytes, dict[str, str], int]] = [
    (b"", JSON, 400),
    (b"nonsense", JSON, 400),
    (b"[]", JSON, 400),
    (b"{}", JSON, 400),
    (b'{"events":[]}', JSON, 400),
    (b'{"events":[{"type":"a"}],"id":"x"}', JSON, 400),
    (b'{"type":"a","seqNum":9}', JSON, 400),
    (b'{"type":7}', JSON, 400),
    (b'{"type":null}', JSON, 400),
    (b'{"type":"a","id":""}', JSON, 400),
    (b'{"type":"a","id":"\\u0000"}', JSON, 400),
    (b'{"type":"a","id":"\\ud800"}', JSON, 400),
    (b'{"type":"a","id":7}', JSON, 400),
    (b'{"type":"a","id":"%b"}' % (b"x" * 256), JSON, 400),
    (b'{"type":"a","clientId":{}}', JSON, 400),
    (b'{"type":"a","timestamp":5}', JSON, 400),
    (b'{"type":"a","data":%b}' % DEEP, JSON, 400),
    (b'{"type":"\xff"}', JSON, 400),
    (b'{"type":"a"}\n{"type":"b"', {"content-type": LINES["accept"]}, 400),
    (b"\n\n", {"content-type": LINES["accept"]}, 400),
    (b'{"type":"a"}', {"content-type": "text/plain"}, 415),
    (b'{"type":"a"}', {**JSON, "content-encoding": "gzip"}, 415),
    (b'{"type":"a"}', {**JSON, "if-match": "17"}, 400),
    (b'{"type":"a"}', {**JSON, "if-match": '"1", "2"'}, 400),
    (b'{"type":"a"}', {**JSON, "if-match": '"99999999999999999"'}, 400),
    (b'{"type":"a"}', {**JSON, "idempotency-key": "x" * 241}, 400),
    (b'{"type":"%b"}' % (b"x" * FRAME_MAX_BYTES), JSON, 413),
]

QUERIES = [
    "after=-1",
    "after=x",
    "after=1&after=2",
    "after=9007199254740992",
    "after=1.0",
    "limit=0",
    "limit=1001",
    "wait=31",
    "wait=-1",
    "since=yesterday",
    "until=2026-13-01",
    "typo=1",
    "type=%ff",
    "after=" + "9" * 5_000,
    "&".join(f"a{n}=1" for n in range(500)),
]

PATHS = [
    ("/v1", 404),
    ("/v1/", 404),
    ("/v1/stores", 404),
    ("/v1/stores/", 400),
    ("/v1/stores//events", 400),
    ("/v1/stores/%ff/events", 400),
    ("/v1/stores/%00/events", 400),
    ("/v1/stores/livesync-staged%2Fx/events", 400),
    (f"/v1/stores/{'x' * 5_000}/events", 400),
    ("/v1/stores/a/b/events", 404),
    ("/v1/stores/a/eventsx", 404),
    ("/v1/stores/a/events/", 404),
    ("/v1/stores/../../health", 404),
    ("/v1/openapi.json/", 404),
]


def is_problem(answer: Any, status: int) -> None:
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["code"] in told["type"]
    assert told["detail"]


async def test_bodies() -> None:
    async with api() as program:
        for body, headers, status in BODIES:
            is_problem(await program.http.post(path_of(), content=body, headers=headers), status)
        assert await program.appended({"type": "a"}) == [1]


async def test_queries_headers_and_paths() -> None:
    async with api() as program:
        await program.appended({"type": "a"})
        for query in QUERIES:
            for rest in ("/events", "", "/sessions"):
                is_problem(await program.http.get(f"{path_of(rest=rest)}?{query}"), 400)
            is_problem(await program.http.get(f"{path_of()}?{query}", headers=LINES), 400)
            is_problem(await program.http.get(f"{path_of()}?{query}", headers=STREAM), 400)
        for path, status in PATHS:
            answer = await program.server.ask(head(f"GET {path} HTTP/1.1"))
            assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), path
        for value in ("x", "1.%00x y", "99999999999999999", '"1"', "-1"):
            is_problem(await program.http.get(path_of(), headers={"last-event-id": value}), 400)
        is_problem(await program.http.get(path_of(), headers={"accept": "image/png"}), 406)
        for rest in ("/events", "", "/sessions"):
            for method in ("DELETE", "PUT", "PATCH", "TRACE", "QUERY"):
                is_problem(await program.http.request(method, path_of(rest=rest), content=b"x"), 405)
        for rest in ("", "/sessions"):
            is_problem(await program.http.post(path_of(rest=rest), json={"type": "a"}), 405)


async def test_ids_that_look_like_something_else() -> None:
    """They are texts, whatever they hold; the same goes for names and stores."""
    ids = ["'; DROP TABLE livesync_7_events; --", "%s", "{}", "\\", '"', "ä\u0308", "\U0001f600", "null", "../x", "0"]
    async with api() as program:
        for store in ("'; --", "a\n", "%2F", "{storeId}", "\U0001f600"):
            assert await program.appended(*({"type": one, "id": one} for one in ids), store=store) == [*range(1, 11)]
            assert await program.appended(*({"type": "x", "id": one} for one in ids), store=store) == [*range(1, 11)]
            page = await program.page(store)
            assert [(event["id"], event["type"]) for event in page["events"]] == [(one, one) for one in ids]


async def test_half_a_request_ends_its_own_connection_only() -> None:
    async with api() as program:
        for text in (
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
            b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
            b"GET %b HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n",
        ):
            wire = await program.server.wire()
            await wire.send(text % path_of().encode())
            await wire.reset()
        assert await program.appended({"type": "a"}) == [1]


async def test_a_stranger_is_told_nothing_of_a_store() -> None:
    async with api(auth_token=Secret(TOKEN), payload={"authToken": TOKEN}) as program:
        for rest in ("", "/events", "/sessions"):
            is_problem(await program.get(rest=rest), 401)
            is_problem(await program.http.get(path_of(rest=rest), headers={"authorization": "Bearer wrong"}), 403)
        is_problem(await program.post({"type": "a"}), 401)
        is_problem(await program.http.get(f"{path_of()}?token={TOKEN}"), 401)  # for streams only
        assert (await program.http.get("/v1/openapi.json")).status_code == 200


# --- pages of the web ------------------------------------------------------------------------------------------------


async def test_pages_of_other_origins_are_refused_and_others_may_read_etags() -> None:
    async with api(cors_origins=("https://app.example",)) as program:
        is_problem(await program.http.get(path_of(), headers={"origin": "https://evil.example"}), 403)
        asked = {
            "origin": "https://app.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, idempotency-key, if-match",
        }
        preflight = await program.http.options(path_of(), headers=asked)
        assert preflight.headers["access-control-allow-headers"] == "authorization, idempotency-key, if-match"
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        answer = await program.http.post(path_of(), json={"type": "a"}, headers={"origin": "https://app.example"})
        assert "etag" in answer.headers["access-control-expose-headers"]


# --- rates -----------------------------------------------------------------------------------------------------------


async def test_appends_are_charged_like_pushes() -> None:
    async with api(rate_store=("events=5/h",)) as program:
        await program.appended(*({"type": "a"} for _ in range(5)), store="busy")
        answer = await program.post({"type": "a"}, "busy")
        is_problem(answer, 429)
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["retryAfter"] > 0
        client = await program.dialect(path_of("busy"))
        assert (await client.ask(type="push", events=[{"type": "a"}]))["code"] == "too-fast"
