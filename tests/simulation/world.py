"""A world in which everything that can go wrong goes wrong, decided by one seed.

Owns the servers that are started and crashed on the simulated disk and network, and the trace. The server's parts in
it are the real ones, from the peers down to the storage contract; only threads, sockets and time are simulated.
"""

from __future__ import annotations

import contextlib
import math
import random
import zlib
from collections.abc import AsyncIterator

import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.context import ServerContext
from livesync_trio.connection.peers import Peers
from livesync_trio.connection.rpc_peer import RpcPeer
from livesync_trio.connection.store_peer import StorePeer
from livesync_trio.connection.v3_peer import V3Peer
from livesync_trio.hooks import HookContext, HookRunner, Hooks
from livesync_trio.store.commands import Command
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.registry import Registry
from livesync_trio.telemetry import Counters
from tests.simulation.disk import STORE, Disk, DiskOfProcess
from tests.simulation.leader import Line
from tests.simulation.network import Link, SimulatedChannel

DORMANT_AFTER_S = 20.0
IDLE_LIMIT_S = 75.0
NEWS_CHECK_S = 5.0
SWEPT_AT_ONCE = 0.05


class Trace(list[str]):
    """What happened, in order; two runs of one seed must be equal, down to every byte a client was sent."""

    checksum = 0

    def note(self, text: str) -> None:
        self.append(f"{trio.current_time():.6f} {text}")

    def hear(self, message: bytes) -> None:
        self.checksum = zlib.crc32(message, self.checksum)


class SweptHandle(StoreHandle):
    """A handle after whose commands the dormancy sweep comes at once now and then, before the actor's next step."""

    __slots__ = ("_dice", "_registry")

    def __init__(self, registry: Registry, dice: random.Random) -> None:
        super().__init__(registry, STORE)
        self._registry = registry
        self._dice = dice

    def post_nowait(self, command: Command) -> bool:
        posted = super().post_nowait(command)
        if self._dice.random() < SWEPT_AT_ONCE:
            actor = self._registry.running(STORE)
            if actor is not None:
                actor.last_active_s = -math.inf
                self._registry.retire_quiet()
        return posted


class ServerProcess:
    """One life of a server, from start to crash."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._links: list[Link] = []
        self.disk = DiskOfProcess(world.disk, lambda: world.lose(self))
        self.counters = Counters()
        world.counters.append(self.counters)
        self.registry = Registry(self.disk, self.disk, self.counters, DORMANT_AFTER_S)
        self.peers = Peers(IDLE_LIMIT_S)
        self._surroundings = ServerContext(HookRunner(world.hooks, 5.0), self.counters, max_open_pulls=32)
        self._scope = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.registry.run)
                nursery.start_soon(self.peers.watch)
                if self._world.wanted > 1:
                    nursery.start_soon(self._compare_for_ever)
                self._nursery = nursery
                task_status.started()

    def accept(self, link: Link, *, v3: bool) -> None:
        """A client has connected."""
        self._links.append(link)
        channel = SimulatedChannel(link, self._world.trace.note)
        client = Client(HookContext(STORE, None, {}, "simulated"))
        make: type[StorePeer] = V3Peer if v3 else RpcPeer
        peer = make(channel, SweptHandle(self.registry, self._world.sweep_dice), client, self._surroundings)
        self._nursery.start_soon(self._serve, peer, link)

    async def _serve(self, peer: StorePeer, link: Link) -> None:
        try:
            await peer.prepare()
            await self.peers.run(peer)
        finally:
            link.cut()

    def hear(self) -> None:
        """A hint from another server, or from this one, is on its way; half of them are lost (decision 0004)."""
        if self._world.dice.random() < 0.5 and not self.disk.dead:
            with contextlib.suppress(RuntimeError):  # it is ending, and nobody is there who could hear
                self._nursery.start_soon(self._compare)

    async def _compare_for_ever(self) -> None:
        while True:
            await trio.sleep(NEWS_CHECK_S)
            await self._compare()

    async def _compare(self) -> None:
        """Read what the database holds and tell the actor, which may know better by then."""
        dice = self._world.dice
        await trio.sleep(dice.uniform(0, 0.2))
        state = self._world.disk.state
        await trio.sleep(dice.uniform(0, 0.1))
        if state is not None and dice.random() >= self._world.disk.faults.read_fails:
            self.registry.tell(STORE, state)

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
    """The disk, the network, the servers of the moment, and the dice."""

    def __init__(self, dice: random.Random, *, servers: int, read_max_events: int, hooks: bool) -> None:
        self.dice = dice
        self.sweep_dice = random.Random(0)  # its own: the others fall as before
        self.trace = Trace()
        self.disk = Disk(dice, self.trace.note, read_max_events)
        self.hooks = Hooks(on_push=self._judge, on_pull=self._ponder, on_pull_res=self._ponder) if hooks else Hooks()
        self.hooks_refuse = 0.0
        self.wanted = servers
        self.programs = 0
        """Programs that append beside the LiveStore clients."""
        self.servers: list[ServerProcess] = []
        self.links: list[Link] = []
        self.counters: list[Counters] = []
        if servers > 1:
            self.disk.on_change = self._hint

    def _hint(self) -> None:
        for server in self.servers:
            server.hear()

    @contextlib.asynccontextmanager
    async def connect(self, *, v3: bool = False) -> AsyncIterator[Line | None]:
        """Open a connection to any of the servers; None while none runs."""
        yield self.link(self.dice, v3=v3)

    def link(self, dice: random.Random, *, v3: bool = False) -> Link | None:
        """A new connection to any of the servers, with delays by these dice."""
        if not self.servers:
            return None
        link = Link(dice, self.trace.hear)
        self.links = [other for other in self.links if not other.gone]
        self.links.append(link)
        dice.choice(self.servers).accept(link, v3=v3)
        return link

    def logs_heard_of(self) -> int:
        """How many logs of the store there were when every server last compared: one of several may serve the log
        before a reset for so long."""
        if self.wanted == 1:
            return len(self.disk.histories)
        long_ago_s = trio.current_time() - 2 * NEWS_CHECK_S
        return 1 + sum(history.replaced_s < long_ago_s for history in self.disk.histories)

    # --- servers ------------------------------------------------------------------------------------------------------

    async def start_servers(self, nursery: trio.Nursery) -> None:
        """Bring as many servers to life as this world has."""
        while len(self.servers) < self.wanted:
            server = ServerProcess(self)
            await nursery.start(server.run)
            self.servers.append(server)
            self.trace.note("server started")

    def crash_server(self) -> None:
        if self.servers:
            self.servers.pop(self.dice.randrange(len(self.servers))).crash()
            self.trace.note("server crashed")

    def cut_power(self) -> None:
        """All servers are gone at one moment."""
        while self.servers:
            self.crash_server()

    def lose(self, server: ServerProcess) -> None:
        """A server dies in the middle of a commit."""
        server.crash()
        if server in self.servers:
            self.servers.remove(server)
            self.trace.note("server died in a commit")

    async def stop_server(self) -> None:
        if self.servers:
            server = self.servers.pop(self.dice.randrange(len(self.servers)))
            await server.stop()
            self.trace.note("server stopped")

    async def reset_store(self) -> None:
        """What an operator does; whether it was done, the disk knows."""
        if self.servers:
            with trio.move_on_after(5):
                await self.dice.choice(self.servers).registry.handle(STORE).reset()

    # --- hooks --------------------------------------------------------------------------------------------------------

    async def _ponder(self, *_: object) -> None:
        await trio.sleep(self.dice.choice([0.0, 0.0, 0.001, 0.3]))

    async def _judge(self, *_: object) -> None:
        await self._ponder()
        if self.dice.random() < self.hooks_refuse:
            raise ValueError("simulated: not now")
