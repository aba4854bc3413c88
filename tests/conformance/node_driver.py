"""A long-lived Node process that runs the real client and obeys JSON lines (``tests/clients/json-lines.mjs``)."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .events import JsonObject
from .node_packages import CLIENTS

START_DEADLINE_S = 180.0
CALL_DEADLINE_S = 90.0


class ClientError(Exception):
    """The real client reported a failure: ``tag`` is its ``_tag``, ``detail`` all of its fields."""

    def __init__(self, detail: JsonObject) -> None:
        super().__init__(json.dumps(detail)[:2000])
        self.tag: str = detail["_tag"]
        self.detail = detail


class NodeDriver:
    """One driver process. Calls may be made from any thread and may overlap; stream lines go to their listeners."""

    def __init__(self, package_set: str, log: Path, node_flags: Sequence[str] = ()) -> None:
        self.name = f"driver {package_set}"
        self.log = log
        self._ids = itertools.count(1)
        self._pending: dict[int, Future[Any]] = {}
        self._listeners: dict[str, Callable[[JsonObject], None]] = {}
        self._ready: Future[None] = Future()
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                ["node", *node_flags, "driver.mjs"],
                cwd=CLIENTS / package_set,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self._reader = threading.Thread(target=self._read, name=self.name, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "id" in message:
                self._settle(message)
            elif "stream" in message:
                self._listeners[message["stream"]](message)
            elif "ready" in message:
                self._ready.set_result(None)
        gone = RuntimeError(f"the driver has ended; its log:\n{self.log_tail()}")
        for future in [self._ready, *self._pending.values()]:
            if not future.done():
                future.set_exception(gone)

    def _settle(self, message: JsonObject) -> None:
        future = self._pending.pop(message["id"])
        if "error" in message:
            future.set_exception(ClientError(message["error"]))
        else:
            future.set_result(message["value"])

    def listen(self, stream: str, listener: Callable[[JsonObject], None]) -> None:
        """Hand every line of ``stream`` to ``listener``, called in the reader thread."""
        self._listeners[stream] = listener

    def start(self, op: str, **request: Any) -> Future[Any]:
        """Send a request and return at once; the future gives its value or raises ``ClientError``."""
        self._ready.result(START_DEADLINE_S)
        number = next(self._ids)
        future: Future[Any] = Future()
        self._pending[number] = future
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "op": op, **request}).encode() + b"\n")
        self._process.stdin.flush()
        return future

    def call(self, op: str, *, timeout_s: float = CALL_DEADLINE_S, **request: Any) -> Any:
        """Send a request and wait for its value; ``TimeoutError`` when the client does not answer in time."""
        return self.start(op, **request).result(timeout_s)

    def log_tail(self, lines: int = 60) -> str:
        """What the client last said on its console."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def close(self) -> None:
        """End the process: by the end of its input, else by force."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()
