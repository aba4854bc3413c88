"""A client of the HTTP transport, on one connection that is kept alive."""

import time
from collections.abc import Iterator
from typing import Final

from scripts.benchmark import wire
from scripts.benchmark.sockets import Address, BenchError, Socket

_LENGTH: Final = b"content-length:"
_END_OF_HEAD: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


class HttpClient(Socket):
    """Sends one request after the other; subclasses say which, and take the answers."""

    __slots__ = ("_address", "_got", "_sent_s", "answers", "latencies_s", "may_go_on", "store_id", "waiting")

    def __init__(self, address: Address, store_id: str) -> None:
        sock = address.connect()
        sock.settimeout(None)
        super().__init__(sock)
        self._address = address
        self._got = b""
        self._sent_s = 0.0
        self.store_id = store_id
        self.answers = 0
        self.latencies_s: list[float] = []
        self.waiting = False
        self.may_go_on = True

    def ask(self) -> None:
        """Send the next request."""
        self.waiting = True
        message = self.request(self._address)
        self._sent_s = time.perf_counter()
        self.sendall(message)

    def received(self, data: bytes) -> None:
        """Wait for the whole answer, then ask on."""
        self._got = got = self._got + data
        body = whole_body(got)
        if body is None:
            return
        if not self.is_success(got, body):
            raise BenchError(f"an HTTP request failed: {got[:600]!r}")
        self._got = b""
        self.latencies_s.append(time.perf_counter() - self._sent_s)
        self.waiting = False
        self.answers += 1
        self.answer(body)
        if self.may_go_on:
            self.ask()

    def request(self, address: Address) -> bytes:
        """What to send next: a request of the HTTP transport, unless a subclass speaks something else."""
        return wire.post(address.authority, address.path, self.store_id, self.body())

    def is_success(self, answer: bytes, body: bytes) -> bool:
        """Whether it was done. `answer`: head and body."""
        return answer.startswith(b"HTTP/1.1 200") and b'"Success"' in body

    def body(self) -> bytes:
        """What to ask next."""
        raise NotImplementedError

    def answer(self, body: bytes) -> None:
        """What came."""
        raise NotImplementedError


class HttpPusher(HttpClient):
    """Pushes single events."""

    __slots__ = ("_template", "head")

    def __init__(self, address: Address, store_id: str) -> None:
        super().__init__(address, store_id)
        self._template = wire.PushTemplate(store_id, 1, "SyncHttpRpc")
        self.head = 0

    def body(self) -> bytes:
        """The next event."""
        return self._template.request(self.answers, self.head)

    def answer(self, body: bytes) -> None:
        """It is stored."""
        self.head += 1


class HttpPoller(HttpClient):
    """Asks for what is new, from the cursor of the last event it has seen."""

    __slots__ = ("_backend_id", "events", "head")

    def __init__(self, address: Address, store_id: str) -> None:
        super().__init__(address, store_id)
        self._backend_id = ""
        self.events = 0
        self.head = 0

    def body(self) -> bytes:
        """Everything behind the cursor."""
        cursor = (self._backend_id, self.head) if self._backend_id else None
        return wire.pull(self.store_id, request_id=self.answers, live=False, cursor=cursor, rpc="SyncHttpRpc")

    def answer(self, body: bytes) -> None:
        """A page, possibly empty."""
        found = body.count(wire.EVENT_MARK)
        if found:
            self.events += found
            self.head = wire.number_after(b'"seqNum":', body, 0, len(body))
        if not self._backend_id:
            at = body.index(b'"backendId":"') + 13
            self._backend_id = body[at : body.index(b'"', at)].decode()


class HttpSower(HttpClient):
    """Pushes one event to each of many stores, as long as there are names."""

    __slots__ = ("_names",)

    def __init__(self, address: Address, names: Iterator[str]) -> None:
        super().__init__(address, next(names))
        self._names = names

    def body(self) -> bytes:
        """The first event of the store."""
        return wire.PushTemplate(self.store_id, 1, "SyncHttpRpc").request(self.answers, 0)

    def answer(self, body: bytes) -> None:
        """It is stored: on to the next store."""
        name = next(self._names, None)
        if name is None:
            self.may_go_on = False
        else:
            self.store_id = name


def whole_body(got: bytes) -> bytes | None:
    """Body of an answer that has come completely (chunks and all), None as long as it has not."""
    at = got.find(_END_OF_HEAD)
    if at < 0:
        return None
    head, body = got[:at].lower(), got[at + 4 :]
    length = head.find(_LENGTH)
    if length >= 0:
        wanted = int(head[length + len(_LENGTH) :].split(b"\r\n", 1)[0])
        return body if len(body) >= wanted else None
    return body if body.endswith(_LAST_CHUNK) else None
