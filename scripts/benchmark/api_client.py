"""Programs that use the HTTP API: one appends, others follow by server-sent events."""

from collections.abc import Callable

from scripts.benchmark import wire
from scripts.benchmark.http_client import HttpClient
from scripts.benchmark.sockets import RECEIVE_BYTES, Address, BenchError, Socket

_MARK_REST = len(wire.PLAIN_EVENT_MARK) - 1


class Appender(HttpClient):
    """Appends on one connection that is kept alive, the next when the last was answered."""

    __slots__ = ("_batch", "_request", "acknowledged")

    def __init__(self, address: Address, store_id: str, batch: int) -> None:
        super().__init__(address, store_id)
        self._batch = batch
        self._request = wire.append_request(address.authority, store_id, batch)
        self.acknowledged = 0

    def request(self, address: Address) -> bytes:
        """The same each time: the server numbers events, and makes their ids."""
        return self._request

    def is_success(self, answer: bytes, body: bytes) -> bool:
        """Whether the events are durable, each under the number behind the one before it."""
        last = b'"seqNum":%d}]' % (self.acknowledged + self._batch)
        return answer.startswith(b"HTTP/1.1 201") and last in body

    def answer(self, body: bytes) -> None:
        """They are stored."""
        self.acknowledged += self._batch


class StreamFollower(Socket):
    """Counts the events of a store by their mark, wherever the parts of the answer begin and end."""

    __slots__ = ("_on_events", "_tail", "events")

    def __init__(self, address: Address, store_id: str, on_events: Callable[[int], None] | None = None) -> None:
        """`on_events` is told how many events have come by now, after every read with some."""
        sock = address.connect()
        sock.settimeout(None)
        super().__init__(sock)
        self._tail = b""
        self._on_events = on_events
        self.events = 0
        self.sendall(wire.stream_request(address.authority, store_id))

    def readable(self) -> None:
        """Count."""
        data = self._tail + self.receive(RECEIVE_BYTES)
        if len(data) == len(self._tail):
            raise BenchError("the server ended a stream of events")
        self._tail = data[-_MARK_REST:]
        found = data.count(wire.PLAIN_EVENT_MARK)
        if found:
            self.events += found
            if self._on_events is not None:
                self._on_events(self.events)
