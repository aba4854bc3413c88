"""A client of generation next: the real one where there is a bundle of it, else one that says what the real one said.

npm does not have LiveStore's repository HEAD. `LIVESYNC_NEXT_CLIENT` names a bundle, made of a checkout by
`tests/clients/next/bundle.mjs`. Without it the frames are those of the recordings of the real client
(`tests/transcripts/data/next-effect4`).
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlencode

from websockets.sync.client import ClientConnection, connect

VARIABLE = "LIVESYNC_NEXT_CLIENT"
PATIENCE_S = 60.0


class NextClient(Protocol):
    """What both can do; `numbers` are those of the events it was given, in order."""

    numbers: list[int]

    def push(self, batch: Sequence[Any]) -> None:
        """Push, and wait for the acknowledgement."""

    def wait_for_numbers(self, count: int) -> None:
        """Wait until it was given so many events."""


@contextmanager
def next_client(url: str, store_id: str) -> Iterator[NextClient]:
    """A client that follows a store."""
    bundle = os.environ.get(VARIABLE)
    if bundle is None:
        query = urlencode({"storeId": store_id, "transport": "ws"})
        with connect(f"{url.replace('http', 'ws', 1)}/?{query}", proxy=None, open_timeout=PATIENCE_S) as socket:
            yield _Recorded(socket, store_id)
        return
    process = subprocess.Popen(
        ["node", bundle, url, store_id], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield _Real(process)
        finally:
            process.kill()


class _Real:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.numbers: list[int] = []
        self._process = process
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def _next(self) -> dict[str, Any]:
        message = self._lines.get(timeout=PATIENCE_S)
        assert "failed" not in message, message
        self.numbers += [event["seqNum"] for event in message.get("events", ())]
        return message

    def push(self, batch: Sequence[Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(batch)) + "\n")
        self._process.stdin.flush()
        while "pushed" not in self._next():
            pass

    def wait_for_numbers(self, count: int) -> None:
        while len(self.numbers) < count:
            self._next()


class _Recorded:
    def __init__(self, socket: ClientConnection, store_id: str) -> None:
        self.numbers: list[int] = []
        self._socket = socket
        self._store_id = store_id
        self._requests = 0
        self._ask("Pull", live=True, cursor={"_tag": "None"})

    def _ask(self, procedure: str, **payload: Any) -> int:
        self._requests += 1
        trace = {"traceId": "ac86ddb21bac61d161c17932521c615e", "spanId": "18be777245e4451e", "sampled": True}
        request = {"_tag": "Request", "id": self._requests, "tag": f"SyncWsRpc.{procedure}", "headers": [], **trace}
        payload = {"storeId": self._store_id, "payload": None, **payload}
        self._socket.send(json.dumps({**request, "payload": payload}))
        return self._requests

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=PATIENCE_S))
        if message["_tag"] == "Chunk":
            for page in message["values"]:
                self.numbers += [event["eventEncoded"]["seqNum"] for event in page["batch"]]
            self._socket.send(json.dumps({"_tag": "Ack", "requestId": message["requestId"]}))
        return message

    def push(self, batch: Sequence[Any]) -> None:
        request = self._ask("Push", batch=list(batch), backendId={"_tag": "None"})
        while (message := self._next()).get("requestId") != request:
            pass
        assert message == {"_tag": "Exit", "requestId": request, "exit": {"_tag": "Success", "value": {}}}

    def wait_for_numbers(self, count: int) -> None:
        while len(self.numbers) < count:
            self._next()
