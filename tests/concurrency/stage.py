"""A stage for the actor, the connections and the doors: real code, memory streams, Trio's own clock.

Storage runs in the Trio thread here, behind gates that a test opens and closes, so that a test decides what happens
between "handed to the disk" and "durable", and a deadlock is an error after virtual seconds instead of a hang.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from livesync_trio.access.admission import Access
from livesync_trio.access.authentication import Authentication
from livesync_trio.access.pages import Pages
from livesync_trio.config import Secret
from livesync_trio.connection.context import ServerContext
from livesync_trio.connection.peers import Peers
from livesync_trio.errors import StorageUnavailable
from livesync_trio.hooks import HookRunner, Hooks
from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import Batch, Event, LogState, Publication, StoredEvent, StoreId
from livesync_trio.rules.admission import Quota
from livesync_trio.storage import base
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.store.persistence import Done, Writer
from livesync_trio.store.registry import Registry
from livesync_trio.telemetry import Counters
from livesync_trio.transport.door import Door, DoorSettings

A = StoreId("a")
MemoryStream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class Gate:
    """Open by default. Closed, it holds whoever comes; `arrived` tells that somebody did."""

    def __init__(self) -> None:
        self._open = trio.Event()
        self._open.set()
        self.arrived = trio.Event()

    def close(self) -> None:
        self._open, self.arrived = trio.Event(), trio.Event()

    def open(self) -> None:
        self._open.set()

    async def __call__(self) -> None:
        self.arrived.set()
        await self._open.wait()


async def submitted(writer: Writer, write: base.Write, done: Done) -> None:
    """`Writer.submit` of writers that carry out a write in the Trio thread."""
    try:
        outcome: base.Outcome | Exception = await writer.commit(write)
    except Exception as error:
        outcome = error
    done(outcome)


class StageWriter:
    """Commits in the Trio thread. Not cancellable, like the real one."""

    def __init__(self, engine: base.Engine) -> None:
        self._handle = engine.writer()
        self.before, self.after = Gate(), Gate()
        self.fail_before: Exception | None = None
        self.fail_after: Exception | None = None
        self.delay_s = 0.0
        self.writes: list[base.Write] = []
        self.healthy = self.alive = True
        self.turn_age_s = 0.0

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def submit(self, write: base.Write, done: Done) -> None:
        trio.lowlevel.spawn_system_task(submitted, self, write, done)

    async def commit(self, write: base.Write) -> base.Outcome:
        with trio.CancelScope(shield=True):
            await self.before()
            await trio.sleep(self.delay_s)
            if self.fail_before is not None:
                raise self.fail_before
            self.writes.append(write)
            outcome = self._handle.commit([write])[0]
            await self.after()
            if self.fail_after is not None:
                error, self.fail_after = self.fail_after, None
                raise error
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def commit_all(self, appends: Sequence[base.Append]) -> list[base.Outcome | Exception]:
        return [await self.commit(append) for append in appends]

    @property
    def appends(self) -> list[base.Append]:
        return [write for write in self.writes if isinstance(write, base.Append)]


class StageReaders:
    """Reads in the Trio thread."""

    def __init__(self, engine: base.Engine) -> None:
        self._handle = engine.reader()
        self.gate = Gate()
        self.fail: Exception | None = None
        self.reads = 0

    async def read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        await self.gate()
        await trio.lowlevel.checkpoint()
        self.reads += 1
        if self.fail is not None:
            raise self.fail
        return self._handle.read(log, after, up_to, READ_MAX_EVENTS, READ_MAX_BYTES)

    async def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        if self.fail is not None:
            raise self.fail
        return self._handle.numbers_of(log, append_ids)

    async def summary(self, store_id: StoreId) -> base.StoreSummary | None:
        await trio.lowlevel.checkpoint()
        return self._handle.summary(store_id)

    def close(self) -> None:
        pass


class Stage:
    """The parts of a server with a memory engine."""

    def __init__(
        self,
        hooks: Hooks | None = None,
        *,
        dormant_after_s: float = 30.0,
        max_open_pulls: int = 32,
        engine: MemoryEngine | None = None,
        quota: Quota | None = None,
    ) -> None:
        self.engine = engine or MemoryEngine()
        self.engine.open()
        self.writer = StageWriter(self.engine)
        self.readers = StageReaders(self.engine)
        self.counters = Counters()
        self.registry = Registry(self.writer, self.readers, self.counters, dormant_after_s, quota=quota)
        self.peers = Peers(idle_limit_s=75.0)
        runner = HookRunner(hooks or Hooks(), limit_s=5.0)
        self.door = Door(
            DoorSettings(frame_max_bytes=2**20, handshake_limit_s=10.0, stall_limit_s=60.0),
            access=Access(Authentication(None, runner), Pages(("*",))),
            shared=ServerContext(runner, self.counters, max_open_pulls, Secret("admin secret")),
            peers=self.peers,
            open_store=self.registry.handle,
            health=lambda: (True, {}),
        )

    async def state(self, store_id: StoreId = A) -> LogState:
        """The log as the actor knows it."""
        state = await self.registry.handle(store_id).inspect()
        assert isinstance(state, LogState)
        return state

    async def push_elsewhere(self, *numbers: int) -> LogState:
        """Append events behind the actor's back, as another server on the same database would."""
        state = self.engine.reader().state(A)
        assert state is not None
        [outcome] = self.engine.writer().commit([base.Append(A, state, (batch(*numbers),), "2026-01-01T00:00:00.000Z")])
        assert isinstance(outcome, base.Appended)
        return outcome.state

    def lose(self, after: int) -> None:
        """Let the database forget what came after an event, as a replica has that was promoted too early."""
        log = self.engine._data.logs[A]
        while log.seq_nums and log.seq_nums[-1] > after:
            log.seq_nums.pop()
            log.text_bytes -= len(log.events.pop().json)

    def stored(self, store_id: StoreId = A) -> list[int]:
        """Numbers of the events that are durable."""
        reader = self.engine.reader()
        state = reader.state(store_id)
        if state is None:
            return []
        return [event.seq_num for event in reader.read(state, 0, state.head, 10**9, 10**12)]


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[trio.Nursery]:
    """Run the registry and the liveness watch around a test, with a virtual time limit on the whole."""
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.registry.run)
            nursery.start_soon(stage.peers.watch)
            yield nursery
            nursery.cancel_scope.cancel()


def event(number: int, parent: int, args: bytes = b"null") -> Event:
    text = b'{"name":"n","args":%b,"seqNum":%d,"parentSeqNum":%d,"clientId":"c","sessionId":"s"}' % (
        args,
        number,
        parent,
    )
    return Event(number, parent, text)


def batch(parent: int, *numbers: int, args: bytes = b"null") -> Batch:
    """A chained batch: `batch(2, 3, 4)` continues event 2 with 3 and 4."""
    parents = (parent, *numbers)
    return Batch(tuple(event(number, before, args) for before, number in zip(parents, numbers, strict=False)))


class Listener:
    """A follower that notes what it is told."""

    def __init__(self, note: Callable[[str], None] = lambda _: None) -> None:
        self.numbers: list[int] = []
        self.offered: list[Publication] = []
        self.drops = 0
        self.replacements: list[LogState] = []
        self.ends = 0
        self.room = True
        self._note = note

    def offer(self, publication: Publication) -> bool:
        if not self.room:
            return False
        self.offered.append(publication)
        self.numbers += [stored.seq_num for stored in publication.events]
        self._note(f"published {publication.state.head}")
        return True

    def dropped(self) -> None:
        self.drops += 1

    def replaced(self, state: LogState) -> None:
        self.replacements.append(state)

    def gone(self) -> None:
        self.ends += 1


# --- clients over memory streams ------------------------------------------------------------------------------------


class Client:
    """A hand-made 0.4, next or 0.3 client on one WebSocket."""

    def __init__(self, ws: WebSocketConnection, stream: MemoryStream, server_stream: MemoryStream) -> None:
        self.ws = ws
        self.stream = stream
        self._server_stream = server_stream
        self._reading = Gate()

    def stop_reading(self) -> None:
        """Let the server's next write wait, as for a peer whose socket buffer is full."""
        self._reading.close()
        pump = self._server_stream.send_stream.send_all_hook

        async def held() -> None:
            await self._reading()
            assert pump is not None
            await pump()

        self._server_stream.send_stream.send_all_hook = held

    def read_again(self) -> None:
        self._reading.open()

    async def send(self, message: dict[str, Any]) -> None:
        await self.ws.send_message(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        with trio.fail_after(120):
            message: dict[str, Any] = json.loads(await self.ws.get_message())
        return message

    async def closed(self) -> int:
        """Wait for the close of the server, skipping messages; gives the code."""

        async def receive_all() -> None:
            while True:
                await self.ws.get_message()

        with trio.fail_after(300), pytest.raises(ConnectionClosed) as closed:
            await receive_all()
        reason = closed.value.reason
        assert reason is not None
        return int(reason.code)

    async def ping(self) -> None:
        await self.send({"_tag": "Ping"})
        assert (await self.receive()) == {"_tag": "Pong"}

    async def request(self, request_id: str | int, procedure: str, **payload: Any) -> None:
        await self.send(
            {
                "_tag": "Request",
                "id": request_id,
                "tag": f"SyncWsRpc.{procedure}",
                "payload": {"storeId": "a", **payload},
                "headers": [],
            }
        )

    async def push(self, request_id: str | int, parent: int, *numbers: int, text: str = "") -> None:
        parents = (parent, *numbers)
        events = [
            {"name": "n", "args": text, "seqNum": n, "parentSeqNum": p, "clientId": "c", "sessionId": "s"}
            for p, n in zip(parents, numbers, strict=False)
        ]
        await self.request(request_id, "Push", batch=events, backendId={"_tag": "None"})

    async def pull(self, request_id: str | int, *, live: bool = True, after: int = 0) -> None:
        cursor: dict[str, Any] = {"_tag": "None"}
        if after:
            cursor = {"_tag": "Some", "value": {"backendId": self.backend_id, "eventSequenceNumber": after}}
        await self.request(request_id, "Pull", live=live, cursor=cursor)

    backend_id = ""


@asynccontextmanager
async def connected(
    stage: Stage, nursery: trio.Nursery, target: str = "/?storeId=a&transport=ws"
) -> AsyncIterator[Client]:
    """Open a WebSocket to the stage's door."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(stage.door.serve, theirs)
    ws = await wrap_client_stream(nursery, cast("trio.SocketStream", ours), "stage", target)
    try:
        yield Client(ws, ours, theirs)
    finally:
        with trio.move_on_after(5, shield=True):
            await ws.aclose()


def numbers_in(chunk: dict[str, Any]) -> list[int]:
    """Numbers of the events in a Chunk or PullRes."""
    pages = chunk.get("values", [chunk])
    return [item["eventEncoded"]["seqNum"] for page in pages for item in page["batch"]]


UNAVAILABLE = StorageUnavailable("the disk is gone")
