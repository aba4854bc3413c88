"""A world in which everything that can go wrong goes wrong, decided by one seed.

Owns the simulated disk, the simulated network, the server that is started and crashed on them, and the trace. The server's
rooms in it are the real ones, from the peers down to the storage contract; only threads, sockets and time are simulated.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

import attrs
import trio

from livesync_trio.connection.channel import ChannelEnded, Incoming
from livesync_trio.connection.peer import Peer, Surroundings
from livesync_trio.connection.peers import Peers
from livesync_trio.connection.rpc_peer import RpcPeer
from livesync_trio.connection.v3_peer import V3Peer
from livesync_trio.errors import Kind, StorageUnavailable
from livesync_trio.hooks import HookContext, HookRunner, Hooks
from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage import base
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.store.registry import Registry
from livesync_trio.telemetry import Counters

STORE = StoreId("s")
STALL_LIMIT_S = 60.0
WINDOW_BYTES = 64 * 1024
"""Bytes the simulated network takes before it slows the sender down, like a socket's buffers."""


class Trace(list[str]):
    """What happened, in order; two runs of one seed must be equal."""

    def note(self, text: str) -> None:
        self.append(f"{trio.current_time():.6f} {text}")


@attrs.frozen
class Durable:
    """When a head became durable."""

    time_s: float
    state: LogState


@attrs.define
class Faults:
    """How probable each fault is; all zero once the world heals."""

    commit_fails: float = 0.0
    commit_unclear: float = 0.0
    read_fails: float = 0.0
    disk_slow_s: float = 0.0

    def heal(self) -> None:
        self.commit_fails = self.commit_unclear = self.read_fails = self.disk_slow_s = 0.0


class Disk:
    """The database, which survives every crash. Knows when each head became durable."""

    def __init__(self, dice: random.Random, trace: Trace) -> None:
        self.dice = dice
        self.trace = trace
        self.faults = Faults()
        self.engine = MemoryEngine()
        self.engine.open()
        self.heads: list[Durable] = []

    def apply(self, writer: base.Writer, write: base.Write) -> base.Outcome:
        outcome = writer.commit([write])[0]
        if isinstance(outcome, Exception):
            raise outcome
        state = outcome if isinstance(outcome, LogState) else outcome.state
        if not self.heads or self.heads[-1].state != state:
            self.heads.append(Durable(trio.current_time(), state))
        self.trace.note(f"{type(write).__name__} -> {type(outcome).__name__} e{state.head}")
        return outcome

    def log(self) -> list[StoredEvent]:
        """Everything that is durable, in order."""
        reader = self.engine.reader()
        state = reader.state(STORE)
        return [] if state is None else reader.read(state, 0, state.head, 10**9, 10**12)


class DiskOfProcess:
    """The disk as one server process has it: its handles die with the process. A `Writer` and a `Readers`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._writer = disk.engine.writer()
        self._reader = disk.engine.reader()
        self.dead = False
        self.healthy = True

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def close(self) -> None:
        pass

    async def commit(self, write: base.Write) -> base.Outcome:
        dice, faults = self._disk.dice, self._disk.faults
        with trio.CancelScope(shield=True):
            await trio.sleep(dice.uniform(0, 0.01) + dice.random() * faults.disk_slow_s)
            if self.dead or dice.random() < faults.commit_fails:
                raise StorageUnavailable("simulated: the disk does not take it")
            outcome = self._disk.apply(self._writer, write)
            await trio.sleep(dice.uniform(0, 0.01))
            if self.dead or dice.random() < faults.commit_unclear:
                raise StorageUnavailable("simulated: lost at COMMIT")
        return outcome

    async def read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        dice, faults = self._disk.dice, self._disk.faults
        await trio.sleep(dice.uniform(0, 0.02) + dice.random() * faults.disk_slow_s)
        if self.dead or dice.random() < faults.read_fails:
            raise StorageUnavailable("simulated: read error")
        return self._reader.read(log, after, up_to, READ_MAX_EVENTS, READ_MAX_BYTES)


class Wire:
    """One direction of a connection: in order, after a delay, or never."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._items: deque[tuple[float, bytes]] = deque()
        self._changed = trio.Event()
        self._last_s = 0.0
        self.queued_bytes = 0
        self.cut = False
        self.swallows = False

    def put(self, message: bytes) -> None:
        if self.cut or self.swallows:
            return
        at_s = max(self._last_s, trio.current_time() + self._dice.uniform(0.001, 0.05))
        self._last_s = at_s
        self._items.append((at_s, message))
        self.queued_bytes += len(message)
        self._change()

    def end(self) -> None:
        """Both ends learn that the connection is gone; what is under way is lost."""
        self.cut = True
        self._items.clear()
        self.queued_bytes = 0
        self._change()

    async def get(self) -> bytes | None:
        """The next message; None when the connection is gone."""
        while True:
            if self.cut:
                return None
            if self._items:
                at_s, message = self._items[0]
                if at_s <= trio.current_time():
                    self._items.popleft()
                    self.queued_bytes -= len(message)
                    self._change()
                    return message
                with trio.move_on_at(at_s):
                    await self._changed_from_now()
            else:
                await self._changed_from_now()

    async def room(self) -> bool:
        """Wait until the wire takes more. False: not within the stall limit."""
        with trio.move_on_after(STALL_LIMIT_S):
            while self.queued_bytes > WINDOW_BYTES and not self.cut:
                await self._changed_from_now()
            return True
        return False

    def _change(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def _changed_from_now(self) -> None:
        await self._changed.wait()


class Link:
    """A connection between a client and a server process."""

    def __init__(self, dice: random.Random) -> None:
        self.up, self.down = Wire(dice), Wire(dice)

    def cut(self) -> None:
        self.up.end()
        self.down.end()

    def go_silent(self) -> None:
        """Half-open: nothing arrives any more, and nobody is told."""
        self.up.swallows = self.down.swallows = True


class SimulatedChannel:
    """A link as the server's transport (`connection.channel.Channel`)."""

    def __init__(self, link: Link, note: Callable[[str], None]) -> None:
        self._link = link
        self._note = note
        self.on_control: Callable[[], None] = lambda: None

    async def receive(self) -> list[Incoming]:
        data = await self._link.up.get()
        if data is None:
            raise ChannelEnded(None, "gone")
        return [Incoming(data, text=True)]

    async def send(self, messages: Sequence[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        for message in messages:
            if not await self._link.down.room():
                raise ChannelEnded(Kind.STALLED, "took no bytes")
            self._link.down.put(message)

    def probe(self) -> None:
        """A WebSocket ping: the client's network stack answers it, if anything arrives there at all."""
        if not self._link.down.swallows:
            self._link.up.put(b'{"_tag":"Eof"}')

    async def close(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self._note(f"closed with {code}: {reason}")
        self._link.cut()

    def cut(self) -> None:
        self._link.cut()


class ServerProcess:
    """One life of the server, from start to crash."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._links: list[Link] = []
        self.disk = DiskOfProcess(world.disk)
        self.counters = Counters()
        self.registry = Registry(self.disk, self.disk, self.counters, dormant_after_s=20.0)
        self.peers = Peers(idle_limit_s=75.0)
        self._surroundings = Surroundings(HookRunner(Hooks(), 5.0), self.counters, max_open_pulls=32)
        self._scope = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.registry.run)
                nursery.start_soon(self.peers.watch)
                self._nursery = nursery
                task_status.started()

    def accept(self, link: Link, *, v3: bool) -> None:
        """A client has connected."""
        self._links.append(link)
        channel = SimulatedChannel(link, self._world.trace.note)
        context = HookContext(STORE, None, {}, "simulated")
        make: type[Peer] = V3Peer if v3 else RpcPeer
        peer = make(channel, self.registry.handle(STORE), context, self._surroundings)
        self._nursery.start_soon(self.peers.run, peer)

    def crash(self) -> None:
        """kill -9: nothing leaves the process any more, and nothing it has begun is finished by it."""
        self.disk.dead = True
        for link in self._links:
            link.cut()
        self._scope.cancel()

    async def stop(self) -> None:
        """SIGTERM: drain, then go."""
        try:
            with trio.move_on_after(10):
                await self.registry.drain()
                await self.peers.say_goodbye()
        finally:
            self.crash()


class World:
    """The disk, the network, the server of the moment, and the dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.trace = Trace()
        self.disk = Disk(self.dice, self.trace)
        self.server: ServerProcess | None = None
        self.links: list[Link] = []

    def connect(self, *, v3: bool = False) -> Link | None:
        """Open a connection; None while no server runs."""
        if self.server is None:
            return None
        link = Link(self.dice)
        self.links = [other for other in self.links if not other.up.cut]
        self.links.append(link)
        self.server.accept(link, v3=v3)
        return link

    async def start_server(self, nursery: trio.Nursery) -> None:
        server = ServerProcess(self)
        await nursery.start(server.run)
        self.server = server
        self.trace.note("server started")

    def crash_server(self) -> None:
        if self.server is not None:
            self.server.crash()
            self.server = None
            self.trace.note("server crashed")

    async def stop_server(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            await server.stop()
            self.trace.note("server stopped")
