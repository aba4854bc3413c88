"""`examples/webhook.py`: what one store's receiver does is nothing to the others, and what waits is bounded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from livesync_trio.hooks import Hooks, load_hooks

from .test_examples import EXAMPLES

LIMIT_S = 30


class Receiver:
    """Answers as it is told to for each store, and remembers what it took."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int]] = {}
        self.told: list[tuple[str, int]] = []
        self.changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                store, number = message["storeId"], message["events"][0]["seqNum"]
                with receiver.changed:
                    answers = receiver.answers.get(store, [])
                    status = answers.pop(0) if answers else 204
                    receiver.told.append((store, number if status == 204 else status))
                    receiver.changed.notify_all()
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def heard(self, *wanted: tuple[str, int]) -> list[tuple[str, int]]:
        """What was told, once all of this was."""
        with self.changed:
            assert self.changed.wait_for(lambda: set(wanted) <= set(self.told), LIMIT_S), self.told
            return list(self.told)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    it = Receiver()
    monkeypatch.setenv("WEBHOOK_URL", it.url)
    monkeypatch.setenv("WEBHOOK_SECRET", "shared with the receiver")
    monkeypatch.setenv("WEBHOOK_PAUSE_S", "0.01")
    yield it
    it.close()


def push(hooks: Hooks, store: str, number: int, args: Any = None) -> None:
    assert hooks.on_push is not None
    assert hooks.on_push_res is not None
    context: Any = SimpleNamespace(store_id=store, user=None)
    batch: Any = [SimpleNamespace(seq_num=number, name="x", args=args)]
    annotation = hooks.on_push(batch, context)
    hooks.on_push_res(SimpleNamespace(refusal=None, annotation=annotation), context)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413])
def test_a_push_that_the_receiver_does_not_want_is_given_up_and_the_next_is_told(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = load_hooks(str(EXAMPLES / "webhook.py"))
    receiver.answers["big"] = [status]
    push(hooks, "big", 1)
    push(hooks, "big", 2)
    told = receiver.heard(("big", 2))
    assert told == [("big", status), ("big", 2)]
    (line,) = caplog.messages
    assert "'big' given up" in line
    assert str(status) in line


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_push_that_may_be_wanted_later_is_tried_again_in_order(receiver: Receiver, status: int) -> None:
    hooks = load_hooks(str(EXAMPLES / "webhook.py"))
    receiver.answers["slow"] = [status, status]
    push(hooks, "slow", 1)
    push(hooks, "slow", 2)
    assert receiver.heard(("slow", 2)) == [("slow", status), ("slow", status), ("slow", 1), ("slow", 2)]


def test_a_store_whose_receiver_fails_holds_up_nobody(receiver: Receiver) -> None:
    hooks = load_hooks(str(EXAMPLES / "webhook.py"))
    receiver.answers["sick"] = [503] * 100_000
    push(hooks, "sick", 1)
    receiver.heard(("sick", 503))
    for number in range(1, 6):
        push(hooks, "well", number)
    told = receiver.heard(("well", 5))
    assert [number for store, number in told if store == "well"] == [1, 2, 3, 4, 5]
    receiver.answers["sick"].clear()
    receiver.heard(("sick", 1))


def test_what_waits_is_bounded_in_bytes_for_each_store_and_for_all(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_STORE_BYTES", "1000")
    monkeypatch.setenv("WEBHOOK_ALL_BYTES", "1500")
    hooks = load_hooks(str(EXAMPLES / "webhook.py"))
    for store in "abc":
        receiver.answers[store] = [503] * 100_000
    push(hooks, "a", 1, "x" * 600)
    with pytest.raises(RuntimeError, match="not told"):
        push(hooks, "a", 2, "x" * 600)
    push(hooks, "b", 1, "x" * 600)
    with pytest.raises(RuntimeError, match="not told"):
        push(hooks, "c", 1, "x" * 600)
    receiver.answers["a"].clear()
    receiver.heard(("a", 1))
    receiver.answers["b"].clear()
    receiver.heard(("b", 1))
    push(hooks, "d", 1)
    receiver.heard(("d", 1))
