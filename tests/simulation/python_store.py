"""A program with a Python store: the real store, its file and the real client, over the simulated network.

Only the framing of WebSockets is left out. The program commits, is closed and opened again, goes offline, and looks
again and again whether its tables are the fold of the log, and its log the beginning of the durable one.
"""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import attrs
import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection

from livesync_trio.client import link, open_backend, opening, pulling
from livesync_trio.client.address import Address
from livesync_trio.client.dialects import Dialect
from livesync_trio.client.failures import Offline
from livesync_trio.client.socket import SocketConnection
from livesync_trio.livestore import Schema, Store, StoreError, open_store, replica, syncing
from livesync_trio.livestore.events import Statement
from tests.simulation.disk import STORE, History
from tests.simulation.leader import Attempt, Violation
from tests.simulation.network import Link
from tests.simulation.world import World

WEBSOCKET_PONG_S = 0.02


def make_schema() -> Schema:
    """Events as all clients of the simulation commit them; the table says which came at which place."""
    schema = Schema("CREATE TABLE said (place INTEGER PRIMARY KEY NOT NULL, content TEXT NOT NULL UNIQUE) STRICT")
    schema.event("n")(str)

    @schema.materializer(str)
    def say(content: str) -> Statement:
        return "INSERT INTO said SELECT coalesce(max(place), 0) + 1, ? FROM said", (content,)

    return schema


@attrs.define(eq=False)
class _Socket:
    """A connection of the simulated network, with what the client uses of a WebSocket."""

    line: Link

    async def send_message(self, message: str) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.line.put(message.encode())

    async def get_message(self) -> str:
        message = await self.line.get()
        if message is None:
            raise ConnectionClosed(CloseReason(1006, None))
        return message.decode()

    async def ping(self) -> None:
        """The server's network stack answers, unless nothing arrives there."""
        await trio.sleep(WEBSOCKET_PONG_S)
        self._check()
        if self.line.up.swallows:
            await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.line.leave()

    def _check(self) -> None:
        if self.line.gone:
            raise ConnectionClosed(CloseReason(1006, None))


class Dial:
    """Opens connections of the simulated network for a client, which takes them for streams of bytes."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        self.offline = False

    async def __call__(self, address: Address) -> trio.abc.Stream:
        """Connect, if anybody is there."""
        await trio.sleep(self._dice.uniform(0.001, 0.05))
        line = None if self.offline else self._world.link(self._dice)
        if line is None:
            raise OSError("nobody is there")
        return cast("trio.abc.Stream", line)


@asynccontextmanager
async def open_simulated_socket(
    address: Address, _target: str, dialect: Dialect, dial: Dial
) -> AsyncIterator[SocketConnection]:
    """In place of `client.socket.open_socket`: no handshake, no frames."""
    try:
        line = cast("Link", await dial(address))
    except OSError as error:
        raise Offline(f"{address.place}: {error}.") from error
    try:
        yield SocketConnection(cast("WebSocketConnection", _Socket(line)), dialect)
    finally:
        line.leave()


@contextmanager
def simulated(dice: random.Random) -> Iterator[None]:
    """Let clients use the simulated network, and nothing but the dice decide what they do; no thread is started."""
    backoff = functools.partial(link.Backoff, random.Random(dice.random()))
    with ExitStack() as stack:
        for module, name, instead in (
            (opening, "open_socket", open_simulated_socket),
            (link, "Backoff", backoff),
            (pulling, "Backoff", backoff),
            (syncing, "random", random.Random(dice.random())),
            (replica, "new_name", lambda: f"session-{dice.getrandbits(32):x}"),
            (trio.to_thread, "run_sync", _at_once),
            (trio.from_thread, "check_cancelled", lambda: None),
        ):
            stack.enter_context(mock.patch.object(module, name, instead))
        yield


async def _at_once(function: Callable[..., Any], *args: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return function(*args)


class PythonStore:
    """The program."""

    def __init__(self, world: World, name: str, path: Path, dice: random.Random) -> None:
        self._world = world
        self._path = path
        self._dice = dice
        self._dial = Dial(world, dice)
        self._process = trio.CancelScope()
        self._store: Store | None = None
        self._shown = -1
        self.name = name
        self.committed: dict[str, float] = {}
        """What was committed, and when."""
        self.rebases = 0
        self.resting = trio.Event()

    # --- the program --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live for ever, through restarts; make trouble until told to rest."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._suffer)
            while True:
                with trio.CancelScope() as self._process:
                    await self._live_once()
                await trio.sleep(self._dice.uniform(0, 2))

    async def _live_once(self) -> None:
        self._shown = -1
        backend = open_backend("ws://simulated", store_id=STORE, dial=self._dial)
        options: dict[str, Any] = {"client_id": self.name, "on_reset": "restart", "on_unknown": "fail"}
        try:
            async with open_store(self._path, make_schema(), store_id=STORE, backend=backend, **options) as store:
                self._store = store
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, store)
                    await self._work(store)
        except StoreError as error:
            raise Violation(f"{self.name}: {error}") from error
        finally:
            if self._store is not None:
                self.rebases += self._store._replica.rebases
            self._store = None

    async def _watch(self, store: Store) -> None:
        async for rows in store.watch("SELECT count(*) AS n FROM said"):
            self._shown = rows[0]["n"]

    async def _work(self, store: Store) -> None:
        pace_s = self._dice.choice([0.3, 1.5, 5.0])
        while True:
            self.look()
            await trio.sleep(self._dice.expovariate(1 / pace_s))
            if not self.resting.is_set():
                count = self._dice.choice([1] * 10 + [2, 5, 70])
                self._commit(store, [f"{self.name}:{len(self.committed) + n}:" for n in range(count)])

    def _commit(self, store: Store, contents: Sequence[str]) -> None:
        store.commit(*contents)
        self.committed |= dict.fromkeys(contents, trio.current_time())

    async def _suffer(self) -> None:
        while not self.resting.is_set():
            await trio.sleep(self._dice.expovariate(1 / 4.0))
            match self._dice.choice(["restart", "restart", "offline", "online"]):
                case "restart":
                    self._process.cancel()
                case state:
                    self._dial.offline = state == "offline"
        self._dial.offline = False

    def rest(self) -> None:
        """Commit nothing more, and stay online."""
        self._dial.offline = False
        self.resting.set()

    # --- what it has --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Raise Violation when the tables are not the fold of the log, or the log is not the store's."""
        store = self._store
        if store is None:
            return
        log = [row["args"] for row in store.query("SELECT json_extract(args, '$') AS args FROM livesync_log")]
        if [row["content"] for row in store.query("SELECT content FROM said ORDER BY place")] != log:
            raise Violation(f"{self.name}: its tables are not the fold of its log")
        position = store.query("SELECT backend_id, upstream_head FROM livesync_store")[0]
        numbers = store.query("SELECT count(*) AS n FROM livesync_log WHERE seq_num <= ?", (position["upstream_head"],))
        confirmed = log[: numbers[0]["n"]]
        for history in self._world.disk.histories:
            if history.backend_id == position["backend_id"] and history.contents[: len(confirmed)] != confirmed:
                raise Violation(f"{self.name}: its log is not the beginning of the durable one")

    @property
    def stands_at(self) -> tuple[int, int]:
        """How many events are pending, and the last one that the server has; for messages."""
        status = self._store.sync_status if self._store is not None else None
        return (status.pending, status.upstream_head) if status is not None else (-1, -1)

    def settled_at(self, history: History) -> bool:
        """Whether it has the whole log, nothing left to push, and whoever watches has been shown that."""
        store = self._store
        if store is None or store.sync_status.pending or not store.sync_status.caught_up:
            return False
        said = [row["content"] for row in store.query("SELECT content FROM said ORDER BY place")]
        return said == history.contents and self._shown == len(said)

    def attempts(self, histories: Iterable[History]) -> list[Attempt]:
        """For the checker of linearizability: each commit may have become part of any log."""
        return [
            Attempt(self.name, history.backend_id, 0, (content,), committed_s)
            for history in histories
            for content, committed_s in self.committed.items()
        ]


def check_stores(histories: Sequence[History], stores: Iterable[PythonStore]) -> None:
    """No commit is lost, and those of one store stand in every log in the order of their commits.

    A commit that was stored before a reset is gone with the log; it may be in the new one as well, if the store had not
    learned of it. That none is in a log twice is checked for all clients.
    """
    for store in stores:
        mine = set(store.committed)
        places = {content: place for place, content in enumerate(store.committed)}
        everywhere: set[str] = set()
        for history in histories:
            found = [content for content in history.contents if content in mine]
            if found != sorted(found, key=places.__getitem__):
                raise Violation(f"{store.name}: its commits are in another order: {found}")
            everywhere |= set(found)
        if lost := mine - everywhere:
            raise Violation(f"{store.name}: lost commits: {sorted(lost)[:5]}")
