"""Clients of a store as the load generator plays them: they push, follow, pull and race, and count what comes back.

Every answer is checked as far as a scan of its bytes can: a push must be answered with success, an event must come
once. What is in the events is the conformance tests' concern.
"""

import time
from collections.abc import Callable

from scripts.benchmark import wire
from scripts.benchmark.sockets import RECEIVE_BYTES, Address, BenchError, Socket, WebSocket


class Pusher(WebSocket):
    """Pushes batch after batch to a store of its own, the next when the last was acknowledged, as real clients do."""

    __slots__ = ("_request_id", "_sent_s", "_template", "acknowledged", "head", "latencies_s", "may_go_on", "waiting")

    def __init__(self, address: Address, store_id: str, batch: int) -> None:
        super().__init__(address.open_websocket(store_id))
        self._template = wire.PushTemplate(store_id, batch)
        self._request_id = 0
        self._sent_s = 0.0
        self.head = 0
        self.acknowledged = 0
        self.latencies_s: list[float] = []
        self.waiting = False
        self.may_go_on = True

    def push(self, since_s: float | None = None) -> None:
        """Send the next batch; its latency counts from `since_s`, when it was due, or from now."""
        self.waiting = True
        self._request_id += 1
        message = wire.frame(self._template.request(self._request_id, self.head))
        self._sent_s = time.perf_counter() if since_s is None else since_s
        self.sendall(message)

    def message(self, data: bytes, start: int, end: int) -> None:
        """Only acknowledgements come: this client does not pull."""
        if data.find(b'"Success"', start, end) < 0:
            raise BenchError(f"a push was not acknowledged: {data[start : min(end, start + 400)]!r}")
        self.latencies_s.append(time.perf_counter() - self._sent_s)
        self.waiting = False
        self.head += self._template.batch
        self.acknowledged += self._template.batch
        if self.may_go_on:
            self.push()


class Follower(Socket):
    """A live pull that counts events by their mark, wherever the frames begin and end, and acknowledges them.

    What is cut at the end of one read is looked at again with the next: the last bytes, one too few for a mark. One
    event is pushed at a time here, so that one event is one chunk, and each chunk gets its `Ack`, as from real clients
    (SPEC 3.3).
    """

    __slots__ = ("_on_events", "_tail", "events")

    def __init__(self, address: Address, store_id: str, on_events: Callable[[int], None] | None = None) -> None:
        """`on_events` is told how many events have come by now, after every read with some."""
        super().__init__(address.open_websocket(store_id))
        self._tail = b""
        self._on_events = on_events
        self.events = 0
        self.sendall(wire.frame(wire.pull(store_id, live=True)))

    def readable(self) -> None:
        """Count; the busiest line of the whole load generator."""
        data = self._tail + self.receive(RECEIVE_BYTES)
        if len(data) == len(self._tail):
            raise BenchError("the server closed a live pull")
        self._tail = data[-_MARK_REST:]
        found = data.count(wire.EVENT_MARK)
        if found:
            self.events += found
            self.sendall(_ACK_OF_LIVE if found == 1 else _ACK_OF_LIVE * found)
            if self._on_events is not None:
                self._on_events(self.events)


_ACK_OF_LIVE = wire.frame(wire.ack(0))
_MARK_REST = len(wire.EVENT_MARK) - 1


class Puller(WebSocket):
    """Pulls a whole log once, acknowledging every page, until the server says that it is all."""

    __slots__ = ("_ack", "backend_id", "done", "events", "last_seq_num")

    def __init__(self, address: Address, store_id: str, cursor: tuple[str, int] | None = None) -> None:
        super().__init__(address.open_websocket(store_id))
        self._ack = wire.frame(wire.ack(1))
        self.events = 0
        self.last_seq_num = 0
        self.backend_id = ""
        self.done = False
        self.sendall(wire.frame(wire.pull(store_id, request_id=1, live=False, cursor=cursor)))

    def message(self, data: bytes, start: int, end: int) -> None:
        """A page, or the end."""
        if data.find(wire.CHUNK_MARK, start, min(end, start + 100)) >= 0:
            found = data.count(wire.EVENT_MARK, start, end)
            if found:
                self.events += found
                self.last_seq_num = wire.number_after(b'"seqNum":', data, start, end)
            if not self.backend_id:
                at = data.rindex(b'"backendId":"', start, end) + 13
                self.backend_id = data[at : data.index(b'"', at)].decode()
            self.sendall(self._ack)
        elif data.find(b'"Success"', start, end) >= 0:
            self.done = True
        else:
            raise BenchError(f"a pull failed: {data[start : min(end, start + 400)]!r}")


class Racer(WebSocket):
    """One of several who push single events to one store; follows it, and tries again when it was beaten.

    As LiveStore's leader does: told that the server is ahead, it waits until its live pull has brought what is
    missing, then pushes again behind it.
    """

    __slots__ = (
        "_must_know",
        "_pushed",
        "_request_id",
        "_sent_s",
        "_template",
        "accepted",
        "events",
        "head",
        "latencies_s",
        "may_go_on",
        "refused",
        "started",
        "waiting",
    )

    def __init__(self, address: Address, store_id: str) -> None:
        super().__init__(address.open_websocket(store_id))
        self._template = wire.PushTemplate(store_id, 1)
        self._request_id = 0
        self._sent_s = 0.0
        self._must_know = 0  # no use in pushing before the live pull has brought this event
        self._pushed = 0
        self.head = 0
        self.events = 0
        self.accepted = 0
        self.refused = 0
        self.latencies_s: list[float] = []
        self.may_go_on = True
        self.started = False
        self.waiting = False
        self.sendall(wire.frame(wire.pull(store_id, request_id=0, live=True)))

    def push(self) -> None:
        """Try to be the next."""
        self.waiting = self.started = True
        self._request_id += 1
        self._pushed = self.head + 1
        message = wire.frame(self._template.request(self._request_id, self.head))
        self._sent_s = time.perf_counter()
        self.sendall(message)

    def message(self, data: bytes, start: int, end: int) -> None:
        """News of others (and of itself), or the answer to the last push."""
        if data.find(wire.CHUNK_MARK, start, min(end, start + 100)) >= 0:
            found = data.count(wire.EVENT_MARK, start, end)
            if found:
                self.events += found
                self.head = max(self.head, wire.number_after(b'"seqNum":', data, start, end))
            self.sendall(_ACK_OF_LIVE)
        elif data.find(b"ServerAheadError", start, end) >= 0:
            self.waiting = False
            self.refused += 1
            self._must_know = wire.number_after(b'"minimumExpectedNum":', data, start, end)
        elif data.find(b'"Success"', start, end) >= 0:
            self.waiting = False
            self.accepted += 1
            self.latencies_s.append(time.perf_counter() - self._sent_s)
            self.head = max(self.head, self._pushed)
        else:
            raise BenchError(f"a push failed: {data[start : min(end, start + 400)]!r}")
        if self.started and not self.waiting and self.may_go_on and self.head >= self._must_know:
            self.push()
