"""Takes the steps of a script against a live server and compares what it says.

Every frame of the client is sent at its recorded causal point: once the server has said everything that the
recording had before it (equivalence.covered). Waiting is bounded, never timed. Before a connection is left, a pull
of its own that must be answered (the barrier) flushes out whatever the server might still have wanted to say on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from .checks import Failed, check_cors, check_reason, described
from .equivalence import covered, differences
from .ledger import Ledger, Malformed, shorten
from .peers import Refused, Target, WebSocketPeer, http_exchange, is_answer_to
from .probes import answers_barrier, barrier, ends_barrier, push
from .recording import store_in_url
from .script import Drop, Exchange, Expect, ExpectClose, Leave, Note, Open, PushAside, Send, Step, recorded_identities


@dataclass
class Connection:
    """One connection of the recording; after a close of the server ``peer`` is a new one."""

    opening: Open
    expected: Ledger
    actual: Ledger
    peer: WebSocketPeer | None = None
    barrier_passed: bool = False
    faults: list[str] = field(default_factory=list)


class Replay:
    """One run of one script. The recorded identities are learnt from ``recorded``, the script before any change."""

    def __init__(self, name: str, recorded: list[Step], script: list[Step], target: Target, deadline_s: float) -> None:
        self.is_next = name.startswith("next")
        self.script = script
        self.target = target
        self.deadline_s = deadline_s
        self.recorded_identities = recorded_identities(recorded)
        self.identities: dict[str, str] = {}
        self.connections: dict[int, Connection] = {}
        self.wake = trio.Event()

    async def run(self) -> None:
        """Take every step; raises :class:`Failed` with all that differs."""
        failure: Failed | None = None
        async with trio.open_nursery() as self.nursery:
            try:
                await self._take_all()
            except Failed as failed:
                failure = failed
            self.nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        faults = [
            f"connection {n}: {fault}"
            for n, c in self.connections.items()
            for fault in (*c.faults, *differences(c.expected, c.actual))
        ]
        if faults:
            raise Failed("\n".join(faults))

    async def _take_all(self) -> None:
        for number, step in enumerate(self.script):
            await self._take_in_time(number, step)
        for conn in self.connections:
            await self._take_in_time(len(self.script), Leave(conn, 1000))

    async def _take_in_time(self, number: int, step: Step) -> None:
        try:
            with trio.fail_after(3 * self.deadline_s):
                await self._take(step)
        except trio.TooSlowError:
            raise Failed(f"step {number}, {described(step)}: did not end") from None
        except (Failed, Refused, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as failure:
            raise Failed(f"step {number}, {described(step)}: {type(failure).__name__}: {failure}") from None

    async def _take(self, step: Step) -> None:
        match step:
            case Open():
                await self._settle()
                await self._open(step)
            case Send():
                await self._settle()
                peer = await self._peer(self.connections[step.conn])
                await peer.send(self._live(step.data))
            case Expect():
                self.connections[step.conn].expected.enter(step.frame)
            case ExpectClose():
                await self._closed(self.connections[step.conn], step.codes)
            case Leave():
                await self._settle()
                if step.conn in self.connections:  # not one that was refused where the recording shows it accepted
                    await self._leave(self.connections[step.conn], step.code)
            case Drop():
                await self._settle()
                dropped = self.connections[step.conn]
                if dropped.peer is not None:
                    await dropped.peer.drop()
                    dropped.peer = None
            case Exchange():
                await self._settle()
                await self._exchange(step)
            case PushAside():
                await self._settle()
                await self._push_aside(step)
            case Note():
                pass

    # ---- connections

    async def _open(self, step: Open) -> None:
        store = store_in_url(step.path)
        ledgers = (Ledger(lambda _: "the store"), Ledger(lambda identity: self._identify(store, identity)))
        connection = Connection(step, *ledgers)
        try:
            connection.peer = await WebSocketPeer.open(self.target, step.path, step.headers)
        except Refused as refused:
            if refused.status not in step.statuses:
                raise Failed(f"{refused.status} instead of {sorted(step.statuses)}: {shorten(refused.body)}") from None
            check_reason(refused.status, refused.body)
            return
        if 101 not in step.statuses:
            await connection.peer.drop()
            raise Failed(f"accepted instead of {sorted(step.statuses)}")
        self.connections[step.conn] = connection
        self._start(connection)

    def _start(self, connection: Connection) -> None:
        peer = connection.peer
        assert peer is not None
        self.nursery.start_soon(peer.run, lambda text: self._heard(connection, text), self._wake_up)

    def _heard(self, connection: Connection, text: str) -> None:
        if answers_barrier(text):
            connection.barrier_passed |= ends_barrier(text)
        else:
            try:
                connection.actual.add(text, strict=True)
            except Malformed as malformed:
                connection.faults.append(str(malformed))
        self._wake_up()

    async def _peer(self, connection: Connection) -> WebSocketPeer:
        """The open connection; a client that was closed by the server comes back as itself."""
        if connection.peer is None:
            connection.peer = await WebSocketPeer.open(self.target, connection.opening.path, connection.opening.headers)
            self._start(connection)
        return connection.peer

    async def _closed(self, connection: Connection, codes: frozenset[int]) -> None:
        peer = connection.peer
        assert peer is not None
        if not await self._wait(lambda: peer.ended):
            raise Failed(f"not closed with {sorted(codes)}; it said {connection.actual.log[-3:]}")
        if peer.close_code not in codes:
            raise Failed(f"closed with {peer.close_code} instead of {sorted(codes)}")
        await peer.drop()
        connection.peer = None

    async def _leave(self, connection: Connection, code: int) -> None:
        """Flush with a barrier, close, and see the Close answered."""
        peer = connection.peer
        if peer is None:
            return
        await self._barrier(connection, peer)
        await peer.close(code)
        if not await self._wait(lambda: peer.ended):
            raise Failed("our Close frame was not answered")
        if not is_answer_to(code, peer.close_code):
            raise Failed(f"our Close {code} was answered with {peer.close_code}")
        await peer.drop()
        connection.peer = None

    async def _barrier(self, connection: Connection, peer: WebSocketPeer) -> None:
        connection.barrier_passed = False
        await peer.send(barrier(connection.opening.path, is_next=self.is_next))
        if not await self._wait(lambda: connection.barrier_passed or peer.ended) or peer.ended:
            raise Failed(
                f"a last pull was not answered (closed: {peer.close_code}); it said {connection.actual.log[-3:]}"
            )

    # ---- HTTP

    async def _exchange(self, step: Exchange) -> None:
        body = self._live(step.body)
        assert isinstance(body, str)
        answer = await http_exchange(self.target, step.method, step.path, step.headers, body)
        if answer.status not in step.statuses:
            raise Failed(f"{answer.status} instead of {sorted(step.statuses)}: {shorten(answer.body)}")
        check_cors(step, answer.headers)
        if step.frames is None:
            if answer.status != 204 and step.method != "HEAD":
                check_reason(answer.status, answer.body)
            return
        if not answer.headers.get("content-type", "").startswith("application/json"):
            raise Failed(f"content type {answer.headers.get('content-type')}")
        store = store_in_url(step.path)
        expected, actual = Ledger(lambda _: "the store"), Ledger(lambda identity: self._identify(store, identity))
        for frame in step.frames:
            expected.enter(frame)
        try:
            actual.add_array(answer.body)
        except Malformed as malformed:
            raise Failed(str(malformed)) from None
        faults = list(differences(expected, actual))
        if faults:
            raise Failed("\n".join(faults) + f"\nin {shorten(answer.body)}")

    async def _push_aside(self, step: PushAside) -> None:
        """Push over the protocol of the path, on a connection of its own, and wait until it is accepted."""
        message, request = push(step)
        aside = Connection(Open(0, step.path, (), frozenset({101})), Ledger(str), Ledger(str))
        aside.peer = await WebSocketPeer.open(self.target, step.path, ())
        self._start(aside)
        await aside.peer.send(message)
        if not await self._wait(lambda: bool(aside.actual.to(request).outcomes)):
            raise Failed(f"the push was not answered: {aside.actual.log}")
        if aside.actual.to(request).outcomes[0].kind not in ("PushAck", "Success"):
            raise Failed(f"the push was refused: {aside.actual.log}")
        await aside.peer.drop()

    # ---- waiting and naming

    async def _settle(self) -> None:
        """Wait until the server has said everything that is expected by now, on every connection."""

        def hopeless() -> bool:
            return any(c.faults or (c.peer is not None and c.peer.ended) for c in self.connections.values())

        def settled() -> bool:
            return all(covered(c.expected, c.actual) for c in self.connections.values())

        if not await self._wait(lambda: settled() or hopeless()) or hopeless():
            raise Failed(self._report())

    def _report(self) -> str:
        lines = ["the server has not said what the recording has here:"]
        for number, connection in self.connections.items():
            faults = [*connection.faults, *differences(connection.expected, connection.actual)]
            peer = connection.peer
            if peer is not None and peer.ended:
                faults.append(f"closed by the server with {peer.close_code}")
            if faults:
                faults += [f"heard last: {text}" for text in connection.actual.log[-2:]]
            lines += [f"connection {number}: {fault}" for fault in faults]
        return "\n".join(lines)

    async def _wait(self, condition: Callable[[], bool]) -> bool:
        """Until ``condition`` holds; False when the deadline passes first."""
        with trio.move_on_after(self.deadline_s):
            while not condition():
                await self.wake.wait()
            return True
        return False

    def _wake_up(self) -> None:
        self.wake.set()
        self.wake = trio.Event()

    def _live(self, data: str | bytes) -> str | bytes:
        """What the client sent, with the recorded server identities replaced by the live ones it would have seen."""
        if isinstance(data, bytes):
            return data
        for recorded, store in self.recorded_identities.items():
            if recorded in data:
                if store not in self.identities:
                    raise Failed(f"the server has not yet told the identity of store {store}")
                data = data.replace(recorded, self.identities[store])
        return data

    def _identify(self, store: str, identity: str) -> str:
        """Bind the identity of a store on first sight; it must never change, and no two stores share one."""
        if not isinstance(identity, str) or not identity:
            raise Malformed(f"a server identity is a non-empty string: {identity!r}")
        bound = self.identities.setdefault(store, identity)
        if bound != identity or any(other == identity for name, other in self.identities.items() if name != store):
            raise Malformed(f"identity {identity} of store {store}: {self.identities}")
        return "the store"
