"""Deliveries on a stage: real actors, real couriers, memory storage and memory streams, Trio's own clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from livesync_trio.config.webhooks import Webhook
from livesync_trio.delivery.records import Cursor, Place, cursors_of
from livesync_trio.delivery.service import Deliveries
from livesync_trio.model import Batch, StoreId
from livesync_trio.storage import base
from livesync_trio.store.commands import Accepted
from livesync_trio.store.records import Records
from tests.concurrency.stage import Stage
from tests.delivery.receiver import Receiver
from tests.storage.making import run_of

T = TypeVar("T")
EPOCH_S = 1_800_000_000.0


def calendar() -> float:
    """The calendar's time goes as Trio's does."""
    return EPOCH_S + trio.current_time()


class StageAsked:
    """Puts questions in the Trio thread."""

    def __init__(self, engine: base.Engine) -> None:
        self._handle = engine.reader()
        self.fail: Exception | None = None

    async def ask(self, question: Callable[[base.Reader], T]) -> T:
        await trio.lowlevel.checkpoint()
        if self.fail is not None:
            raise self.fail
        return question(self._handle)


class DeliveryStage(Stage):
    """A stage whose events are delivered to a receiver."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(dormant_after_s=1e7)  # a sweep every few seconds takes long over virtual days
        self.receiver = Receiver(nursery)
        self.asked = StageAsked(self.engine)
        self.records = Records(self.writer, self.asked)

    def deliveries(self, *webhooks: Webhook, shared: bool = False) -> Deliveries:
        """What one server does, with webhooks of its configuration."""
        made = Deliveries(
            webhooks,
            self.records,
            self.asked,
            self.counters,
            self.receiver,
            shared=shared,
            wall_clock=calendar,
        )
        self.registry.on_change(made.changed)
        return made

    async def push(self, store: str, events: int = 1, args: bytes = b"null", name: bytes = b"todoAdded") -> int:
        """Push events that continue a store's head; gives the new head."""
        handle = self.registry.handle(StoreId(store))
        state = await handle.inspect()
        head: int = state.head  # type: ignore[union-attr]
        batch = run_of(events, after=head, args=args)
        if name != b"todoAdded":
            renamed = tuple(
                type(each)(each.seq_num, each.parent_seq_num, each.json.replace(b"todoAdded", name))
                for each in batch.events
            )
            batch = Batch(renamed)
        assert isinstance(await handle.push(batch, None, b"1", None), Accepted)
        return head + events

    async def reset(self, store: str) -> None:
        await self.registry.handle(StoreId(store)).reset()

    async def delete(self, store: str) -> None:
        await self.registry.handle(StoreId(store)).delete()

    def place(self, store: str, webhook_id: str = "hook") -> Place:
        """How far a store was delivered, as the database has it."""
        return Cursor.of(self.engine.reader().record(cursors_of(webhook_id), store)).place


@asynccontextmanager
async def staged() -> AsyncIterator[DeliveryStage]:
    """A stage on which stores can be used; everything ends with the block."""
    async with trio.open_nursery() as nursery:
        stage = DeliveryStage(nursery)
        await nursery.start(stage.registry.run)
        yield stage
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so; on the mock clock a deadlock is an error after virtual days."""
    step_s = 0.01
    with trio.fail_after(60 * 24 * 3600):
        while not condition():
            await trio.sleep(step_s)
            step_s = min(step_s * 1.2, 300.0)
