"""The webhooks of a server: which there are, which server delivers them, and what an operator does with them.

Owns the table of running couriers. Definitions come from the configuration and from records, where the control plane
writes them; what changes there, on whatever server, is put into effect within seconds by the server that delivers.
"""

import math
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

import attrs
import httpcore
import msgspec
import trio

from livesync_trio.config.webhooks import Webhook
from livesync_trio.delivery import messages
from livesync_trio.delivery.courier import Courier, Means
from livesync_trio.delivery.lease import Lease
from livesync_trio.delivery.limits import (
    WEBHOOK_COMPARE_S,
    WEBHOOK_DRAIN_LIMIT_S,
    WEBHOOK_LOOK_S,
    WEBHOOK_STARTING_AT_A_TIME,
)
from livesync_trio.delivery.messages import Answer, Wrong
from livesync_trio.delivery.pending import compare
from livesync_trio.delivery.records import (
    DEFINITIONS,
    STANDINGS,
    Cursor,
    Mode,
    Place,
    Standing,
    as_value,
    cursors_of,
    read_definition,
    standing_of,
    written,
)
from livesync_trio.delivery.sender import Sender
from livesync_trio.errors import StorageUnavailable, StoreDamaged
from livesync_trio.limits import STORAGE_BACKOFF_MAX_S, WEBHOOKS_MAX
from livesync_trio.model import StoreId
from livesync_trio.storage.base import NO_RECORD
from livesync_trio.storage.chain import server_time
from livesync_trio.store.records import Asked, Moved, Records
from livesync_trio.supervision import open_tasks
from livesync_trio.telemetry import Counters, WebhookCounts, get_logger

_log = get_logger("webhooks")

Source = Literal["configuration", "control plane"]


@attrs.frozen
class Known:
    """A webhook there is. `version` changes with its definition and with its standing."""

    webhook: Webhook
    source: Source
    standing: Standing | None
    version: tuple[int, int]


@attrs.define(eq=False)
class _Running:
    """A webhook that this server delivers now, by a network. `ended` is set when nothing runs for it any more."""

    known: Known
    network: httpcore.AsyncNetworkBackend
    courier: Courier | None = None
    finishing: bool = False
    ended: trio.Event = attrs.field(factory=trio.Event)

    def finish(self) -> None:
        self.finishing = True
        if self.courier is not None:
            self.courier.finish()


class Deliveries:
    """Everything about webhooks in one server. Used in the Trio thread only."""

    def __init__(
        self,
        configured: Sequence[Webhook],
        records: Records,
        readers: Asked,
        counters: Counters,
        network: httpcore.AsyncNetworkBackend,
        *,
        shared: bool,
        tls: ssl.SSLContext | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is started before `run`.

        Args:
            configured: those of the configuration.
            records: where the others are, and how far each was delivered.
            readers: read logs and cursors, for deliveries alone.
            counters: where it is counted.
            network: opens connections to receivers.
            shared: whether other servers may use the same database.
            tls: how receivers prove who they are; None for the system's authorities.
            wall_clock: the calendar's time, in seconds of the Unix epoch.
        """
        self._configured = {webhook.id: webhook for webhook in configured}
        self._records = records
        self._readers = readers
        self._counters = counters
        self._network = network
        self._tls = tls or ssl.create_default_context()
        self._shared = shared
        self._lease = Lease(records, "webhooks") if shared else None
        self._means = Means(records, readers, wall_clock, random.Random())  # noqa: S311 - for pauses
        self._running: dict[str, _Running] = {}
        self._look = trio.Event()  # set when definitions should be looked at
        self._draining = False
        self._drained = trio.Event()
        self.delivering = False
        """Whether this server is the one that delivers."""

    # --- from the server -------------------------------------------------------------------------------------------

    def changed(self, store_id: StoreId | None) -> None:
        """The log of a store has changed; None: any may have."""
        for running in self._running.values():
            if running.courier is None:
                continue
            if store_id is None:
                running.courier.compare_soon()
            else:
                running.courier.changed(store_id)

    def reconfigure(self, configured: Sequence[Webhook], network: httpcore.AsyncNetworkBackend | None) -> None:
        """Deliver those of another configuration; `network`: by another one."""
        self._configured = {webhook.id: webhook for webhook in configured}
        self._network = network or self._network
        self._look.set()

    async def run(self) -> None:
        """Deliver, whenever this server is the one that does, until drained or cancelled."""
        try:
            await (self._deliver() if self._lease is None else self._lease.run(self._deliver))
        finally:
            self._drained.set()

    async def drain(self) -> None:
        """Begin no more messages, and finish those under way, within a limit: what is cut is sent again."""
        self._draining = True
        self._look.set()
        if self.delivering:
            with trio.move_on_after(WEBHOOK_DRAIN_LIMIT_S):
                await self._drained.wait()

    # --- which there are -------------------------------------------------------------------------------------------

    async def known(self) -> list[Known]:
        """All webhooks there are, by id. Raises StorageUnavailable."""
        standings = {record.key: record async for record in self._records.all_of(STANDINGS)}

        def about(webhook: Webhook, source: Source, version: int) -> Known:
            record = standings.get(webhook.id)
            versions = (version, NO_RECORD if record is None else record.version)
            return Known(webhook, source, standing_of(record), versions)

        found = {each: about(webhook, "configuration", NO_RECORD) for each, webhook in self._configured.items()}
        async for record in self._records.all_of(DEFINITIONS):
            if record.key not in found:
                try:
                    found[record.key] = about(read_definition(record.value), "control plane", record.version)
                except (ValueError, msgspec.ValidationError) as error:
                    _log.error("webhook cannot be read", webhook=record.key, reason=str(error))
        return [found[each] for each in sorted(found)]

    def counts(self, webhook_id: str) -> WebhookCounts:
        """What this server has counted for a webhook."""
        return self._counters.webhooks.setdefault(webhook_id, WebhookCounts())

    # --- delivering ------------------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        """Have a courier for each webhook that is to be delivered, until drained."""
        self.delivering = True
        _log.info("webhooks are delivered by this server")
        try:
            async with open_tasks("webhooks") as tasks:
                while not self._draining:
                    self._look = trio.Event()
                    look_again_s = WEBHOOK_LOOK_S if self._shared else math.inf
                    try:
                        known = await self.known()
                    except StorageUnavailable:
                        look_again_s = STORAGE_BACKOFF_MAX_S  # what runs goes on; it meets the same
                    else:
                        for running in self._put_into_effect(known):
                            tasks.start(self._carry, running)
                    with trio.move_on_after(look_again_s):
                        await self._look.wait()
                for running in self._running.values():
                    running.finish()
            if tasks.crash is not None:
                raise tasks.crash
        finally:
            self.delivering = False
            self._running.clear()
            for counts in self._counters.webhooks.values():
                counts.rest()

    def _put_into_effect(self, known: Sequence[Known]) -> list[_Running]:
        """End what has changed or is gone, and give what is to be begun; an id is begun when its former run ended."""
        wanted = {each.webhook.id: each for each in known if _to_be_delivered(each)}
        for each, running in tuple(self._running.items()):
            if running.ended.is_set():
                del self._running[each]
            elif wanted.get(each) != running.known or running.network is not self._network:
                running.finish()
        begun = [_Running(wanted[each], self._network) for each in wanted if each not in self._running]
        self._running |= {running.known.webhook.id: running for running in begun}
        return begun

    async def _carry(self, running: _Running) -> None:
        """Deliver one webhook until it is finished; a fault of ours in it spares the others."""
        webhook = running.known.webhook
        counts = self.counts(webhook.id)
        try:
            while not running.finishing:
                reason = ""
                async with open_tasks(f"webhook {webhook.id}") as tasks:
                    try:
                        await self._delivered(running, counts)
                        return
                    except (StorageUnavailable, StoreDamaged) as error:
                        reason = str(error)
                _log.error("webhook begins again", webhook=webhook.id, reason=reason or repr(tasks.crash))
                await trio.sleep(STORAGE_BACKOFF_MAX_S)
        finally:
            counts.rest()
            running.ended.set()
            self._look.set()

    async def _delivered(self, running: _Running, counts: WebhookCounts) -> None:
        webhook, standing = running.known.webhook, running.known.standing
        if standing is None or standing.mode is Mode.STARTING:
            await self._begin(webhook, fresh=standing is None)
            self._look.set()
            return  # its standing has changed, so it begins again
        sender = Sender(webhook, running.network, self._tls, self._means.wall_clock)
        courier = Courier(webhook, self._means, sender, counts, partial(self._gone, webhook.id))
        running.courier = courier
        if running.finishing:
            courier.finish()
        try:
            async with open_tasks(f"webhook {webhook.id}: all") as tasks:
                if self._shared:
                    tasks.start(_compare_at_intervals, courier)
                await courier.run()
                tasks.cancel()
            if tasks.crash is not None:
                raise tasks.crash
        finally:
            running.courier = None
            await sender.close()

    async def _begin(self, webhook: Webhook, *, fresh: bool) -> None:
        """Note where a new webhook begins: at the heads that there are now, or at the beginning of all logs.

        Until that is done nothing is delivered, so that a store without a cursor is one that came later.
        """
        if fresh:
            await self._forget_cursors(webhook.id)  # of one that had the same id
            mode = Mode.STARTING if webhook.start == "now" else Mode.DELIVERING
            await self._records.put(STANDINGS, webhook.id, as_value(Standing(mode)))
            if mode is Mode.DELIVERING:
                return
        after: StoreId | None = None
        while True:
            page = await self._readers.ask(partial(compare, webhook=webhook, after=after))
            places = {
                beside.summary.store_id: Place.at_head(beside.summary.state)
                for beside in page.stores
                if beside.cursor is None and beside.summary.state.event_count
            }
            await self._put_all(cursors_of(webhook.id), places)
            after = page.after
            if after is None:
                break
        await self._set_mode(webhook.id, Mode.DELIVERING)

    async def _put_all(self, kind: str, places: Mapping[StoreId, Place]) -> None:
        """Write new cursors, some at a time."""
        left = list(places.items())
        while left:
            some, left = left[:WEBHOOK_STARTING_AT_A_TIME], left[WEBHOOK_STARTING_AT_A_TIME:]
            async with open_tasks("cursors") as tasks:
                for store_id, place in some:
                    tasks.start(self._put_new, kind, store_id, place)
            if tasks.crash is not None:
                raise tasks.crash

    async def _put_new(self, kind: str, store_id: StoreId, place: Place) -> None:
        with suppress(Moved):  # an attempt before this one has written it
            await self._records.put(kind, store_id, as_value(place))

    async def _forget_cursors(self, webhook_id: str) -> None:
        kind = cursors_of(webhook_id)
        async for record in self._records.all_of(kind):
            with suppress(Moved):
                await self._records.put(kind, record.key, None, record.version)

    async def _gone(self, webhook_id: str) -> None:
        """Its receiver wants nothing any more."""
        _log.error("webhook is switched off: its receiver answered 410", webhook=webhook_id)
        await self._set_mode(webhook_id, Mode.GONE)
        self._look.set()

    async def _set_mode(self, webhook_id: str, mode: Mode) -> None:
        """Write how a webhook is; also when it is so already, so that whoever delivers it begins anew."""
        while True:
            found = await self._records.get(STANDINGS, webhook_id)
            version = NO_RECORD if found is None else found.version
            try:
                await self._records.put(STANDINGS, webhook_id, as_value(Standing(mode)), version)
            except Moved:
                continue
            return

    # --- for operators ---------------------------------------------------------------------------------------------

    async def find(self, webhook_id: str) -> Known:
        """A webhook. Raises Wrong when there is none, StorageUnavailable."""
        for known in await self.known():
            if known.webhook.id == webhook_id:
                return known
        raise Wrong(f"There is no webhook {webhook_id[:64]!r}.")

    async def define(self, webhook: Webhook) -> None:
        """Make a webhook, or change one that was made at run time. Raises Wrong, StorageUnavailable."""
        if webhook.id in self._configured:
            raise Wrong(f"The webhook {webhook.id} stands in the configuration: change it there.")
        known = await self.known()
        if len(known) >= WEBHOOKS_MAX and webhook.id not in {each.webhook.id for each in known}:
            raise Wrong(f"There are {WEBHOOKS_MAX} webhooks already: remove one first.")
        found = await self._records.get(DEFINITIONS, webhook.id)
        try:
            version = NO_RECORD if found is None else found.version
            await self._records.put(DEFINITIONS, webhook.id, written(webhook), version)
        except Moved:
            raise Wrong("Somebody else changes it at this moment. Nothing was changed: try again.") from None
        self._look.set()

    async def remove(self, webhook_id: str) -> None:
        """Remove a webhook that was made at run time, and all it knows. Raises Wrong, StorageUnavailable."""
        if webhook_id in self._configured:
            raise Wrong(f"The webhook {webhook_id} stands in the configuration: remove it there.")
        await self.find(webhook_id)
        for kind in (DEFINITIONS, STANDINGS):
            found = await self._records.get(kind, webhook_id)
            if found is not None:
                with suppress(Moved):
                    await self._records.put(kind, webhook_id, None, found.version)
        self._look.set()
        await self._forget_cursors(webhook_id)

    async def switch(self, webhook_id: str, *, on: bool) -> None:
        """Pause a webhook, or let it go on where it was. Raises Wrong, StorageUnavailable."""
        known = await self.find(webhook_id)
        if known.standing is None or known.standing.mode is Mode.STARTING:
            raise Wrong(f"The webhook {webhook_id} has not begun yet: try again in a moment.")
        await self._set_mode(webhook_id, Mode.DELIVERING if on else Mode.PAUSED)
        self._look.set()

    async def test(self, webhook_id: str) -> Answer:
        """Send a message that says nothing, once. Raises Wrong, StorageUnavailable."""
        webhook = (await self.find(webhook_id)).webhook
        sender = Sender(webhook, self._network, self._tls, self._means.wall_clock)
        try:
            return await sender.send(messages.of_test(webhook.id, server_time()))
        finally:
            await sender.close()

    async def replay(self, webhook_id: str, store_id: StoreId, after: int) -> None:
        """Deliver the events of a store behind a number again, also where it was parked. Raises as `switch`."""
        known = await self.find(webhook_id)
        if known.standing is None or known.standing.mode is Mode.STARTING:
            raise Wrong(f"The webhook {webhook_id} has not begun yet: try again in a moment.")
        state = await self._readers.ask(lambda reader: reader.state(store_id))
        if state is None or not known.webhook.wants_store(store_id):
            raise Wrong(f"The webhook {webhook_id} is told of no store {store_id[:80]!r}.")
        if after > state.head:
            raise Wrong(f"The store ends at {state.head}.")
        while True:
            found = await self._records.get(cursors_of(webhook_id), store_id)
            version = NO_RECORD if found is None else found.version
            try:
                place = Place(state.backend_id, after)
                await self._records.put(cursors_of(webhook_id), store_id, as_value(place), version)
                break
            except Moved:
                continue  # a delivery under way
        await self._set_mode(webhook_id, known.standing.mode)
        self._look.set()

    async def places(self, webhook_id: str, after: str | None, limit: int) -> list[tuple[str, Cursor]]:
        """How far stores were delivered, in the order of their names. Raises StorageUnavailable."""
        kind = cursors_of(webhook_id)
        found = await self._readers.ask(lambda reader: reader.records(kind, after, limit))
        return [(record.key, Cursor.of(record)) for record in found]

    async def parked(self, webhook_id: str) -> AsyncIterator[tuple[str, Place]]:
        """Stores that are not tried any more. Raises StorageUnavailable."""
        async for record in self._records.all_of(cursors_of(webhook_id)):
            place = Cursor.of(record).place
            if place.parked:
                yield record.key, place


def _to_be_delivered(known: Known) -> bool:
    return known.standing is None or known.standing.mode in (Mode.STARTING, Mode.DELIVERING)


async def _compare_at_intervals(courier: Courier) -> None:
    """A server may die between its commit and its notification."""
    while True:
        await trio.sleep(WEBHOOK_COMPARE_S)
        courier.compare_soon()
