"""The control plane as the server meets it: its address, its life, its end. Nothing of sync waits for it."""

from typing import Final

import trio

from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.serving import Connections
from livesync_trio.admin.web import ControlApp
from livesync_trio.errors import Kind, StartupError, StorageUnavailable
from livesync_trio.limits import ADMIN_GRACE_S, CRASH_BACKOFF_FIRST_S, CRASH_BACKOFF_MAX_S
from livesync_trio.supervision import open_tasks
from livesync_trio.telemetry import get_logger

_log = get_logger("admin")

LISTENING: Final = "listening"
NO_ADDRESS: Final = "cannot listen"
STOPPED: Final = "stopped"


class ControlPlane:
    """The control plane of one server."""

    def __init__(self, server: ServerView) -> None:
        """Nothing is opened before `listen`."""
        self.server = server
        self._listeners: list[trio.SocketListener] = []
        self.app = ControlApp(server)
        """For the public door, which calls it without Hypercorn."""
        self._connections = Connections(server, self.app)
        self._stopping = trio.Event()
        self._stopped = trio.Event()
        self._started = False
        self.status = STOPPED
        """In a word, for /health."""

    @property
    def url(self) -> str:
        """Where it is reached, with the port it was really given; empty while it has no address."""
        if not self._listeners:
            return ""
        host, port = self._listeners[0].socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def listen(self) -> bool:
        """Try to get the address. False: it cannot be had now, the log says why, and `run` tries again."""
        config = self.server.config()
        try:
            self._listeners = list(await trio.open_tcp_listeners(config.admin_port, host=config.admin_host))
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

    async def first_link(self) -> str | None:
        """Path and query of the page on which the first operator is made; None: somebody can sign in, or nobody may.

        Raises:
            StartupError: the operators cannot be read.
        """
        if self.server.entrance is None:
            return None
        try:
            token = await self.server.entrance.prepare(self.server.config())
        except StorageUnavailable as error:
            raise StartupError(Kind.DATABASE_UNUSABLE, f"the operators cannot be read: {error}") from error
        return None if token is None else f"/first?token={token}"

    async def run(self) -> None:
        """Serve until stopped or cancelled; an address that cannot be had is tried again. Raises nothing of ours."""
        self._started = True
        pause_s = CRASH_BACKOFF_FIRST_S
        try:
            while not self._stopping.is_set():
                if self._listeners or await self.listen():
                    await self._serve()
                with trio.move_on_after(pause_s):
                    await self._stopping.wait()
                pause_s = min(2 * pause_s, CRASH_BACKOFF_MAX_S)
        finally:
            self.status = STOPPED
            self._close_listeners()
            self._stopped.set()

    async def _serve(self) -> None:
        """Serve until stopped; returns earlier, without an address, if connections cannot be accepted any more."""
        self.status = LISTENING
        async with open_tasks("control plane") as tasks:
            tasks.start(tasks.accept, self._connections.serve, self._listeners)
            try:
                await self._stopping.wait()
                await self._connections.finish(ADMIN_GRACE_S)
            finally:
                self._connections.cut()  # Hypercorn's writes cannot be cancelled
            tasks.cancel()
        self._close_listeners()

    def end(self) -> None:
        """The server begins to shut down: whoever listens for ever is told. Requests are still answered."""
        self.server.end()

    async def stop(self) -> None:
        """End in order: requests are finished, within the grace. Returns when it has ended."""
        self._stopping.set()
        if self._started:
            await self._stopped.wait()

    def close(self) -> None:
        """Release what it holds; called when nobody asks any more."""
        self._close_listeners()
        self.server.readers.close()
        if self.server.entrance is not None:
            self.server.entrance.close()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.socket.close()
        self._listeners = []
