"""Hostile bytes from a seed: what clients send, cut, mixed, doubled and flipped. One seed gives the same bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from tests.bad_input.clients import NO_CURSOR, event, http_rpc, push_payload, request, sync_url, v3_url
from tests.bad_input.websockets import frame, upgrade
from tests.bad_input.wires import head, post

STORE = "fuzzed"

NASTY = (
    *(b"\0", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\xbd", b"%", b"%00", b"&", b"?"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n"),
    *(b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"Connection: close\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"[" * 5_000, b'{"a":' * 5_000, b'"' + b"x" * 70_000, b"1e400", b"NaN"),
    *(b"9007199254740993", b"-0", b"\\ud83d", b"null", b"[]", b"{}", b'"_tag"', b'"id":1', b'"requestId":"0"'),
    *(b"\x81\xff" + b"\xff" * 8, b"\x88\x80", b"\x89\xff", b"\xc1\x80", b"\x80\x80", b"\x01\x80", b"\x82\xfe\xff\xff"),
)


def _messages() -> list[object]:
    pull = {"storeId": STORE, "cursor": NO_CURSOR, "live": True}
    return [
        {"_tag": "Ping"},
        {"_tag": "Ack", "requestId": "0"},
        {"_tag": "Interrupt", "requestId": "1"},
        {"_tag": "Eof"},
        request("1", "SyncWsRpc.Pull", pull),
        request(2, "SyncWsRpc.Pull", pull),
        request("3", "SyncWsRpc.Push", push_payload(STORE, event(1, 0, {"x": [1, 2.5, None]}), event(2, 1))),
        request("4", "SyncWsRpc.Nothing", {}),
        {"_tag": "WSMessage.PullReq", "requestId": "p", "cursor": 0},
        {"_tag": "WSMessage.PushReq", "requestId": "q", "batch": [event(1, 0)]},
        {"_tag": "WSMessage.AdminResetRoomReq", "requestId": "r", "adminSecret": "x"},
        {"_tag": "WSMessage.Ping", "requestId": "ping"},
    ]


class Fuzzer:
    """An endless source of hostile conversations."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._messages = [json.dumps(message).encode() for message in _messages()]

    def conversation(self) -> list[bytes]:
        """What one connection sends, in pieces; after each, the other side may look at it."""
        whole = self._damaged(self._make())
        cuts = sorted(self._random.randrange(len(whole) + 1) for _ in range(self._random.choice((0, 0, 1, 3, 20))))
        return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    def _make(self) -> bytes:
        makers: tuple[Callable[[], bytes], ...] = (self._websocket, self._websocket, self._http, self._heads)
        return self._random.choice(makers)()

    def _websocket(self) -> bytes:
        target = self._random.choice((sync_url(STORE), v3_url(STORE), sync_url(STORE, "ws", {"authToken": "x"})))
        frames = [self._frame() for _ in range(self._random.randrange(8))]
        return upgrade(target) + b"".join(frames)

    def _frame(self) -> bytes:
        choose = self._random
        payload = choose.choice((*self._messages, choose.randbytes(choose.choice((0, 1, 2, 125, 126, 1000, 70_000)))))
        if choose.random() < 0.7:
            return frame(0x1, self._damaged(payload) if choose.random() < 0.5 else payload)
        return frame(
            choose.randrange(16),
            payload,
            fin=choose.random() < 0.7,
            masked=choose.random() < 0.9,
            rsv=choose.choice((0, 0, 0, 1, 2, 4)),
            length=choose.choice((None, None, b"\x7f" + b"\xff" * 8, b"\x7e\x00\x01", b"\x7d")),
        )

    def _http(self) -> bytes:
        procedure = self._random.choice(("Pull", "Push", "Ping"))
        payload = {"storeId": STORE, "cursor": NO_CURSOR} if procedure != "Push" else push_payload(STORE, event(1, 0))
        one = http_rpc(STORE, "1", procedure, payload)
        return one * self._random.choice((1, 1, 2, 5))

    def _heads(self) -> bytes:
        choose = self._random
        method = choose.choice(("GET", "POST", "OPTIONS", "HEAD", "CONNECT", "TRACE", "get", "X" * 3000))
        target = choose.choice(("/", "/health", "*", "http://x/", "//", sync_url(STORE), "/" + "a" * 70_000, "/\x7f"))
        headers = [f"X-{number}: {'y' * choose.choice((1, 100, 5000))}" for number in range(choose.choice((0, 3, 300)))]
        body = choose.randbytes(choose.choice((0, 10, 5000)))
        return choose.choice(
            (head(f"{method} {target} HTTP/1.1", *headers) + body, post(sync_url(STORE, "http"), body))
        )

    def _damaged(self, data: bytes) -> bytes:
        choose = self._random
        for _ in range(choose.choice((0, 1, 1, 2, 4, 16))):
            at = choose.randrange(len(data) + 1)
            match choose.randrange(6):
                case 0:
                    data = data[:at]
                case 1:
                    data = data[:at] + choose.randbytes(choose.choice((1, 1, 4, 100))) + data[at:]
                case 2:
                    data = data[:at] + data[at + choose.choice((1, 2, 50)) :]
                case 3:
                    data = data[:at] + choose.choice(NASTY) + data[at:]
                case 4 if at < len(data):
                    data = data[:at] + bytes((data[at] ^ 1 << choose.randrange(8),)) + data[at + 1 :]
                case _:
                    other = choose.randrange(len(data) + 1)
                    data = data[:at] + data[min(at, other) : max(at, other)] + data[at:]
            data = data[:500_000]
        return data
