"""Events over HTTP: appended once, read as a page, as lines, as they come."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import trio

from livesync_trio.model import StoreId
from livesync_trio.storage.base import Reset
from livesync_trio.storage.memory import MemoryEngine
from tests.api.serving import LINES, PATIENCE_S, STORE, api, path_of


async def test_an_event_is_numbered_and_comes_back_verbatim() -> None:
    async with api() as program:
        body = b'{"id":"one","type":"todo\\u00e4","data":{"b": 1e400,\n"a":[-0]},"timestamp":null}'
        headers = {"content-type": "application/json; charset=utf-8"}
        answer = await program.http.post(path_of(), content=body, headers=headers)
        assert (answer.status_code, answer.json()["events"]) == (201, [{"id": "one", "seqNum": 1}])
        page = await program.get()
        assert b'"type":"todo\\u00e4","data":{"b": 1e400, "a":[-0]},"timestamp":"' in page.content
        assert page.headers["etag"] == answer.headers["etag"]
        (event,) = page.json()["events"]
        assert (event["id"], event["seqNum"], event["clientId"], event["sessionId"]) == ("one", 1, "api", "api")
        await program.server.check_works()


async def test_a_time_of_its_own_is_taken_and_the_servers_counts() -> None:
    event = {"type": "a", "timestamp": "2024-01-01T00:00:00Z"}
    async with api() as program:
        client = await program.dialect()
        assert (await program.post(event)).status_code == 201
        assert (await program.post({"events": [{"type": "b"}, event]})).json()["head"] == 3
        assert (await client.ask(type="push", events=[event, {**event, "timestamp": None}]))["head"] == 5
        assert all(one["timestamp"] > "2026" for one in (await program.page())["events"])
        several: tuple[object, ...] = (5, [], {"a": "b"}, True)
        for wrong in several:
            answer = await program.post({**event, "timestamp": wrong})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
            assert "timestamp" in answer.json()["detail"]


async def test_many_events_in_each_form() -> None:
    async with api() as program:
        assert await program.appended({"type": "a"}, {"type": "b", "id": "x"}) == [1, 2]
        lines = b'{"type":"c","clientId":"me","sessionId":"mine"}\n\n{"type":"d","id":"x"}\r\n{"type":"e"}'
        answer = await program.http.post(path_of(), content=lines, headers={"content-type": LINES["accept"]})
        assert answer.status_code == 201
        assert [event["seqNum"] for event in answer.json()["events"]] == [3, 2, 4]
        assert answer.json()["repeated"] == 1
        page = await program.page()
        assert [event["type"] for event in page["events"]] == ["a", "b", "c", "e"]
        assert (page["next"], page["head"]) == (None, 4)


async def test_a_request_with_a_key_is_taken_once() -> None:
    async with api() as program:
        body = {"events": [{"type": "a"}, {"type": "b", "id": "own"}, {"type": "c"}]}
        first = await program.post(body, idempotency_key="order 17")
        again = await program.post(body, idempotency_key="order 17")
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == {**again.json(), "repeated": 0}
        assert [event["id"] for event in again.json()["events"]] == ["order 17/0", "own", "order 17/2"]
        assert (await program.page())["head"] == 3


async def test_if_match() -> None:
    async with api() as program:
        refused = await program.post({"type": "a"}, if_match='"4"')
        assert (refused.status_code, refused.json()["head"]) == (412, 0)
        assert refused.headers["content-type"] == "application/problem+json"
        taken = await program.post({"type": "a", "id": "a"}, if_match='"0"')
        assert taken.status_code == 201
        assert (await program.post({"type": "b"}, if_match=taken.headers["etag"])).status_code == 201
        assert (await program.post({"type": "b"}, if_match=taken.headers["etag"])).status_code == 412
        assert (await program.post({"type": "a", "id": "a"}, if_match='"0"')).status_code == 200
        assert (await program.post({"type": "c"}, if_match='"2.another-identity"')).status_code == 412
        assert (await program.post({"type": "c"}, if_match="*")).status_code == 201


async def test_pages_follow_each_other() -> None:
    async with api() as program:
        await program.appended(*({"type": "odd" if n % 2 else "even", "data": n} for n in range(1, 26)))
        seen: list[int] = []
        after: int | None = 0
        while after is not None:
            page = await program.page(after=after, limit=7)
            seen += [event["data"] for event in page["events"]]
            after = page["next"]
        assert seen == list(range(1, 26))
        odd = await program.page(type="odd", limit=3, after=5)
        assert [event["data"] for event in odd["events"]] == [7, 9, 11]
        at = (await program.page())["events"][0]["timestamp"]
        assert len((await program.page(since=at))["events"]) == 25
        assert (await program.page(until=at))["events"] == []
        lines = await program.http.get(path_of(), params={"after": 20}, headers=LINES)
        assert [json.loads(line)["data"] for line in lines.text.splitlines()] == [21, 22, 23, 24, 25]


async def test_etag_head_and_gzip() -> None:
    async with api() as program:
        await program.appended(*({"type": "t", "data": "x" * 100} for _ in range(40)))
        plain = await program.http.get(path_of(), headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        async with program.http.stream("GET", path_of(), headers={"accept-encoding": "gzip"}) as squeezed:
            body = b"".join([part async for part in squeezed.aiter_raw()])
        assert squeezed.headers["content-encoding"] == "gzip"
        assert len(body) < len(plain.content) / 5
        assert gzip.decompress(body) == plain.content
        lines = await program.http.get(path_of(), headers={**LINES, "accept-encoding": "gzip"})
        assert lines.headers["content-encoding"] == "gzip"
        assert len(lines.text.splitlines()) == 40
        head = await program.http.head(path_of(), headers={"accept-encoding": "identity"})
        assert (head.content, head.headers["content-length"]) == (b"", plain.headers["content-length"])
        same = await program.http.get(path_of(), headers={"if-none-match": plain.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        await program.appended({"type": "t"})
        other = await program.http.get(path_of(), headers={"if-none-match": plain.headers["etag"]})
        assert other.status_code == 200


async def test_a_long_log_as_lines_is_read_in_parts() -> None:
    async with api() as program:
        text = "x" * 20_000
        for start in range(0, 200, 20):
            await program.appended(*({"type": "t", "data": [n, text]} for n in range(start, start + 20)))
        async with program.http.stream("GET", path_of(), headers=LINES) as answer:
            numbers = [json.loads(line)["data"][0] async for line in answer.aiter_lines()]
        assert numbers == list(range(200))


async def test_a_long_poll_waits_for_what_comes() -> None:
    async with api() as program:
        await program.appended({"type": "a"})
        assert (await program.page(wait=20))["events"][0]["seqNum"] == 1  # there is something: no waiting
        found: list[Any] = []

        async def poll() -> None:
            found.append(await program.page(after=1, type="wanted", wait=30))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await program.appended({"type": "other"})  # before the poll, or while it waits
            await program.appended({"type": "wanted"})
        assert [event["seqNum"] for event in found[0]["events"]] == [3]
        assert (await program.page(after=3, wait=1))["events"] == []


async def test_a_store_and_its_sessions() -> None:
    async with api() as program:
        assert (await program.get(rest="")).status_code == 404
        assert (await program.get()).status_code == 404
        await program.appended({"type": "a", "data": "ä"})
        store = (await program.get(rest="")).json()
        assert (store["storeId"], store["head"], store["events"]) == (STORE, 1, 1)
        assert store["createdAt"] <= store["lastSyncAt"]
        assert store["formatVersion"] == 7
        async with program.stream() as stream:
            await stream.message()
            peer = await program.server.rpc()
            await peer.check_works()
            protocols = [one["protocol"] for one in (await program.get(rest="/sessions")).json()["sessions"]]
        assert sorted(protocols) == ["0.4", "text/event-stream"]
        assert (await program.get("another", rest="/sessions")).json() == {"sessions": []}


# --- as they come ----------------------------------------------------------------------------------------------------


async def test_a_stream_has_history_first_and_then_what_comes() -> None:
    async with api() as program:
        await program.appended({"type": "a"}, {"type": "b"})
        async with program.stream() as stream, program.stream(type="b") as chosen:
            kind, _, told = await stream.message()
            assert (kind, told["head"]) == ("store", 2)
            assert await stream.numbers(2) == [1, 2]
            assert await chosen.numbers(1) == [2]
            peer = await program.server.rpc()
            await peer.check_works()  # a LiveStore client pushes and pulls
            await program.appended({"type": "b"})
            numbers = await stream.numbers(2)
            assert numbers == [3, 4]
            assert await chosen.numbers(1) == [4]


async def test_a_stream_goes_on_behind_the_last_event() -> None:
    async with api() as program:
        await program.appended(*({"type": "a"} for _ in range(5)))
        async with program.stream(after=1) as stream:
            await stream.message()
            _, first, _ = await stream.message()
            _, second, data = await stream.message()
            assert data["seqNum"] == 3
        assert first.partition(".")[0] == "2"
        await program.appended({"type": "a"})
        async with program.stream(after=0, last=second) as stream:
            assert await stream.numbers(3) == [4, 5, 6]


async def test_a_stream_of_a_store_nobody_used_waits_for_its_first_event() -> None:
    async with api() as program, program.stream("new") as stream:
        assert (await stream.message())[2]["head"] == 0
        await program.appended({"type": "a"}, store="new")
        assert await stream.numbers(1) == [1]


async def test_a_reset_is_told_to_who_follows_and_to_who_comes_back() -> None:
    engine = MemoryEngine()
    async with api(engine=engine, admin_secret=None) as program:
        await program.appended({"type": "a"}, {"type": "b"})
        async with program.stream() as stream:
            _, _, before = await stream.message()
            assert await stream.numbers(2) == [1, 2]
            [state] = engine.writer().commit([_reset()])
            await program.appended({"type": "c"})
            kind, _, told = await stream.message()
            assert (kind, told["backendId"]) == ("reset", state.backend_id)  # type: ignore[union-attr]
            _, last, data = await stream.message()
            assert (data["seqNum"], data["type"]) == (1, "c")
        async with program.stream(last=f"2.{before['backendId']}") as stream:
            assert [(await stream.message())[0] for _ in range(2)] == ["store", "reset"]
            assert await stream.numbers(1) == [1]
        refused = await program.get(after=2, backendId=before["backendId"])
        assert (refused.status_code, refused.json()["code"]) == (409, "backend-id-mismatch")
        async with program.stream(last=last) as stream:
            assert [(await stream.message())[0]] == ["store"]


def _reset() -> Reset:
    return Reset(StoreId(STORE))


async def test_who_reads_nothing_holds_nobody_up() -> None:
    async with api() as program:
        await program.appended({"type": "a"})
        async with program.stream() as slow, program.stream() as quick:
            await slow.message()
            await quick.message()
            for start in range(0, 60, 20):
                await program.appended(*({"type": "a", "data": "x" * 40_000} for _ in range(start, start + 20)))
            with trio.fail_after(PATIENCE_S):
                assert await quick.numbers(61) == list(range(1, 62))
                assert await slow.numbers(61) == list(range(1, 62))


async def test_who_reads_late_gets_everything_once_and_whole() -> None:
    """What is written without a task, by one, and read from the log again make one stream."""
    async with api() as program, program.stream() as stream:
        await stream.message()
        await program.appended({"type": "first"})
        assert await stream.numbers(1) == [1]
        big = "x" * 30_000
        for number in range(60):  # more than sockets and the queue hold, a few at a time
            await program.appended(*({"type": "a", "data": big} for _ in range(1 + number % 3)))
        head = (await program.page(after=1, limit=1))["head"]
        assert await stream.numbers(head - 1) == list(range(2, head + 1))
        await program.appended({"type": "last"})
        assert await stream.numbers(1) == [head + 1]


async def test_a_quiet_stream_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies cut what is silent; a comment is no message, and events come behind it as before."""
    monkeypatch.setattr("livesync_trio.api.following.API_HEARTBEAT_S", 0.01)
    async with api() as program, program.stream() as stream:
        await stream.message()
        await stream.wire.read_until(b": still here\n\n")
        await stream.wire.read_until(b"\r\n: still here\n\n\r\n")
        await program.appended({"type": "a"})
        assert await stream.numbers(1) == [1]
