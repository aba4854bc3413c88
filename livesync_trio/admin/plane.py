"""The control plane as the server meets it: its address, its life, its end.

Hypercorn serves the app, and some inputs end Hypercorn (decision 0006). So it runs in a scope of its own: whatever ends
it is logged, shown in /health, and after a pause the next one takes over the same listening sockets. `run` never raises
anything of ours, and nothing of sync waits for it.
"""

import os
from typing import Any, Final

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve

from livesync_trio.admin.hypercorn_log import HypercornLog
from livesync_trio.admin.rooms import Rooms
from livesync_trio.admin.sockets import cut_connections, open_listeners
from livesync_trio.admin.web import make_app
from livesync_trio.limits import (
    ADMIN_GRACE_S,
    ADMIN_KEEP_ALIVE_S,
    ADMIN_STALL_LIMIT_MS,
    CRASH_BACKOFF_FIRST_S,
    CRASH_BACKOFF_MAX_S,
    HEADERS_MAX_BYTES,
)
from livesync_trio.supervision import Tasks, open_tasks
from livesync_trio.telemetry import get_logger

_log = get_logger("admin")

LISTENING: Final = "listening"
RESTARTING: Final = "restarting"
NO_ADDRESS: Final = "cannot listen"
STOPPED: Final = "stopped"


class ControlPlane:
    """The control plane of one server."""

    def __init__(self, rooms: Rooms) -> None:
        """Nothing is opened before `listen`."""
        self._rooms = rooms
        self._listeners: list[trio.SocketListener] = []
        self._stopping = trio.Event()
        self._stopped = trio.Event()
        self._started = False
        self.status = STOPPED
        """In a word, for /health."""
        self.app: Any = make_app(rooms)
        """For the public door, which calls it without Hypercorn."""

    @property
    def url(self) -> str:
        """Where it is reached, with the port it was really given; empty while it has no address."""
        if not self._listeners:
            return ""
        host, port = self._listeners[0].socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def listen(self) -> bool:
        """Try to get the address. False: it cannot be had now, the log says why, and `run` tries again."""
        config = self._rooms.config()
        try:
            self._listeners = await open_listeners(config.admin_host, config.admin_port, ADMIN_STALL_LIMIT_MS)
        except (OSError, UnicodeError) as error:  # the latter: a name that DNS cannot have
            if self.status != NO_ADDRESS:  # once, not with each attempt
                _log.warning(
                    "the control plane cannot listen; it tries again, sync is not affected",
                    address=f"{config.admin_host}:{config.admin_port}",
                    reason=getattr(error, "strerror", None) or str(error),
                )
            self.status = NO_ADDRESS
            return False
        _log.info("control plane listening", url=self.url)
        return True

    async def run(self) -> None:
        """Serve until stopped or cancelled, one Hypercorn after another should they end."""
        self._started = True
        pause_s = CRASH_BACKOFF_FIRST_S
        try:
            while not self._stopping.is_set():
                if self._listeners or await self.listen():
                    began_s = trio.current_time()
                    await self._serve_once()
                    if trio.current_time() - began_s > CRASH_BACKOFF_MAX_S:
                        pause_s = CRASH_BACKOFF_FIRST_S
                with trio.move_on_after(pause_s):
                    await self._stopping.wait()
                pause_s = min(2 * pause_s, CRASH_BACKOFF_MAX_S)
        finally:
            self.status = STOPPED
            self._close_listeners()
            self._stopped.set()

    def end(self) -> None:
        """The server begins to shut down: whoever listens for ever is told. Requests are still answered."""
        self._rooms.end()

    async def stop(self) -> None:
        """End in order: requests are finished, within the grace. Returns when it has ended."""
        self._stopping.set()
        if self._started:
            await self._stopped.wait()

    def close(self) -> None:
        """Release what it holds; called when nobody asks any more."""
        self._close_listeners()
        self._rooms.readers.close()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.socket.close()
        self._listeners = []

    # --- one Hypercorn ---------------------------------------------------------------------------------------------

    async def _serve_once(self) -> None:
        async with open_tasks("control plane") as tasks:
            ending = trio.Event()
            tasks.start(self._cut_after_grace, ending)
            tasks.start(self._serve, tasks, ending)
        if not self._stopping.is_set():
            self.status = RESTARTING
            _log.error("the control plane ended and starts again; sync is not affected")

    async def _serve(self, tasks: Tasks, ending: trio.Event) -> None:
        async def until_stopped() -> None:
            try:
                await self._stopping.wait()
            finally:  # also when a fault has cancelled everything: its writes go on (see `sockets`)
                ending.set()

        config = _hypercorn_config(self._listeners)
        self.status = LISTENING
        try:
            await serve(_plain_only(make_app(self._rooms)), config, shutdown_trigger=until_stopped, mode="asgi")
        finally:
            ending.set()
        tasks.cancel()

    async def _cut_after_grace(self, ending: trio.Event) -> None:
        """Hypercorn's writes cannot be cancelled: a peer that reads nothing would hold up its end, and ours."""
        sockets = [listener.socket for listener in self._listeners]
        try:
            await ending.wait()
            await trio.sleep(ADMIN_GRACE_S)
        finally:
            cut_connections([socket.getsockname() for socket in sockets])


def _hypercorn_config(listeners: list[trio.SocketListener]) -> HypercornConfig:
    """Each Hypercorn closes the sockets it is given, so it is given copies."""
    config = HypercornConfig()
    config.bind = [f"fd://{os.dup(listener.socket.fileno())}" for listener in listeners]
    config.logger_class = HypercornLog
    config.accesslog = config.errorlog = None
    config.graceful_timeout = ADMIN_GRACE_S
    config.keep_alive_timeout = ADMIN_KEEP_ALIVE_S
    config.h11_max_incomplete_size = HEADERS_MAX_BYTES
    config.include_server_header = False
    return config


def _plain_only(app: Any) -> Any:
    """The app without WebSockets, of which it has none, and without targets that are no path."""

    async def plain_only(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and not scope["path"].startswith("/"):
            await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    return plain_only
