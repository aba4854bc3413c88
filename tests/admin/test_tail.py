"""The live tail: catch up, then follow, as server-sent events."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
import trio

from livesync_trio.admin.declaring import Stream
from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.tail import HEARTBEAT, Tail, follow
from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import StoredEvent, StoreId
from tests.bad_input.wires import Ended, Wire, head

from .stage import PATIENCE_S, SECRET, STORE, Stage, refusal, seen

PATH = "/api/v1/store/tail"


class Message(NamedTuple):
    kind: str
    id: str
    data: str


class Listener:
    """What a browser makes of server-sent events (HTML, 9.2.6), on a wire of its own."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._text = bytearray()

    async def next(self) -> Message:
        """The next message; comments are passed over. Raises Ended where the answer ends as it should."""
        while True:
            end = self._text.find(b"\n\n")
            if end < 0:
                await self._read_chunk()
                continue
            lines = self._text[:end].decode().split("\n")
            del self._text[: end + 2]
            fields: dict[str, list[str]] = {}
            for name, _, value in (line.partition(": ") for line in lines if not line.startswith(":")):
                fields.setdefault(name, []).append(value)
            if fields:
                only = {name: "\n".join(values) for name, values in fields.items()}
                return Message(only.get("event", "message"), only.get("id", ""), only["data"])

    async def _read_chunk(self) -> None:
        size = int(await self._wire.read_until(b"\r\n"), 16)
        self._text += await self._wire.read(size)
        assert await self._wire.read(2) == b"\r\n"
        if size == 0:
            raise Ended

    async def numbers(self, count: int) -> list[int]:
        """The ids of the next messages, all of which must be events."""
        told = [await self.next() for _ in range(count)]
        assert {message.kind for message in told} == {"message"}, told
        return [int(message.id) for message in told]


@asynccontextmanager
async def listening(stage: Stage, last: str | None = None, **query: Any) -> AsyncIterator[Listener]:
    """Open a tail, and read its greeting."""
    wire = await stage.wire(stage.control_url)
    more = [] if last is None else [f"Last-Event-ID: {last}"]
    target = f"{PATH}?{urlencode({'storeId': STORE, **query})}"
    await wire.send(head(f"GET {target} HTTP/1.1", f"Authorization: Bearer {SECRET}", *more))
    answer = (await wire.read_until(b"\r\n\r\n")).lower()
    assert answer.startswith(b"http/1.1 200")
    assert b"content-type: text/event-stream" in answer
    listener = Listener(wire)
    assert (await listener.next()).kind == "store"
    yield listener
    await wire.close()


async def test_it_tells_what_comes_from_the_head_on(stage: Stage) -> None:
    await stage.fill(3)
    async with listening(stage) as tail:
        await stage.fill(2, first=4)
        assert await tail.numbers(2) == [4, 5]


async def test_it_catches_up_first_without_a_gap_or_a_duplicate(stage: Stage) -> None:
    await stage.fill(50)
    async with listening(stage, after=0) as tail, trio.open_nursery() as nursery:

        async def push_on() -> None:
            for number in range(51, 71):
                await stage.fill(1, first=number)

        nursery.start_soon(push_on)
        assert await tail.numbers(70) == list(range(1, 71))


async def test_it_resumes_behind_the_last_event_id(stage: Stage) -> None:
    await stage.fill(5)
    async with listening(stage, last="3", after=0) as tail:
        assert await tail.numbers(2) == [4, 5]


@pytest.mark.parametrize("last", ["x", "-1", "1.0", str(2**53), "٣", "0" * 4417, "9" * 4417])
async def test_a_last_event_id_that_is_none_is_told(stage: Stage, last: str) -> None:
    await stage.fill(1)
    answer = await stage.http.get(PATH, params={"storeId": STORE}, headers={b"last-event-id": last.encode()})
    refusal(answer, 400, "bad-parameter")


async def test_an_event_is_the_same_as_in_a_page_of_events(stage: Stage) -> None:
    args = '{"b":1.0,"a":-0,"s":"\\ud83d",\n "n" :\t12345678901234567890}'
    client = await stage.client()
    request = (
        '{"_tag":"Request","id":"1","tag":"SyncWsRpc.Push","headers":[],"payload":{"storeId":"store/ö 1",'
        '"backendId":{"_tag":"None"},"batch":[{"name":"n","args":ARGS,"seqNum":1,"parentSeqNum":0,'
        '"clientId":"c","sessionId":"s"}]}}'
    )
    await client.send(request.replace("ARGS", args))
    assert (await client.receive())["exit"]["_tag"] == "Success"
    page = await stage.http.get("/api/v1/store/events", params={"storeId": STORE})
    async with listening(stage, after=0) as tail:
        told = await tail.next()
    assert args.replace("\n", " ") in told.data
    assert page.text.replace("\n", " ") == f'{{"events":[{told.data}],"next":null}}'


async def test_a_reset_is_told_and_the_new_log_follows(stage: Stage) -> None:
    await stage.fill(3)
    async with listening(stage) as tail:
        answer = await stage.post("/api/v1/store/reset", storeId=STORE, confirm=STORE)
        told = await tail.next()
        assert told.kind == "reset"
        assert answer.json()["backendId"] in told.data
        await stage.fill(2)
        assert await tail.numbers(2) == [1, 2]


async def test_a_number_that_the_log_never_had_means_another_log(stage: Stage) -> None:
    await stage.fill(2)
    async with listening(stage, last="50") as tail:
        assert (await tail.next()).kind == "reset"
        assert await tail.numbers(2) == [1, 2]
    assert stage.server.counters.cursors_ahead_of_head == 0


async def test_it_ends_cleanly_when_the_server_stops(stage: Stage) -> None:
    await stage.fill(1)
    async with listening(stage) as tail:
        await stage.server.drain()
        assert (await tail.next()).kind == "end"
        with pytest.raises(Ended):
            await tail.next()


async def test_there_are_only_so_many(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.admin.routes.ADMIN_TAILS_MAX", 1)
    await stage.fill(1)
    async with listening(stage):
        await stage.refused(429, "too-many-requests", PATH, storeId=STORE)
    await seen(stage, lambda: not view_of(stage).tails)
    assert (await stage.http.head(PATH, params={"storeId": STORE})).status_code == 200
    assert not view_of(stage).tails
    async with listening(stage):
        pass


async def test_tails_that_come_at_once_are_counted_as_they_come(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.fill(1)
    let_in: list[int] = []
    monkeypatch.setattr("livesync_trio.admin.routes.ADMIN_TAILS_MAX", 5)

    async def listen() -> None:
        wire = await stage.wire(stage.control_url)
        await wire.send(head(f"GET {PATH}?{urlencode({'storeId': STORE})} HTTP/1.1", f"Authorization: Bearer {SECRET}"))
        let_in.append(int((await wire.read_until(b"\r\n\r\n")).split()[1]))

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(listen)
    assert (let_in.count(200), let_in.count(429)) == (5, 35)
    await stage.hang_up()
    await seen(stage, lambda: view_of(stage).tails_admitted == 0)


def test_line_ends_do_not_make_an_event_larger() -> None:
    """Issue 21.8: each became the beginning of another line, seven times its size."""
    event = StoredEvent(1, 1, b'{"args":{' + b"\n" * 10_000 + b"}}", "2026-01-01T00:00:00.000Z")
    [page] = Tail.render([event])
    assert len(page.items) < 10_200


# --- without HTTP ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def tailing(stage: Stage) -> AsyncIterator[AsyncGenerator[bytes, None]]:
    """A tail whose parts are taken by hand; its greeting has been taken."""
    stream = await follow(view_of(stage), StoreId(STORE), None)
    assert isinstance(stream, Stream)
    async with aclosing(stream.parts):
        assert (await anext(stream.parts)).startswith(b"event: store\n")
        yield stream.parts


def view_of(stage: Stage) -> ServerView:
    assert stage.server.control is not None
    return stage.server.control.server


def followers(stage: Stage) -> int:
    actor = stage.server.registry.running(StoreId(STORE))
    return 0 if actor is None else len(actor.followers)


async def test_silence_is_broken_by_a_comment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.admin.tail.ADMIN_HEARTBEAT_S", 0.01)
    await stage.fill(1)
    async with tailing(stage) as parts:
        with trio.fail_after(PATIENCE_S):
            assert await anext(parts) == HEARTBEAT
            assert followers(stage) == 1


async def test_who_reads_nothing_is_sent_back_to_the_log(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.connection.event_stream.EVENT_STREAM_QUEUE_BYTES", 1_000)
    await stage.fill(1)
    async with tailing(stage) as parts:
        async with trio.open_nursery() as nursery:  # it follows once it is asked for something
            nursery.start_soon(stage.fill, 1, STORE, 2)
            assert b"id: 2\n" in await anext(parts)
        (tail,) = view_of(stage).tails
        for first in range(3, 103, 10):
            await stage.fill(10, first=first)
        assert stage.server.counters.followers_sent_back == 1
        assert followers(stage) == 0
        assert isinstance(tail, Tail)
        assert tail._queued_bytes < 3_000
        told = b""
        while b"id: 102\n" not in told:
            told += await anext(parts)
        assert [int(number) for number in re.findall(rb"id: (\d+)\n", told)] == list(range(3, 103))


async def test_who_reads_is_not_sent_back_however_much_comes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.connection.event_stream.EVENT_STREAM_QUEUE_BYTES", 1_000)
    await stage.fill(1)
    async with listening(stage) as tail:
        await stage.fill(1, first=2)
        assert await tail.numbers(1) == [2]
        for number in range(3, 30):
            await stage.fill(1, first=number, args="x" * 200)
            assert await tail.numbers(1) == [number]
        assert followers(stage) == 1
        assert stage.server.counters.followers_sent_back == 0


async def test_what_comes_within_a_pause_is_one_message(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast a store is pushed to, a tail costs the server a write a pause and not one for each push."""
    monkeypatch.setattr("livesync_trio.admin.tail.TAIL_PAUSE_S", 1e6)  # longer than any test
    await stage.fill(1)
    sent: list[bytes] = []

    async def listen(parts: AsyncGenerator[bytes, None]) -> None:
        while True:
            sent.append(await anext(parts))

    async with tailing(stage) as parts, trio.open_nursery() as nursery:
        nursery.start_soon(listen, parts)
        await seen(stage, lambda: followers(stage) == 1)
        for number in range(2, 42):
            await stage.fill(1, first=number)
            await seen(stage, lambda number=number: len(sent) == min(number - 1, 2))
        [tail] = view_of(stage).tails
        [waiting] = tail._queue  # type: ignore[attr-defined] # what goes out together after the pause
        assert [int(number) for number in re.findall(rb"id: (\d+)\n", waiting)] == list(range(4, 42))
        nursery.cancel_scope.cancel()


async def test_who_leaves_is_forgotten(stage: Stage) -> None:
    await stage.fill(1)
    async with tailing(stage) as parts:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.fill, 1, STORE, 2)
            await anext(parts)
        assert (len(view_of(stage).tails), followers(stage)) == (1, 1)
    assert (len(view_of(stage).tails), followers(stage)) == (0, 0)


async def test_who_leaves_while_it_registers_is_forgotten_too(stage: Stage) -> None:
    await stage.fill(1)
    handle = stage.server.registry.handle(StoreId(STORE))
    async with tailing(stage) as parts:
        with trio.CancelScope() as gone:
            gone.cancel()  # before the store has answered
            await anext(parts)
        await parts.aclose()
    await handle.inspect()  # whatever was posted before has been carried out
    assert followers(stage) == 0


async def test_a_trouble_is_told_and_it_goes_on_afterwards(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.fill(3)
    stream = await follow(view_of(stage), StoreId(STORE), 0)
    assert isinstance(stream, Stream)
    async with aclosing(stream.parts) as parts:
        await anext(parts)
        readers = view_of(stage).readers

        async def unavailable(*_: Any) -> list[StoredEvent]:
            raise StorageUnavailable

        with monkeypatch.context() as patched:
            patched.setattr(readers, "read", unavailable)
            with trio.fail_after(PATIENCE_S):
                assert b'"code":"storage-unavailable"' in await anext(parts)
        with trio.fail_after(PATIENCE_S):
            while b"id: 3\n" not in (part := await anext(parts)):
                assert b"trouble" in part
