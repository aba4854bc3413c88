"""The log of a store as its actor knows it: the durable state, whether that must be looked up again, and who follows.

Owned by an actor, which alone decides when anything here is done. What another server, or a commit whose outcome was
unclear, has left in the database is taken over here, and the followers get what they missed of it. What becomes of a
run of writes (`admit`) rests on it alone, and is decided before anything is written.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from livesync_trio.errors import LogReplaced, Refusal, StorageUnavailable, StoreDamaged
from livesync_trio.limits import EVENTS_PER_PUSH_MAX
from livesync_trio.model import ROOT_SEQ_NUM, Batch, LogState, Publication, StoreId
from livesync_trio.rules import admission
from livesync_trio.storage import base
from livesync_trio.storage.chain import server_time
from livesync_trio.store.commands import DAMAGED, UNAVAILABLE, Append, Write
from livesync_trio.store.followers import Followers
from livesync_trio.store.persistence import Readers, Writer
from livesync_trio.telemetry import Counters, get_logger

_log = get_logger("store")

MISSED_REQUEST_ID: Final = b'"elsewhere"'
"""Id under which 0.3 clients get broadcasts of pushes that another server took."""


class DecideAnew(Exception):
    """The log was not as it was taken to be: what is decided is decided again, from the state that is known now."""


class KnownLog:
    """What is known of a log.

    Attributes:
        state: where the followers stand; None until the store was opened.
        stale: whether `state` must be read again before it is relied on.
        followers: those who stand at `state`.
        ids: numbers of the ids that the log has, of the appends that are carried out.
        held_bytes: of the events' texts, as of `state`; None: not counted. Only a quota of bytes asks for it.
    """

    def __init__(
        self,
        store_id: StoreId,
        writer: Writer,
        readers: Readers,
        counters: Counters,
        *,
        changed: Callable[[StoreId], None],
    ) -> None:
        """Nothing is known yet. `changed` is told whenever the log has changed, or may have, durably."""
        self._store_id = store_id
        self._writer = writer
        self._readers = readers
        self._counters = counters
        self._tell_changed = changed
        self._damage = ""  # what the log file was told of it
        self._seen_below: LogState | None = None  # a shorter log than ours that somebody saw in the database
        self.followers = Followers()
        self.state: LogState | None = None
        self.stale = True
        self.held_bytes: int | None = None
        self.ids: dict[str, int] = {}

    @property
    def known(self) -> LogState:
        """The durable state, which is known whenever a command is carried out."""
        assert self.state is not None
        return self.state

    def append_of(self, accepted: list["Decided"]) -> base.Append:
        """What makes admitted batches durable behind the known state."""
        if len(accepted) == 1 and accepted[0].batch is not None:  # nearly always
            batches: tuple[Batch, ...] = (accepted[0].batch,)
        else:
            batches = tuple([one.batch for one in accepted if one.batch is not None])
        return base.Append(self._store_id, self.known, batches, server_time())

    def changed(self) -> None:
        """The log has changed, or may have, durably."""
        self._tell_changed(self._store_id)

    def offer(self, publication: Publication) -> None:
        """Hand a durable batch to everybody who follows."""
        self._counters.followers_sent_back += self.followers.publish(publication)

    def begin_anew(self, state: LogState) -> None:
        """The store was reset: this is its log now."""
        self.held_bytes = None
        self.state, self.stale = state, False
        self.followers.replace_all(state)
        self.changed()

    def vanish(self) -> None:
        """There is no such store any more. Whoever asks for anything makes a new one."""
        self.state, self.stale, self.held_bytes = None, True, None
        self.followers.end_all()
        self.changed()
        _log.info("store gone", store=self._store_id)

    async def refresh(self) -> Refusal | None:
        """Learn the state from the database: at first, and after an unclear outcome. Gives the reason if it cannot."""
        try:
            state = await self._writer.commit(base.OpenStore(self._store_id))
        except StorageUnavailable:
            self.stale = True
            return UNAVAILABLE
        except StoreDamaged as damage:
            self.stale = True
            if self._damage != str(damage):  # once, not for every batch that clients push again
                self._damage = str(damage)
                _log.error("store damaged", store=self._store_id, reason=self._damage)
            return DAMAGED
        assert isinstance(state, LogState)
        self._damage = ""
        await self.adopt(state)
        return None

    async def count_bytes(self) -> Refusal | None:
        """Learn how many bytes the log holds, which the database knows without counting. Gives the reason if it cannot.

        What another server appends meanwhile is found out by the append, and then everything is decided anew.
        """
        try:
            summary = await self._readers.summary(self._store_id)
        except StorageUnavailable:
            return UNAVAILABLE
        except StoreDamaged:
            return DAMAGED
        self.held_bytes = 0 if summary is None else summary.text_bytes
        return None

    async def look_up(self, writes: list[Write]) -> Refusal | None:
        """Learn which of the ids of appends the log has. Gives the reason if that cannot be learned.

        It is asked after the head was learned. So if the head is still the same when the append is carried out, which
        the database compares, nothing has come in between, and no id is given twice.
        """
        self.ids = {}
        asked = [
            draft.append_id
            for write in writes
            if isinstance(write, Append)
            for draft in write.drafts
            if draft.repeatable
        ]
        if not asked:
            return None  # the usual case; before a reset, the log may not even be known
        try:
            for start in range(0, len(asked), EVENTS_PER_PUSH_MAX):
                some = asked[start : start + EVENTS_PER_PUSH_MAX]
                self.ids |= await self._readers.numbers_of(self.known, some)
        except StorageUnavailable:
            return UNAVAILABLE
        if max(self.ids.values(), default=ROOT_SEQ_NUM) > self.known.head:
            return await self.refresh()  # another server has been told of them, and we have not heard of it yet
        return None

    async def look(self, found: LogState | None) -> Refusal | LogState:
        """Take over what another server did, and say what is known then.

        A state read before our own last append is old news. One that is still there when it is looked at again is none:
        the database has lost events, as a replica has that was promoted too early.

        Args:
            found: what somebody saw in the database; None: no such store.
        """
        if found is None:
            return await self._look_whether_it_is_gone()
        known = self.known
        if found.log_id != known.log_id or found.frozen != known.frozen or found == self._seen_below:
            await self.refresh()  # a reset, there or here: the database knows which came last
        elif found.event_count > known.event_count:
            await self.adopt(found)
        self._seen_below = found if found.event_count < self.known.event_count else None
        return self.known

    async def _look_whether_it_is_gone(self) -> Refusal | LogState:
        """Another server has deleted or renamed the store, unless it was made again since."""
        try:
            found = await self._readers.summary(self._store_id)
        except (StorageUnavailable, StoreDamaged):
            return UNAVAILABLE
        if found is None and self.state is not None:
            self.vanish()
        elif found is not None and found.state != self.state:
            await self.refresh()
        return UNAVAILABLE if self.state is None else self.state

    async def make_sure(self) -> None:
        """Look into the database before a client is told that it is ahead or knows another log.

        With several servers on one database the cached state may be the one that is behind.

        Raises:
            DecideAnew: it was, or it is not known now.
        """
        before = self.known
        if await self.refresh() is not None or self.known != before:
            raise DecideAnew

    async def adopt(self, durable: LogState) -> None:
        """Take over a state that another server, or a commit whose outcome was unclear, left in the database.

        What this actor missed is published to its followers before anybody is told of the new head; when it is much,
        they are sent back to the log to read it themselves. Cannot be cancelled.
        """
        known, self.state, self.stale = self.state, durable, False
        if known != durable:
            self.held_bytes = None
            self.changed()
        if known is None:
            return
        if known.log_id != durable.log_id:
            self.followers.replace_all(durable)
        elif known.head != durable.head and len(self.followers):
            await self._publish_missed(known, durable)

    async def _publish_missed(self, known: LogState, durable: LogState) -> None:
        try:
            with trio.CancelScope(shield=True):
                events = await self._readers.read(durable, known.head, durable.head)
        except (StorageUnavailable, StoreDamaged, LogReplaced):
            events = []  # the followers meet the same when they read for themselves
        if events and events[-1].seq_num == durable.head:
            self.offer(Publication(durable, tuple(events), MISSED_REQUEST_ID))
        else:
            self.followers.drop_all()


class Basis(msgspec.Struct, frozen=True, gc=False):
    """What a decision rests on.

    Attributes:
        state: the durable log.
        held_bytes: of its events' texts; only looked at for a quota of bytes.
        quota: how much it may hold; None for any amount.
        known: numbers of the ids of appends, as far as the log has them; those that get a number join them.
    """

    state: LogState
    held_bytes: int
    quota: admission.Quota | None
    known: dict[str, int]


class Decided(msgspec.Struct):
    """What was decided of a write: it is refused, or its batch goes to the disk, or (neither) the log has all of it."""

    write: Write
    batch: Batch | None
    refusal: Refusal | None


def admit(writes: list[Write], basis: Basis) -> list[Decided]:
    """Decide each write as if those admitted before it were already in the log, and number what has no numbers."""
    state, quota, known = basis.state, basis.quota, basis.known
    head, events, size_bytes = state.head, state.event_count, basis.held_bytes
    decided: list[Decided] = []
    for write in writes:
        if isinstance(write, Append):
            refusal, batch = _numbered(write, head, basis)
        else:
            batch = write.batch
            refusal = admission.decide(state, head, batch, write.backend_id)
        if refusal is None and batch is not None and quota is not None:
            refusal = quota.refusal(events, size_bytes, batch)
            if refusal is None:
                events, size_bytes = events + len(batch.events), size_bytes + batch.size_bytes
        if refusal is not None:
            batch = None
        elif batch is not None:
            head = batch.last_seq_num
            if isinstance(write, Append):
                known.update({event.append_id or "": event.seq_num for event in batch.events})
        decided.append(Decided(write, batch, refusal))
    return decided


def _numbered(append: Append, head: int, basis: Basis) -> tuple[Refusal | None, Batch | None]:
    """What of an append the log does not have, numbered behind a head; no batch: it has all of it.

    What is there already is answered whatever the append expects of the log, which it moved itself.
    """
    events = admission.number(append.drafts, head, basis.known)
    if isinstance(events, Refusal):
        return events, None
    if not events:
        return None, None
    return admission.decide_expected(basis.state, head, append.expected), Batch(events, append.user)


def give_up(decided: list[Decided]) -> None:
    """It is not known what became of those that were admitted, nor what the head is that others would be told.

    An id may have been known by one that went to the disk just now.
    """
    for one in decided:
        if admission.quotes_head(one.refusal):
            one.refusal = UNAVAILABLE
