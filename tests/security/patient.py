"""A healthy client in a process of its own: pings and pushes by turns until its input ends.

Run as `python -m tests.security.patient PORT FILE`. Blocking sockets and no event loop, so that what it measures is the
server's time and not its own. Into the file it writes a line for each answer: what was asked, when, how long it took.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from tests.bad_input.clients import event, pull, push, sync_url
from tests.bad_input.websockets import text, upgrade

STORE = "patient"
PAUSE_S = 0.002


class Patient:
    """One WebSocket."""

    def __init__(self, port: int, file: TextIO) -> None:
        self._file = file
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")
        self._socket.sendall(upgrade(sync_url(STORE)))
        assert b" 101 " in self._reader.readline()
        while self._reader.readline() != b"\r\n":
            pass

    def _receive(self) -> Any:
        _, size = self._reader.read(2)
        if size >= 126:
            size = int.from_bytes(self._reader.read(2 if size == 126 else 8), "big")
        return json.loads(self._reader.read(size))

    def _timed(self, kind: str, message: dict[str, Any], expected: str) -> None:
        data = text(message)
        began_s = time.monotonic()
        self._socket.sendall(data)
        answer = self._receive()
        now_s = time.monotonic()
        assert answer["_tag"] == expected, answer
        assert answer.get("exit", {}).get("_tag", "Success") == "Success", answer
        self._file.write(f"{kind} {began_s} {now_s - began_s}\n")

    def live(self) -> None:
        """Pull once, so that it is not taken for an orphan (SPEC 3.6), then ping and push."""
        self._socket.sendall(text(pull("0", STORE)))
        while self._receive()["_tag"] != "Exit":
            pass
        print("ready", flush=True)
        number = 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            self._timed("ping", {"_tag": "Ping"}, "Pong")
            time.sleep(PAUSE_S)
            number += 1
            self._timed("push", push(str(number), STORE, event(number, number - 1, "x" * 100)), "Exit")
            time.sleep(PAUSE_S)


def main() -> None:
    with Path(sys.argv[2]).open("w", buffering=1) as file:
        Patient(int(sys.argv[1]), file).live()


if __name__ == "__main__":
    main()
