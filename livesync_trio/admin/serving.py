"""Connections of the control plane's own address: accepted and bounded by us, spoken to by Hypercorn.

Hypercorn's `serve` is one nursery for all connections, so one that fails ends them all; it counts nobody, and its
writes cannot be cancelled (decision 0006). Here each connection has a task of its own around Hypercorn's `TCPServer`,
which serves exactly one. What goes wrong in it ends that connection.
"""

import resource
from typing import Any, Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.web import library_logger
from livesync_trio.errors import Kind
from livesync_trio.fairness.buckets import address_group
from livesync_trio.limits import ADMIN_GRACE_S, HEADERS_MAX_BYTES, WRITE_SLICE_BYTES
from livesync_trio.telemetry import get_logger

ADMIN_CONNECTIONS_MAX: Final = 128
"""Connections of the control plane's own address, half of them from one address: two for each tail that may be open."""

ADMIN_DESCRIPTORS_SHARE: Final = 8
"""One of so many descriptors that this process may open may be such a connection, where that is less."""

ADMIN_KEEP_ALIVE_S: Final = 15.0
"""Time in which a connection of the control plane must send a whole request head, its first one or another."""

ADMIN_STALL_LIMIT_S: Final = 15.0
"""How long a connection of the control plane may take no byte of what is sent to it."""

_log = get_logger("admin")


class Connection:
    """One accepted connection, which is the stream that Hypercorn reads and writes.

    It counts as idle while no request is being answered, and ends when it has been idle for `ADMIN_KEEP_ALIVE_S`: a
    request head must have arrived whole by then, however slowly it is sent.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        """Take over a stream that was just accepted."""
        try:
            self.host = str(stream.socket.getpeername()[0])
        except OSError:  # gone already
            self.host = ""
        self.group = address_group(self.host) or self.host
        self.socket = stream.socket  # Hypercorn asks it who is connected
        self.scope = trio.CancelScope()
        self._stream = stream
        self._requests = 0
        self._heard_end = False
        self.rests_since_s = 0.0
        self._rest()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self._requests == 0

    def cut(self) -> None:
        """End it now: its socket is closed, a write under way fails, its tasks are cancelled. Never waits."""
        self.scope.cancel()
        self.socket.close()

    async def serve(self, app: Any, config: HypercornConfig, context: WorkerContext) -> None:
        """Have Hypercorn answer its requests until it ends; raises what Hypercorn raises."""
        fault: Exception | None = None

        async def counted(scope: Any, receive: Any, send: Any, *spawn: Any) -> None:
            async def send_whole(message: Any) -> None:
                # The last part makes Hypercorn close the connection or await the next request. On the way it tells
                # Quart-Trio that the client is gone, which cancels the request, and with it what is on the way.
                last = not message.get("more_body") and message["type"] == "http.response.body"
                with trio.CancelScope(shield=last) as limit:
                    if last:
                        limit.deadline = trio.current_time() + ADMIN_GRACE_S
                    await send(message)

            nonlocal fault
            self._requests += 1
            self.scope.deadline = float("inf")
            try:
                await app(scope, receive, send_whole, *spawn)
            except Exception as error:  # of Hypercorn's: the app has answered and logged its own
                fault = error
                self.cut()
            finally:
                self._requests -= 1
                if self.idle:
                    self._rest()

        with self.scope:
            await TCPServer(counted, config, context, ConnectionState({}), self)  # type: ignore[arg-type]
        if fault is not None:
            raise fault

    def _rest(self) -> None:
        self.rests_since_s = trio.current_time()
        self.scope.deadline = self.rests_since_s + (ADMIN_GRACE_S if self._heard_end else ADMIN_KEEP_ALIVE_S)

    # --- the stream of Hypercorn ------------------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        """The next bytes; none at the end, after which nothing is waited for but an answer under way."""
        data = await self._stream.receive_some(max_bytes)
        if not data:
            self._heard_end = True
            if self.idle:
                self._rest()
        return data

    async def send_all(self, data: bytes) -> None:
        """Send bytes. The limit counts although Hypercorn shields its writes from cancellation from outside.

        Raises:
            BrokenResourceError: the peer has gone, or took no piece within `ADMIN_STALL_LIMIT_S`.
        """
        for start in range(0, len(data), WRITE_SLICE_BYTES):
            with trio.move_on_after(ADMIN_STALL_LIMIT_S) as limit:
                await self._stream.send_all(memoryview(data)[start : start + WRITE_SLICE_BYTES])
            if limit.cancelled_caught:
                self.cut()
                raise trio.BrokenResourceError

    async def send_eof(self) -> None:
        """Tell the peer that nothing more comes."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close it. All its tasks end: Hypercorn's reader may still wait for an answer that has been given."""
        self.cut()
        await trio.lowlevel.checkpoint()


class Connections:
    """Those that are open, and which more may be.

    When there are too many, in all or of one address, the one that has been idle for longest makes room: whoever only
    holds connections never keeps an operator out. Only when all are busy the newcomer is refused.
    """

    def __init__(self, server: ServerView, app: Any) -> None:
        """Nothing is opened.

        Args:
            server: the server.
            app: ASGI app that answers.
        """
        self._server = server
        self._app = ASGIWrapper(app)
        self._config = _hypercorn_config()
        self._context = WorkerContext(None)
        self._open: dict[Connection, None] = {}
        self._left = trio.lowlevel.ParkingLot()
        self._max = connections_max()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve a connection from its first byte to its last. Never raises anything of ours."""
        connection = Connection(stream)
        try:
            if not self._enter(connection, proxy=self._server.trusts(connection.host)):
                self._server.counters.refusals[str(Kind.TOO_MANY_REQUESTS)] += 1
                _log.debug("the control plane has no connection left", peer=connection.host)
                return
            await connection.serve(self._app, self._config, self._context)
        except Exception as error:  # strangers can cause it at will: a line for each would fill the log
            self._server.counters.refusals[str(Kind.BAD_HTTP)] += 1
            _log.debug("a connection to the control plane failed", peer=connection.host, exc_info=error)
        finally:
            self._cut(connection)

    async def finish(self, grace_s: float) -> None:
        """Have all of them end: the idle ones at once, those that answer a request within the grace."""
        await self._context.terminated.set()
        for connection in [connection for connection in self._open if connection.idle]:
            self._cut(connection)
        with trio.move_on_after(grace_s):
            while self._open:
                await self._left.park()
        self.cut()

    def cut(self) -> None:
        """End all of them now."""
        for connection in list(self._open):
            self._cut(connection)

    def _enter(self, connection: Connection, *, proxy: bool) -> bool:
        """Give a connection a place, if there is one or one can be made."""
        same = [] if proxy else [other for other in self._open if other.group == connection.group]
        full = same if len(same) >= self._max // 2 else list(self._open) if len(self._open) >= self._max else None
        if full is not None:
            idle = min((other for other in full if other.idle), key=lambda other: other.rests_since_s, default=None)
            if idle is None:
                return False
            self._cut(idle)
        self._open[connection] = None
        return True

    def _cut(self, connection: Connection) -> None:
        connection.cut()
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        self._left.unpark_all()


def connections_max() -> int:
    """How many may be open: so few of this process's descriptors that sync never lacks one because of them."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return ADMIN_CONNECTIONS_MAX
    return max(2, min(ADMIN_CONNECTIONS_MAX, descriptors // ADMIN_DESCRIPTORS_SHARE))


def _hypercorn_config() -> HypercornConfig:
    config = HypercornConfig()
    config.accesslog, config.errorlog = None, library_logger()
    config.keep_alive_timeout = ADMIN_KEEP_ALIVE_S
    config.h11_max_incomplete_size = HEADERS_MAX_BYTES
    config.include_server_header = False
    return config
