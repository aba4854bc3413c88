"""Stays connected: opens connection after connection, with pauses that grow, and says how it stands.

Owns the state that an application sees, and the decision when to come back. A payload is asked for at each attempt,
because tokens expire. Whoever is refused for good does not come back by itself.
"""

import enum
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Self

import attrs
import trio

from livesync_trio.client.connection import Connection
from livesync_trio.client.failures import Offline, Refused, SyncError
from livesync_trio.client.limits import (
    CLIENT_BACKOFF_FIRST_S,
    CLIENT_BACKOFF_JITTER,
    CLIENT_BACKOFF_MAX_S,
    CLIENT_REFUSALS_MAX,
)

Patience = Literal["wait", "fail"]
"""Whether somebody who needs a connection waits for it, or is told at once that there is none."""

Payload = Callable[[], Any | Awaitable[Any]]
"""Gives what the application sends as `syncPayload`, at each attempt to connect."""

Open = Callable[[Any], AbstractAsyncContextManager[Connection]]
"""Opens a connection with a payload for the length of a block; raises Offline or Refused."""


class State(enum.StrEnum):
    """How a client stands with its server."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """The last attempt failed, or the connection was lost; another attempt follows by itself."""
    REFUSED = "refused"
    """The server does not let this client in; only `connect` makes another attempt."""
    CLOSED = "closed"


@attrs.define
class Backoff:
    """Pauses that double, up to a bound, each spread so that many clients do not come back at the same moment."""

    _dice: random.Random = attrs.Factory(random.Random)
    _failures: int = 0

    def next_s(self, least_s: float = 0.0) -> float:
        """The next pause; at least as long as the server asked for."""
        pause_s = min(CLIENT_BACKOFF_FIRST_S * 2.0**self._failures, CLIENT_BACKOFF_MAX_S)
        self._failures += 1
        return max(pause_s, least_s) * self._dice.uniform(1.0, 1.0 + CLIENT_BACKOFF_JITTER)

    def reset(self) -> None:
        """All is well again."""
        self._failures = 0


class Link:
    """A connection that is opened again and again, until `close`."""

    def __init__(self, open_connection: Open, payload: Payload | None, place: str) -> None:
        """Nothing is opened before `run`.

        Args:
            open_connection: opens one.
            payload: asked before; None: there is none, or always the same, which a refusal does not change.
            place: the server, for messages.
        """
        self._open = open_connection
        self._payload = payload
        self._place = place
        self._backoff = Backoff()
        self._refusals = 0
        self._changed = trio.Event()
        self._called = trio.Event()
        self._connection: Connection | None = None
        self.state = State.CONNECTING
        self.failure: SyncError | None = None
        """Why there is no connection, or why there was none before this attempt."""

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            self._become(State.CONNECTING)
            try:
                failure = await self._be_connected_once()
            except Refused as refused:
                failure = refused
                if self._is_final(refused):
                    self._become(State.REFUSED, failure)
                    await self._called.wait()
                    self._refusals = 0
                    continue
            except Offline as offline:
                failure = offline
            if self.state is not State.WAITING:
                self._become(State.WAITING, failure)
            with trio.move_on_after(self._backoff.next_s(getattr(failure, "retry_after_s", 0.0))):
                await self._called.wait()

    async def _be_connected_once(self) -> SyncError:
        payload = None
        if self._payload is not None:
            try:
                payload = self._payload()
                if isinstance(payload, Awaitable):
                    payload = await payload
            except Exception as error:  # the application's: it may need the network as much as we do
                raise Offline(f"{self._place}: no payload could be had: {error!r}") from error
        async with self._open(payload) as connection:
            self._refusals = 0
            self._connection = connection
            self._become(State.CONNECTED)
            try:
                failure = Offline(f"{self._place}: the connection is lost: {await connection.run()}.")
            finally:
                self._connection = None
                if connection.was_useful:
                    self._backoff.reset()
            self._become(State.WAITING, failure)  # before the goodbye, which may take a moment
        return failure

    def _is_final(self, refused: Refused) -> bool:
        """Whether coming back is of no use. A fresh payload may be let in, but not if that happens again and again."""
        if refused.retry:
            return False
        self._refusals += 1
        return self._payload is None or self._refusals >= CLIENT_REFUSALS_MAX

    def _become(self, state: State, failure: SyncError | None = None) -> None:
        if state is State.CONNECTED or failure is not None:
            self.failure = failure
        self.state = state
        self._called = trio.Event()
        self._changed.set()
        self._changed = trio.Event()

    def close(self) -> None:
        """No other attempt will be made; whoever waits is told."""
        self._become(State.CLOSED, Offline(f"{self._place}: this client is closed."))

    async def connected(self, patience: Patience) -> Connection:
        """The connection, once there is one.

        Raises:
            Offline: there is none, and whoever asks does not wait; or this client is closed.
            Refused: the server does not let this client in.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._connection is not None and self.is_connected:
                return self._connection
            hopeless = self.state in {State.REFUSED, State.CLOSED}
            if (hopeless or (patience == "fail" and self.state is State.WAITING)) and self.failure is not None:
                raise self.failure.with_traceback(None)
            await self._changed.wait()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as anybody knows."""
        return self._connection is not None and not self._connection.is_lost

    async def connect(self) -> None:
        """Make an attempt now, whatever the pause; returns when connected. Raises as `connected`, without waiting."""
        while self.state is State.CONNECTED and not self.is_connected:
            await self._changed.wait()
        if self.state in {State.WAITING, State.REFUSED}:
            changed = self._changed
            self._called.set()
            await changed.wait()
        await self.connected("fail")

    async def state_after(self, last: State | None) -> State:
        """The state, once it is another one than `last`."""
        await trio.lowlevel.checkpoint()
        while self.state is last:
            await self._changed.wait()
        return self.state


class States:
    """The state of a link now, and each one after it; when they change faster than they are taken, the last of them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._last: State | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> State:
        if self._last is State.CLOSED:
            raise StopAsyncIteration
        self._last = await self._link.state_after(self._last)
        return self._last
