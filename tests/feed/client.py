"""A client of the feed, as the original's: it applies what comes, acknowledges it, and comes back where it was."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from livesync_trio.feed.position import Position, parse_token

DEADLINE_S = 60.0
"""How long nothing at all may arrive while something is waited for: a slow machine is no fault, a standstill is."""


def position_of(text: str) -> Position:
    return parse_token(text.removesuffix(" (resuming)")).position


class FeedClient:
    """Keeps the tables it is sent. `rows[table][key]`; whatever breaks a promise of the protocol ends in `fault`."""

    def __init__(
        self, url: str, client_id: str, *, token: str | None = None, keys: dict[str, tuple[str, ...]] | None = None
    ) -> None:
        self._url, self.client_id, self._token = url.replace("http", "ws", 1), client_id, token
        self._keys = keys or {}
        self.lsn = "0/0"
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        self.seen: list[dict[str, Any]] = []
        self.fault: str | None = None
        self.closed: tuple[int, str] | None = None
        self._changed = threading.Condition()
        self._socket: Any = None
        self._thread: threading.Thread | None = None
        self.acknowledges = True
        self.state = "new"
        self._ids: set[str] = set()

    def connect(self, **query: str) -> FeedClient:
        given = {"clientId": self.client_id, "lsn": self.lsn, **({"auth": self._token} if self._token else {}), **query}
        self._socket = connect(f"{self._url}/api/sync?{urlencode(given)}", compression=None, max_size=None).__enter__()
        self.closed, self.state = None, "connected"
        self._thread = threading.Thread(target=self._receive, args=(self._socket,), daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._thread is not None:
            self._thread.join(DEADLINE_S)

    @property
    def gone(self) -> bool:
        """Whether it is not connected, or was never."""
        return self.closed is not None or self.state == "new"

    def send(self, **message: Any) -> None:
        now = int(time.time() * 1000)
        self._socket.send(
            json.dumps({"messageId": f"clt_{now}", "timestamp": now, "clientId": self.client_id, **message})
        )

    def wait(self, condition: Any, explain: Callable[[], object] = lambda: "") -> None:
        """Wait for a condition while anything comes. Who stands still is told how it is, and what `explain` says."""
        deadline, count = time.monotonic() + DEADLINE_S, len(self.seen)
        with self._changed:
            while not condition():
                assert self.fault is None, self.fault
                if count != len(self.seen):
                    deadline, count = time.monotonic() + DEADLINE_S, len(self.seen)
                assert time.monotonic() < deadline, self.described(explain())
                self._changed.wait(0.2)

    def described(self, *more: object) -> str:
        """How it is, for whoever reads of a failure."""
        errors = [message for message in self.seen if message["type"] == "srv_error"]
        last = [str(message)[:400] for message in self.seen[-3:]]
        return f"{self.client_id}: {self.state} at {self.lsn}, closed {self.closed}, {errors=}, {last=}, {more}"

    def wait_for(self, kind: str, count: int = 1) -> dict[str, Any]:
        self.wait(lambda: sum(message["type"] == kind for message in self.seen) >= count)
        return [message for message in self.seen if message["type"] == kind][count - 1]

    def live_changes(self) -> list[dict[str, Any]]:
        """All changes that came live."""
        return [each for message in self.seen if message["type"] == "srv_live_changes" for each in message["changes"]]

    def _receive(self, socket: Any) -> None:
        try:
            for data in socket:
                message = json.loads(data)
                with self._changed:
                    self._take(message)
                    self.seen.append(message)
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        except Exception as error:
            self.fault = repr(error)
        with self._changed:
            self.closed = (socket.close_code or 0, socket.close_reason or "")
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:  # noqa: C901 - a protocol, message by message
        kind = message["type"]
        if message["messageId"] in self._ids or message["clientId"] != self.client_id:
            self.fault = f"messageId or clientId: {message}"
        self._ids.add(message["messageId"])
        match kind:
            case "srv_init_start":
                if "(resuming)" not in message["serverLSN"]:
                    self.rows = {}
                self.state = "initial"
                self._say(type="clt_init_received")  # as the original's web client does
            case "srv_init_changes":
                self.rows.setdefault(message["sequence"]["table"].strip('"'), {})
                self._apply(message["changes"])
                if self.acknowledges:
                    sequence = message["sequence"]
                    self._say(type="clt_init_received", table=sequence["table"], chunk=sequence["chunk"])
            case "srv_init_complete":
                self._moved(position_of(message["serverLSN"]), anew=True)
                if self.acknowledges:
                    self._say(type="clt_init_processed")
            case "srv_catchup_changes" | "srv_live_changes" | "srv_send_changes":
                self.state = "behind" if kind != "srv_live_changes" else "live"
                self._apply(message["changes"])
                for change in message["changes"]:
                    if message["whole"] and position_of(change["lsn"]) > position_of(message["lastLSN"]):
                        self.fault = f"lastLSN is before a change: {message}"
                self._moved(position_of(message["lastLSN"]))
                if self.acknowledges and kind != "srv_live_changes":
                    self._say(type="clt_catchup_received", chunk=message["sequence"]["chunk"], lsn=message["lastLSN"])
                elif self.acknowledges:
                    self._say(type="clt_changes_received", changeIds=[], lastLSN=message["lastLSN"])
            case "srv_catchup_completed" | "srv_live_start" | "srv_sync_completed":
                self.state = "live"
                self._moved(position_of(message["finalLSN"]))

    def _say(self, **message: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            self.send(**message)

    def _moved(self, position: Position, *, anew: bool = False) -> None:
        if position < position_of(self.lsn) and not anew:
            self.fault = f"went back from {self.lsn} to {position}"
        self.lsn = str(position)

    def _apply(self, changes: list[dict[str, Any]]) -> None:
        for change in changes:
            table, data = change["table"], change["data"]
            rows = self.rows.setdefault(table, {})
            key = json.dumps([data[name] for name in self._keys.get(table, ("id",))])
            match change["operation"]:
                case "insert":
                    rows[key] = data  # at least once: a chunk may come again after a reconnection
                case "update":
                    rows[key] = data
                case "delete":
                    rows.pop(key, None)
