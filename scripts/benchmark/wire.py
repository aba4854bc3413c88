"""What 0.4 clients say (SPEC section 3), made by hand: templates filled with `%`, frames with a mask key of zero.

Pure. A zero mask key is a valid one (RFC 6455, 5.3) and leaves the payload as it is, so the load generator need not
touch each byte; the server unmasks all the same.
"""

from typing import Final

ARGS_BYTES: Final = 150
"""Size of an event's `args` as JSON text, in every scenario (issue 5)."""

EVENT_MARK: Final = b'"eventEncoded"'
"""Stands once with every event that a server sends."""

CHUNK_MARK: Final = b'"_tag":"Chunk"'
"""Stands once in every frame with a page, unless an application writes it into its args; this one does not."""

_ARGS_HEAD: Final = b'{"id":"4f1c0e7a","text":"'
_ARGS: Final = _ARGS_HEAD + b"x" * (ARGS_BYTES - len(_ARGS_HEAD) - 2) + b'"}'
_EVENT: Final = (
    b'{"name":"v1.TodoCreated","args":' + _ARGS + b',"seqNum":%d,"parentSeqNum":%d,'
    b'"clientId":"client-a","sessionId":"session-a"}'
)
_TRACE: Final = b'"headers":[],"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","sampled":true'


def frame(payload: bytes) -> bytes:
    """A masked, final text frame."""
    size = len(payload)
    if size < 126:
        head = bytes((0x81, 0x80 | size))
    elif size < 65536:
        head = b"\x81\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + size.to_bytes(8, "big")
    return b"%b\0\0\0\0%b" % (head, payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a WebSocket ping."""
    return bytes((0x8A, 0x80 | len(payload))) + b"\0\0\0\0" + payload


PING: Final = frame(b'{"_tag":"Ping"}')
"""What an idle client sends every 10 s (SPEC 3.6)."""


class PushTemplate:
    """Push requests of a fixed number of events to one store."""

    def __init__(self, store_id: str, batch: int, rpc: str = "SyncWsRpc") -> None:
        store, events = store_id.encode(), b",".join([_EVENT] * batch)
        self.batch = batch
        self._template = (
            b'{"_tag":"Request","id":"%d","tag":"' + rpc.encode() + b'.Push","payload":{"storeId":"' + store + b'",'
            b'"batch":[' + events + b'],"backendId":{"_tag":"None"}},' + _TRACE + b"}"
        )

    def request(self, request_id: int, head: int) -> bytes:
        """The request whose first event continues `head`."""
        numbers = [request_id]
        for number in range(head, head + self.batch):
            numbers += (number + 1, number)
        return self._template % tuple(numbers)


def pull(
    store_id: str, *, request_id: int = 0, live: bool, cursor: tuple[str, int] | None = None, rpc: str = "SyncWsRpc"
) -> bytes:
    """A pull request; `cursor` is the backend id and the number of the last event known."""
    where = b'{"_tag":"None"}'
    if cursor is not None:
        where = b'{"_tag":"Some","value":{"backendId":"%b","eventSequenceNumber":%d}}' % (cursor[0].encode(), cursor[1])
    liveness = b"" if rpc == "SyncHttpRpc" else b',"live":true' if live else b',"live":false'
    return b'{"_tag":"Request","id":"%d","tag":"%b.Pull","payload":{"storeId":"%b","cursor":%b%b},%b}' % (
        request_id,
        rpc.encode(),
        store_id.encode(),
        where,
        liveness,
        _TRACE,
    )


def ack(request_id: int) -> bytes:
    """What a client answers to every chunk; the reference sends no next page without (SPEC 3.3)."""
    return b'{"_tag":"Ack","requestId":"%d"}' % request_id


def upgrade(host: str, path: str, store_id: str) -> bytes:
    """The request that opens a WebSocket."""
    return (
        f"GET {path}?storeId={store_id}&transport=ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def post(host: str, path: str, store_id: str, body: bytes) -> bytes:
    """An HTTP RPC request on a connection that is kept alive (SPEC 3.7)."""
    head = (
        f"POST {path}?storeId={store_id}&transport=http HTTP/1.1\r\nHost: {host}\r\ncontent-type: application/json\r\n"
        f"x-livestore-store-id: {store_id}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def append_request(host: str, store_id: str, batch: int) -> bytes:
    """A POST of events to the HTTP API, with the args that pushes have."""
    event = b'{"type":"v1.TodoCreated","data":%b}' % _ARGS
    body = event if batch == 1 else b'{"events":[%b]}' % b",".join([event] * batch)
    head = (
        f"POST /v1/stores/{store_id}/events HTTP/1.1\r\nHost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def stream_request(host: str, store_id: str) -> bytes:
    """A GET that follows a store by server-sent events."""
    return (f"GET /v1/stores/{store_id}/events HTTP/1.1\r\nHost: {host}\r\naccept: text/event-stream\r\n\r\n").encode()


PLAIN_EVENT_MARK: Final = b'"seqNum":'
"""Stands once with every event in its plain form."""


def number_after(name: bytes, data: bytes, start: int, end: int) -> int:
    """The integer member `name` nearest to the end of `data[start:end]`.

    Raises:
        ValueError: there is none.
    """
    at = data.rindex(name, start, end) + len(name)
    stop = at
    while data[stop : stop + 1].isdigit():
        stop += 1
    return int(data[at:stop])
