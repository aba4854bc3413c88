"""Delivers the events of all stores to one webhook: in order for each store, at least once, some stores at a time.

Owns the steps of a delivery: look, send, move the cursor. The cursor moves after the receiver has answered with success
and never before; what fails is tried again after growing pauses, for days, and is then parked. Nobody waits for it: it
reads what is durable, whenever it is told that a store has changed (decision 0011).
"""

import datetime
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import attrs
import msgspec
import trio

from livesync_trio.config.webhooks import Webhook
from livesync_trio.delivery import messages
from livesync_trio.delivery.limits import (
    WEBHOOK_ATTEMPTS,
    WEBHOOK_BODY_BYTES,
    WEBHOOK_RETRY_FIRST_S,
    WEBHOOK_RETRY_MAX_S,
    WEBHOOK_STORES_MAX,
    WEBHOOK_WORKERS,
)
from livesync_trio.delivery.messages import Answer, Failed, Gone, Message, Taken
from livesync_trio.delivery.pending import Deleted, Events, Found, Nothing, Replaced, compare, look
from livesync_trio.delivery.queue import DeliveryQueue
from livesync_trio.delivery.records import Cursor, Place, as_value, cursors_of
from livesync_trio.errors import StorageUnavailable, StoreDamaged
from livesync_trio.limits import STORAGE_BACKOFF_MAX_S
from livesync_trio.model import RESERVED_STORES, StoreId
from livesync_trio.openapi import wire_time
from livesync_trio.store.records import Asked, Moved, Records
from livesync_trio.supervision import open_tasks
from livesync_trio.telemetry import WebhookCounts, get_logger

_log = get_logger("webhooks")

_JITTER = 0.25

Sent = Replaced | Deleted | Events
"""What a message is sent about."""


class Sends(Protocol):
    """Tries once to hand over a message (`sender.Sender`)."""

    async def send(self, message: Message) -> Answer:
        """Try once; never raises for what a receiver does."""


@attrs.frozen
class Means:
    """What all couriers of a server work with.

    Attributes:
        records: where cursors are kept.
        readers: read logs and cursors.
        wall_clock: the calendar's time, in seconds of the Unix epoch: for what outlives the process.
        dice: for the jitter of pauses.
    """

    records: Records
    readers: Asked
    wall_clock: Callable[[], float]
    dice: random.Random


class Courier:
    """One webhook's deliveries. Used in the Trio thread only."""

    def __init__(
        self,
        webhook: Webhook,
        means: Means,
        sender: Sends,
        counts: WebhookCounts,
        on_gone: Callable[[], Awaitable[None]],
    ) -> None:
        """Nothing is started before `run`. `on_gone`: the receiver wants nothing any more."""
        self.webhook = webhook
        self._means = means
        self._sender = sender
        self._counts = counts
        self._on_gone = on_gone
        self._kind = cursors_of(webhook.id)
        self._large = trio.Lock()  # held for a message that is larger than usual
        self.queue = DeliveryQueue(WEBHOOK_STORES_MAX)
        counts.behind = lambda: len(self.queue)
        counts.lag_s = lambda: self.queue.lag_s

    def changed(self, store_id: StoreId) -> None:
        """A store may have something new."""
        if self.webhook.wants_store(store_id) and not store_id.startswith(RESERVED_STORES):
            self.queue.put(store_id)

    def compare_soon(self) -> None:
        """Anything may have changed: compare all stores with their cursors."""
        self.queue.missed.set()

    def finish(self) -> None:
        """Take no more stores; `run` returns when what is under way has ended."""
        self.queue.close()

    async def run(self) -> None:
        """Deliver until `finish` or cancelled. Raises what a fault of ours raised."""
        async with open_tasks(f"webhook {self.webhook.id}") as tasks:
            async with open_tasks(f"webhook {self.webhook.id}: deliveries") as working:
                tasks.start(self._compare_whenever_missed)
                for _ in range(WEBHOOK_WORKERS):
                    working.start(self._work)
            if working.crash is not None:
                raise working.crash
            tasks.cancel()
        if tasks.crash is not None:
            raise tasks.crash

    # --- finding what is behind ------------------------------------------------------------------------------------

    async def _compare_whenever_missed(self) -> None:
        self.queue.missed.set()  # at first, nobody knows what happened before
        while True:
            await self.queue.missed.wait()
            if len(self.queue) <= WEBHOOK_STORES_MAX // 2:  # otherwise it would find again what is there
                self.queue.missed = trio.Event()
                try:
                    await self._compare()
                except (StorageUnavailable, StoreDamaged) as error:
                    _log.warning("webhook cannot look for what is behind", webhook=self.webhook.id, reason=str(error))
                    self.queue.missed.set()
            await trio.sleep(STORAGE_BACKOFF_MAX_S)

    async def _compare(self) -> None:
        """Put every store that is behind on the queue, and count those that are parked."""
        after: StoreId | None = None
        parked = 0
        while True:
            page = await self._means.readers.ask(partial(compare, webhook=self.webhook, after=after))
            for beside in page.stores:
                cursor = beside.cursor or Cursor(Place())
                if cursor.place.parked:
                    parked += 1
                elif not cursor.place.covers(beside.summary.state):
                    self.queue.put(beside.summary.store_id)
            for store_id, cursor in page.gone.items():
                parked += cursor.place.parked
                if not cursor.place.parked:
                    self.queue.put(store_id)
            after = page.after
            if after is None:
                self._counts.parked = parked
                return

    # --- delivering ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while (taken := await self.queue.take()) is not None:
            await self._step(*taken)

    async def _step(self, store_id: StoreId, waited: bool) -> None:
        """Deliver the next message of a store, if there is one."""
        try:
            found = await self._look(store_id)
            if isinstance(found, Events) and found.size_bytes > WEBHOOK_BODY_BYTES:
                del found  # everybody may have one of these now
                async with self._large:
                    await self._deliver(store_id, await self._look(store_id), waited)
            else:
                await self._deliver(store_id, found, waited)
        except StorageUnavailable:
            self.queue.later(store_id, STORAGE_BACKOFF_MAX_S)
        except Moved:
            self.queue.next_turn(store_id)  # a replay, or another server: look again
        except (StoreDamaged, msgspec.ValidationError) as error:
            _log.error("webhook cannot read a store", webhook=self.webhook.id, store=store_id, reason=str(error))
            self.queue.caught_up(store_id)

    async def _look(self, store_id: StoreId) -> Found:
        return await self._means.readers.ask(partial(look, webhook=self.webhook, store_id=store_id))

    async def _deliver(self, store_id: StoreId, found: Found, waited: bool) -> None:
        if isinstance(found, Nothing):
            self.queue.caught_up(store_id)
            return
        place = found.cursor.place
        left_s = place.next_at - self._means.wall_clock()
        if left_s > 0 and not waited:
            self.queue.later(store_id, left_s)
        elif isinstance(found, Replaced):
            message = messages.of_reset(
                self.webhook.id, store_id, found.state, place.backend_id or "", found.created_at
            )
            await self._send(store_id, found, message, place.of_log(found.state.backend_id))
        elif isinstance(found, Deleted):
            await self._tell_deletion(store_id, found)
        elif found.wanted:
            span = (place.seq_num, found.up_to)
            message = messages.of_events(self.webhook.id, store_id, found.state, span, found.wanted)
            await self._send(store_id, found, message, place.moved(found.up_to))
        else:
            await self._move(store_id, found, place.moved(found.up_to))

    async def _tell_deletion(self, store_id: StoreId, found: Deleted) -> None:
        """Note first when it was found, so that each attempt sends the same."""
        place = found.cursor.place
        if not place.gone_at:
            await self._put(store_id, found, msgspec.structs.replace(place, gone_at=self._means.wall_clock()))
            self.queue.next_turn(store_id)
            return
        at = wire_time(datetime.datetime.fromtimestamp(place.gone_at, datetime.UTC))
        message = messages.of_deletion(self.webhook.id, store_id, place.backend_id or "", at)
        await self._send(store_id, found, message, None)

    async def _send(self, store_id: StoreId, found: Sent, message: Message, then: Place | None) -> None:
        answer = await self._sender.send(message)
        match answer:
            case Taken():
                self._counts.delivered += 1
                self._counts.events += message.events
                await self._move(store_id, found, then)
                if found.cursor.place.attempts:
                    _log.info("webhook delivers again", webhook=self.webhook.id, store=store_id)
            case Failed():
                self._counts.failed += 1
                await self._note_failure(store_id, found, answer)
            case Gone():
                self._counts.failed += 1
                self.finish()
                await self._on_gone()
                self.queue.caught_up(store_id)

    async def _move(self, store_id: StoreId, found: Sent, then: Place | None) -> None:
        """Everything up to a place has been delivered; None: nothing more is to be known of the store."""
        await self._put(store_id, found, then)
        if then is None or isinstance(found, Deleted) or then.covers(found.state):
            self.queue.caught_up(store_id)
        else:
            self.queue.next_turn(store_id)

    async def _note_failure(self, store_id: StoreId, found: Sent, failed: Failed) -> None:
        """Note when it is tried again, or that it is not."""
        place = found.cursor.place
        if failed.too_large and isinstance(found, Events) and len(found.wanted) > 1:
            half = found.wanted[len(found.wanted) // 2 - 1].seq_num
            await self._put(store_id, found, msgspec.structs.replace(place, up_to=half))
            self.queue.next_turn(store_id)
            return
        attempts = place.attempts + 1
        pause_s = max(self._pause_s(attempts), failed.retry_after_s or 0.0)
        noted = msgspec.structs.replace(
            place,
            attempts=attempts,
            up_to=found.up_to if isinstance(found, Events) else 0,
            next_at=self._means.wall_clock() + pause_s,
            parked=attempts >= WEBHOOK_ATTEMPTS,
            reason=failed.reason,
        )
        await self._put(store_id, found, noted)
        about = {"webhook": self.webhook.id, "store": store_id, "attempts": attempts, "reason": failed.reason}
        if noted.parked:
            self._counts.parked += 1
            self.queue.caught_up(store_id)
            _log.error("webhook gives a store up", **about)
            return
        self.queue.later(store_id, pause_s)
        if attempts == 1:
            _log.warning("webhook is not delivered", **about)

    async def _put(self, store_id: StoreId, found: Sent, place: Place | None) -> None:
        """Raises Moved, StorageUnavailable."""
        value = None if place is None else as_value(place)
        await self._means.records.put(self._kind, store_id, value, found.cursor.version)

    def _pause_s(self, attempts: int) -> float:
        pause_s: float = min(WEBHOOK_RETRY_FIRST_S * 2.0 ** (attempts - 1), WEBHOOK_RETRY_MAX_S)
        return pause_s * (1 - _JITTER * self._means.dice.random())
