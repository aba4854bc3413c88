"""A proxy that puts an ``Authorization`` header into what passes: what a browser's cookie or a login proxy does."""

from __future__ import annotations

import contextlib
import socket
import threading

HEAD_END = b"\r\n\r\n"
CHUNK_BYTES = 65536


class AuthorizingProxy:
    """Listens on a port of its own; each connection's first request carries the ``token`` of that moment."""

    def __init__(self, target_port: int, token: str) -> None:
        self._target_port = target_port
        self.token = token
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
                far.settimeout(None)
                self.connections += 1
                self._ends += [near, far]
                self._threads += [
                    threading.Thread(target=self._carry, args=(near, far, True), daemon=True),
                    threading.Thread(target=self._carry, args=(far, near, False), daemon=True),
                ]
                for thread in self._threads[-2:]:
                    thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, authorize: bool) -> None:
        head = b""
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if authorize:
                    head += data
                    if HEAD_END not in head:
                        continue
                    line = f"\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
                    data, authorize = head.replace(HEAD_END, line, 1), False
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(5)
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(5)
        for end in self._ends:
            end.close()
