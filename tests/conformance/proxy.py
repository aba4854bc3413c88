"""A TCP proxy between a client and the server that can behave like a bad network."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

CHUNK_BYTES = 65536


class _Way:
    """One direction of a link. While ``open`` it carries; closed, it swallows."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self._source = source
        self._target = target
        self.open = True
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    def _carry(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._source.recv(CHUNK_BYTES):
                if self.open:
                    self._target.sendall(data)
            # A silent network hides the end of a connection too.
            if self.open:
                self._target.shutdown(socket.SHUT_WR)


class _Link:
    """One connection through the proxy."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends = (near, far)
        self.to_server = _Way(near, far)
        self.to_client = _Way(far, near)

    def cut(self) -> None:
        """Reset both sides, as a vanished network or a killed host does."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
        for way in (self.to_server, self.to_client):
            way.thread.join(5)
        for end in self._ends:
            end.close()


class TcpProxy:
    """Listens on a port of its own and carries connections to ``127.0.0.1:target_port``.

    ``silence()`` lets nothing through on the existing connections without closing them, while new ones work (what a
    laptop's sleep looks like); ``deafen()`` and ``mute()`` do so in one direction. ``cut()`` resets the existing ones
    and refuses new ones until ``restore()``.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._links: list[_Link] = []
        self._lock = threading.Lock()
        self._refusing = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What to give to a client instead of the server's URL."""
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        with self._lock:
            far = None
            if not self._refusing:
                with contextlib.suppress(OSError):
                    far = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            if far is None:
                near.close()
                return
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links.append(_Link(near, far))

    def silence(self) -> None:
        """From now on nothing passes on the connections that exist."""
        with self._lock:
            for link in self._links:
                link.to_server.open = False
                link.to_client.open = False

    def deafen(self) -> None:
        """From now on the clients of the existing connections are heard but hear nothing."""
        with self._lock:
            for link in self._links:
                link.to_client.open = False

    def mute(self) -> None:
        """From now on the clients of the existing connections hear but are not heard."""
        with self._lock:
            for link in self._links:
                link.to_server.open = False

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        with self._lock:
            self._refusing = True

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self.refuse()
        with self._lock:
            for link in self._links:
                link.cut()
            self._links.clear()

    def restore(self) -> None:
        """Let new connections through again."""
        with self._lock:
            self._refusing = False

    def close(self) -> None:
        """Stop listening and end every connection."""
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
