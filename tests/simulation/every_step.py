"""Invariants of the whole world, looked at after every step of Trio's scheduler.

`Watch` is an instrument of Trio: no task runs between a step and the look at what it left behind, so that a state that
must not be is met even when the next step would mend it. The first violation ends the run.

* What an actor takes for the state of its log was durable before, and never goes back.
* A store has one actor: one that is no longer the store's has no command and no follower.
* While an actor has nothing to do, everybody who follows it stands exactly at its head.
* What a client has been sent is the beginning of the durable log, at that moment.
* A batch that a client learns to be acknowledged is in the durable log, whole, where it was pushed to.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from livesync_trio.connection.pulling import Pull
from livesync_trio.model import LogState
from livesync_trio.store.actor import StoreActor
from tests.simulation.disk import STORE, History
from tests.simulation.leader import Attempt, Leader, Violation
from tests.simulation.world import ServerProcess, World


class Watch(trio.abc.Instrument):
    """Looks at servers and clients, and remembers how far it has looked."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._received: dict[str, tuple[object, int]] = {}
        self._answered: dict[str, int] = {}
        self._former: dict[ServerProcess, list[StoreActor]] = {}
        self._stood_at: dict[StoreActor, LogState] = {}
        self.leaders: Sequence[Leader] = ()
        self.scope = trio.CancelScope()
        self.steps = 0
        self.violation: Violation | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Look; Trio itself would only log what is raised here."""
        self.steps += 1
        if self.violation is None:
            try:
                self._look()
            except Violation as violation:
                self.violation = Violation(f"after step {self.steps}, of {task.name}: {violation}")
                self.scope.cancel()

    def _look(self) -> None:
        for server in self._world.servers:
            actor = server.registry.running(STORE)
            for former in self._former.get(server, []):
                if former is not actor and (former._taken or former.queued or len(former.followers)):
                    raise Violation("two actors of one store are at work")
            if actor is not None:
                self._check_actor(actor)
                self._former[server] = [each for each in self._former.get(server, [])[-4:] if each is not actor] + [
                    actor
                ]
        for leader in self.leaders:
            self._check_received(leader)
            answered = self._answered.get(leader.name, 0)
            if len(leader.attempts) > answered:
                for attempt in leader.attempts[answered:]:
                    self._check_attempt(attempt)
                self._answered[leader.name] = len(leader.attempts)

    def _history(self, backend_id: str) -> History:
        for history in reversed(self._world.disk.histories):
            if history.backend_id == backend_id:
                return history
        raise Violation(f"the identity {backend_id} was told, and never became durable")

    def _check_actor(self, actor: StoreActor) -> None:
        state = actor._durable.state
        if state is None:
            return
        if state not in self._history(state.backend_id).states:
            raise Violation(f"an actor stands at {state}, which never became durable")
        before = self._stood_at.get(actor, state)
        if before.log_id == state.log_id and before.event_count > state.event_count:
            raise Violation(f"an actor went back from {before} to {state}")
        self._stood_at[actor] = state
        if actor._busy:
            return  # it may be on its way to another state
        for follower in actor.followers.members:
            assert isinstance(follower, Pull)
            cursor = follower._cursor
            if cursor is None or (cursor.seq_num, cursor.backend_id) != (state.head, state.backend_id):
                raise Violation(f"a follower stands at {cursor}, the actor at {state}")

    def _check_received(self, leader: Leader) -> None:
        log = leader.log
        before, seen = self._received.get(leader.name, (None, 0))
        if before is not log:
            seen = 0
        count = len(log.contents)
        if count > seen and log.backend_id is not None:
            if log.contents[seen:] != self._history(log.backend_id).contents[seen:count]:
                raise Violation(f"{leader.name} was sent something else than what is durable, at e{log.head}")
            self._received[leader.name] = (log, count)

    def _check_attempt(self, attempt: Attempt) -> None:
        if attempt.outcome == "unknown":
            return
        history = self._history(attempt.backend_id)
        if attempt.outcome == "ahead":
            if all(head != attempt.head for _, head in history.heads):
                raise Violation(f"a refusal quotes a head that never became durable: {attempt}")
            return
        contents = list(attempt.contents)
        at = history.contents.index(contents[0]) if contents[0] in history.contents else -1
        if at < 0 or history.contents[at : at + len(contents)] != contents:
            raise Violation(f"acknowledged, and not durable as one piece: {attempt}")
        if history.parents[at] != attempt.parent:
            raise Violation(f"acknowledged, and stored behind e{history.parents[at]}: {attempt}")
