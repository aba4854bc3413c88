"""An issuer of tokens that answers a byte at a time holds nobody up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trio

from livesync_trio.access import jwks


@contextmanager
def dripping(answer: bytes) -> Iterator[str]:
    """A server that sends `answer`, and then a byte every 20 ms without end."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        conversation, _ = listener.accept()
        with conversation:
            try:
                conversation.sendall(answer)
                while not ended.wait(0.02):
                    conversation.sendall(b"x")
            except OSError:
                pass  # the other side has gone, which is what is wanted

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"
    finally:
        ended.set()
        thread.join(5)
        listener.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nX-Header: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_download_has_an_end_however_slowly_it_comes(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "JWKS_FETCH_LIMIT_S", 0.3)
    with dripping(answer) as url:
        began_s = time.monotonic()
        with suppress(OSError, ValueError):  # what was cut off is no key set, whatever it looks like
            jwks._download(url)
        assert time.monotonic() - began_s < 5


async def test_fetches_take_no_thread_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "JWKS_FETCH_LIMIT_S", 0.2)
    let_go = threading.Event()

    def hang(url: str) -> bytes:
        let_go.wait(10)
        return b""

    monkeypatch.setattr(jwks, "_download", hang)
    keys = jwks.RemoteKeys("http://127.0.0.1:1/jwks")
    try:
        with trio.fail_after(5):
            assert await keys.find("a") == []
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    finally:
        let_go.set()
