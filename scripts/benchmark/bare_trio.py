"""What one Trio thread and one writer thread can do: the counterpart of `peers/node/server.mjs`, LiveStore 0.4.

    python -m scripts.benchmark.bare_trio PORT DATABASE

Durable (WAL, synchronous=FULL), one transaction for everything that waits, every publication encoded and framed once,
written to each socket from where it is made. It borrows the product's fastest parts (one `epoll` for all sockets, its
own way back from the writer thread, frames taken apart by hand) and leaves out what makes it one: there is no actor and
no mailbox, nothing is checked but the parent number, nobody is authenticated, no limit is kept, and a reader whose
socket is full ends the program. It shows what Trio, the interpreter and the change of threads cost by themselves; what
the server needs beyond that is the price of its rules. A yardstick, not a server to be used.
"""

import base64
import hashlib
import os
import queue
import sqlite3
import sys
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import trio
from livesync_trio.transport.arrivals import Arrivals
from livesync_trio.transport.frames import frame_end, plain_text, text_head

PAGE_EVENTS: Final = 100
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_SCHEMA: Final = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS stores (id INTEGER PRIMARY KEY, name TEXT UNIQUE, backend_id TEXT);
    CREATE TABLE IF NOT EXISTS events (store INTEGER, seq INTEGER, event TEXT, created_at TEXT,
        PRIMARY KEY (store, seq)) WITHOUT ROWID;
"""


class Request(msgspec.Struct):
    """What of a client's message is looked at."""

    tag_: str = msgspec.field(name="_tag")
    tag: str = ""
    id: str = ""
    payload: Any = None


_decode: Final = msgspec.json.Decoder(Request).decode
_encode: Final = msgspec.json.encode


class Store:
    """A log and who follows it."""

    def __init__(self, number: int, backend_id: str, head: int) -> None:
        self.number, self.backend_id, self.head = number, backend_id, head
        self.followers: dict[tuple[int, str], None] = {}


def framed(text: bytes) -> bytes:
    """One text frame."""
    return text_head(len(text)) + text


def item(event: bytes, created_at: str) -> bytes:
    """An event as it is pulled."""
    return (
        b'{"eventEncoded":%b,"metadata":{"_tag":"Some","value":{"_tag":"SyncMessage.SyncMetadata","createdAt":"%b"}}}'
        % (event, created_at.encode())
    )


def chunk(request_id: str, items: list[bytes], remaining: int, store: Store) -> bytes:
    """A page of a pull."""
    page_info = b'{"_tag":"MoreKnown","remaining":%d}' % remaining if remaining else b'{"_tag":"NoMore"}'
    page = b'{"batch":[%b],"pageInfo":%b,"backendId":"%b"}' % (b",".join(items), page_info, store.backend_id.encode())
    return framed(b'{"_tag":"Chunk","requestId":"%b","values":[%b]}' % (request_id.encode(), page))


def exit_with(request_id: str, outcome: bytes) -> bytes:
    """The end of a request."""
    return framed(b'{"_tag":"Exit","requestId":"%b","exit":%b}' % (request_id.encode(), outcome))


Push = tuple[int, Store, Request]
Answer = tuple[int, Store, Request, int | None, list[bytes]]
"""Socket, store, request, the head if it is refused, and the events as they are pulled."""


class Bare:
    """All of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reading = self._connect()
        self._stores: dict[str, Store] = {}
        self._pushes: queue.SimpleQueue[Push] = queue.SimpleQueue()
        self._unsaved: list[tuple[int, str, str]] = []
        self._arrivals = Arrivals()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.executescript(_SCHEMA)
        return connection

    async def serve(self, port: int) -> None:
        """Until killed."""
        threading.Thread(target=self._write, daemon=True).start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._arrivals.run)
            await trio.serve_tcp(partial(self._connected, nursery), port, host="127.0.0.1", backlog=4096)

    # --- pushes: in the writer thread, then in Trio's ---------------------------------------------------------------

    def _write(self) -> None:
        connection = self._connect()
        while True:
            group = [self._pushes.get()]
            while not self._pushes.empty():
                group.append(self._pushes.get())
            created_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            answers: list[Answer] = []
            rows: list[tuple[int, int, str, str]] = []
            for descriptor, store, request in group:
                batch = request.payload["batch"]
                if batch and batch[0]["parentSeqNum"] != store.head:
                    answers.append((descriptor, store, request, store.head, []))
                    continue
                items = []
                for event in batch:
                    text = _encode(event)
                    rows.append((store.number, event["seqNum"], text.decode(), created_at))
                    items.append(item(text, created_at))
                    store.head = event["seqNum"]
                answers.append((descriptor, store, request, None, items))
            connection.execute("BEGIN IMMEDIATE")
            unsaved, self._unsaved = self._unsaved, []
            connection.executemany("INSERT INTO stores VALUES (?, ?, ?)", unsaved)
            connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
            self._arrivals.call_soon(partial(self._answer, answers))

    def _answer(self, answers: list[Answer]) -> None:
        for descriptor, store, request, head, items in answers:
            if head is not None:
                error = b'{"_tag":"ServerAheadError","minimumExpectedNum":%d,"providedNum":%d}' % (
                    head,
                    request.payload["batch"][0]["parentSeqNum"],
                )
                refusal = b'{"_tag":"Failure","cause":{"_tag":"Fail","error":%b}}' % error
                self._send(descriptor, exit_with(request.id, refusal))
                continue
            frames: dict[str, bytes] = {}
            for follower, request_id in store.followers:
                frame = frames.get(request_id)
                if frame is None:
                    frame = frames[request_id] = chunk(request_id, items, 0, store)
                self._send(follower, frame)
            self._send(descriptor, exit_with(request.id, b'{"_tag":"Success","value":{}}'))

    @staticmethod
    def _send(descriptor: int, frame: bytes) -> None:
        try:
            sent = os.write(descriptor, frame)
        except (BrokenPipeError, ConnectionResetError):
            return  # gone; its reader will notice
        if sent < len(frame):
            raise SystemExit("a socket is full")

    # --- connections ------------------------------------------------------------------------------------------------

    async def _connected(self, nursery: trio.Nursery, stream: trio.SocketStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            try:
                received = await stream.receive_some()
            except trio.BrokenResourceError:  # somebody looked whether the door is open
                return
            if not received:
                return
            head += received
        lines = head.split(b"\r\n")
        headers = dict(
            line.lower().split(b": ", 1)[:1] + line.split(b": ", 1)[1:] for line in lines[1:] if b": " in line
        )
        key = headers.get(b"sec-websocket-key")
        if key is None:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbare")
            return
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        store = self._store(parse_qs(urlsplit(lines[0].split()[1].decode()).query)["storeId"][0])
        mine: list[tuple[int, str]] = []
        unfinished = b""

        def take(data: bytes) -> bool:
            nonlocal unfinished
            buffer, start = unfinished + data, 0
            while (end := frame_end(buffer, start)) is not None and end <= len(buffer):
                text = plain_text(buffer, start, end)
                if text is not None:
                    self._act(nursery, stream, store, _decode(text), mine)
                start = end
            unfinished = buffer[start:]
            return bool(data)

        try:
            await self._arrivals.flow(stream.socket.fileno(), take)
        finally:
            for follower in mine:
                store.followers.pop(follower, None)

    def _act(
        self,
        nursery: trio.Nursery,
        stream: trio.SocketStream,
        store: Store,
        request: Request,
        mine: list[tuple[int, str]],
    ) -> None:
        if request.tag == "SyncWsRpc.Push":
            self._pushes.put((stream.socket.fileno(), store, request))
        elif request.tag_ == "Request":
            nursery.start_soon(self._pull, stream, store, request, mine)
        elif request.tag_ == "Ping":
            self._send(stream.socket.fileno(), framed(b'{"_tag":"Pong"}'))

    def _store(self, name: str) -> Store:
        store = self._stores.get(name)
        if store is None:
            store = self._stores[name] = Store(len(self._stores) + 1, str(uuid.uuid4()), 0)
            self._unsaved.append((store.number, name, store.backend_id))
        return store

    async def _pull(
        self, stream: trio.SocketStream, store: Store, request: Request, mine: list[tuple[int, str]]
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the client has gone
            await self._send_log(stream, store, request, mine)

    async def _send_log(
        self, stream: trio.SocketStream, store: Store, request: Request, mine: list[tuple[int, str]]
    ) -> None:
        cursor = request.payload["cursor"]
        after = cursor["value"]["eventSequenceNumber"] if cursor["_tag"] == "Some" else 0
        count = "SELECT count(*) FROM events WHERE store = ? AND seq > ?"
        page = "SELECT seq, event, created_at FROM events WHERE store = ? AND seq > ? ORDER BY seq LIMIT ?"
        (remaining,) = self._reading.execute(count, (store.number, after)).fetchone()
        while True:
            rows = self._reading.execute(page, (store.number, after, PAGE_EVENTS)).fetchall()
            remaining -= len(rows)
            after = rows[-1][0] if rows else after
            items = [item(event.encode(), created_at) for _, event, created_at in rows]
            await stream.send_all(chunk(request.id, items, remaining, store))
            if not rows or remaining <= 0:
                break
        if request.payload["live"]:
            mine.append((stream.socket.fileno(), request.id))
            store.followers[mine[-1]] = None
        else:
            await stream.send_all(exit_with(request.id, b'{"_tag":"Success"}'))


async def main(port: int, path: str) -> None:
    """Serve until killed."""
    await Bare(path).serve(port)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])
