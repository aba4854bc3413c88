"""One store's actor: the only one who appends to its log.

Owns the cached state of the log and the followers. Takes commands from its mailbox strictly in order and carries out
the one transition of a store (invariant 1): admit → persist (durable) → advance the head → publish →
acknowledge. Never reads long history, never talks to a socket, never opens the database itself.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from livesync_trio.errors import (
    BackendIdMismatch,
    LogReplaced,
    Refusal,
    ServerAhead,
    StorageUnavailable,
    StoreDamaged,
)
from livesync_trio.limits import EVENTS_PER_PUSH_MAX, STORAGE_BACKOFF_FIRST_S, STORAGE_BACKOFF_MAX_S
from livesync_trio.model import ROOT_SEQ_NUM, Batch, LogState, Publication, StoredEvent, StoreId
from livesync_trio.rules import admission
from livesync_trio.storage import base
from livesync_trio.storage.chain import server_time
from livesync_trio.store.commands import (
    DAMAGED,
    UNAVAILABLE,
    Accepted,
    Alter,
    Append,
    Command,
    Inspect,
    Look,
    Numbered,
    Push,
    Register,
    Registered,
    Reset,
    Write,
    leading_writes,
    mark,
    mends,
)
from livesync_trio.store.deciding import Basis, Decided, admit, give_up
from livesync_trio.store.followers import Followers
from livesync_trio.store.mailbox import Closed, Mailbox
from livesync_trio.store.persistence import Readers, Writer
from livesync_trio.telemetry import Counters, get_logger

_log = get_logger("store")

MISSED_REQUEST_ID: Final = b'"elsewhere"'
"""Id under which 0.3 clients get broadcasts of pushes that another server took."""


class _DecideAnew(Exception):
    """The log was not as it was taken to be: what is decided is decided again, from the state that is known now."""


class StoreActor:
    """The actor of one store. Made and started by the registry; ends when its mailbox is closed."""

    def __init__(
        self,
        store_id: StoreId,
        writer: Writer,
        readers: Readers,
        counters: Counters,
        quota: admission.Quota | None = None,
        *,
        changed: Callable[[StoreId], None] = lambda _: None,
    ) -> None:
        """Nothing is done before `run`. `changed` is told whenever the log has changed, or may have, durably."""
        self.store_id = store_id
        self._changed = changed
        self._writer = writer
        self._readers = readers
        self._counters = counters
        self.mailbox = Mailbox()
        self._taken: list[Command] = []  # short, and a deque holds 760 bytes when it is empty
        self._state: LogState | None = None  # where the followers stand; None until the store was opened
        self._stale = True  # whether `_state` must be read again before it is relied on
        self._busy = False  # the state and the followers may be on their way to another log
        self._under_way: list[Decided] | None = None  # a run of pushes that was handed over, on its way to the disk
        self._crash: Exception | None = None  # met while a run was handed over; the actor dies of it
        self._quota = quota
        self._held_bytes: int | None = None  # of the events' texts, as of `_state`; only counted for a quota of bytes
        self._known: dict[str, int] = {}  # numbers of the ids that the log has, of the appends that are carried out
        self._damage = ""  # what the log was told of it
        self._seen_below: LogState | None = None  # a shorter log than ours that somebody saw in the database
        self.followers = Followers()
        self.last_active_s = trio.current_time()

    # --- the mailbox, for the handle and the registry --------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Commands posted and not yet carried out."""
        return len(self.mailbox) + len(self._taken)

    @property
    def head(self) -> int | None:
        """The durable head as last known; None until the store was opened."""
        return None if self._state is None else self._state.head

    @property
    def idle(self) -> bool:
        """Nothing to do, nobody following, nobody waiting to post: the store may go dormant.

        The actor must really wait for a command: woken for one, it carries that out in its next step.
        """
        return not len(self.followers) and self.mailbox.waited_for

    def tell(self, found: LogState | None) -> bool:
        """Tell what the database holds by now, which may be news from another server. None: no such store.

        When nobody follows, nobody waits for it: it is looked up when somebody asks. False: the mailbox is full, tell
        it again.
        """
        if found != self._state and self.idle:
            self._stale = True
        elif found != self._state:
            with suppress(Closed):  # it is ending; the next generation reads the database first
                return self.mailbox.post_nowait(Look(found))
        return True

    def doubt(self, log: LogState) -> None:
        """A reader has found that another server replaced this log: look before anything else is carried out."""
        if self._state is not None and self._state.log_id == log.log_id:
            self._stale = True

    def retire(self) -> None:
        """Close the mailbox: what is in it is still carried out, then the actor ends."""
        self.mailbox.close()

    # --- the loop --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry out commands until the mailbox is closed. However it ends, its runner calls `farewell` afterwards."""
        while True:
            self._busy = False
            self.last_active_s = trio.current_time()
            if self._leaves_followers_waiting:
                await self._look_again()
            if not await self.mailbox.wait():
                return
            self._busy = True
            if self._crash is not None:
                raise self._crash
            self._taken += self.mailbox.take()
            while self._taken:
                await self._carry_out_next()

    @property
    def _leaves_followers_waiting(self) -> bool:
        """Whether the last write's outcome is not known, and somebody follows who may have missed what it did."""
        return self._stale and self._state is not None and len(self.followers) > 0

    async def _look_again(self) -> None:
        """Look into the database until it answers or somebody has a command, which makes us look as well.

        A reset, or a push whose client has left, may have become durable although its outcome was unclear; perhaps
        nobody ever asks for anything again, and the followers would wait for it for ever.
        """
        pause_s = STORAGE_BACKOFF_FIRST_S
        while self._leaves_followers_waiting:
            with trio.move_on_after(pause_s):
                await self.mailbox.wait()
                return
            self._busy = True
            trouble = await self._refresh()
            self._busy = False
            if trouble is DAMAGED:
                return  # only an operator mends that; the log says so once, not every few seconds
            pause_s = min(2 * pause_s, STORAGE_BACKOFF_MAX_S)

    # --- handed over -----------------------------------------------------------------------------------------------

    def post_nowait(self, command: Command) -> bool:
        """Post a command; a push to a store that is idle is carried out at once, as far as the disk. False: it is full.

        Raises:
            Closed: it takes nothing any more.
        """
        if type(command) is Push and self.mailbox.waited_for and not self.mailbox.closed and self._may_be_handed_over:
            self.mailbox.hold()
            self._carry_out([command])
            return True
        return self.mailbox.post_nowait(command)

    @property
    def _may_be_handed_over(self) -> bool:
        """Whether pushes can be decided with what is known."""
        counted = self._quota is None or not self._quota.max_bytes or self._held_bytes is not None
        return not self._stale and self._state is not None and counted and self._crash is None

    def _carry_out(self, pushes: list[Write]) -> None:
        """Decide a run of pushes while the actor is held, and give them to the writer; `_written` goes on.

        What only the actor can decide is left to it: what must be looked up first.
        """
        self._taken += pushes  # theirs, should anything crash
        try:
            decided = self._decide(pushes)
            if any(admission.is_doubtful(one.refusal) for one in decided):
                self.mailbox.release(call=True)
                return
            accepted = [one for one in decided if one.batch is not None]
            if not accepted:
                self._conclude(decided, self._log_state)
                self._hand_on()
                return
            self._under_way = decided
            self._submit(self._append_of(accepted))
        except Exception as error:
            self._fail(error)

    def _submit(self, append: base.Append) -> None:
        try:
            self._writer.submit(append, partial(self._written, append))
        except StorageUnavailable as error:
            self._written(append, error)

    def _written(self, append: base.Append, outcome: base.Outcome | Exception) -> None:
        """The writer's answer to a run that was handed over. From here to the last answer nobody else gets a turn."""
        decided, self._under_way = self._under_way, None
        assert decided is not None
        try:
            if isinstance(outcome, base.HeadMoved):
                self._stale = True  # nobody was answered: the actor looks, and decides anew
            elif isinstance(outcome, StorageUnavailable):
                self._stale = True
                give_up(decided)
                self._conclude(decided, append.expected)
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                self._advance([one for one in decided if one.batch is not None], append)
                self._conclude(decided, append.expected)
            self._hand_on()
        except Exception as error:
            self._fail(error)

    def _conclude(self, decided: list[Decided], before: LogState) -> None:
        """Answer a run that was handed over."""
        self._acknowledge(decided, before)
        self._taken = []
        self.last_active_s = trio.current_time()

    def _hand_on(self) -> None:
        """Go on with what came meanwhile, if that is nothing but pushes; else it is the actor's turn."""
        if self._may_be_handed_over and not self._taken and self.mailbox.only(Push):
            self._carry_out(leading_writes(self.mailbox.take()))
        else:
            self.mailbox.release(call=self._stale)

    def _fail(self, error: Exception) -> None:
        """The actor dies of it, as if it had met it itself: it was its work that was done."""
        self._under_way, self._crash = None, error
        self.mailbox.release(call=True)

    # --- its end ---------------------------------------------------------------------------------------------------

    def farewell(self, refusal: Refusal) -> None:
        """Answer every command that has none and send the followers back to the log.

        Called once, after the actor ended and left the registry, so that whoever asks again meets the next generation.
        """
        self.mailbox.close()
        self._taken += self.mailbox.take()
        while self._taken:
            command = self._taken.pop(0)
            if not command.reply.given:
                command.reply.give(refusal)
        self.followers.drop_all()

    async def _carry_out_next(self) -> None:
        """Carry out the first command taken, or the run of writes that stands first; remove it once it is answered.

        Everything is decided by the log as it is known. Where that turns out to be out of date, because another server
        has changed the log, `_DecideAnew` comes from whoever noticed, after the new state was taken over and before
        anybody was answered; then it is decided anew.
        """
        first = self._taken[0]
        writes = leading_writes(self._taken)
        while True:
            trouble = await self._learn(first, writes)
            if trouble is not None:
                self._answer_all(trouble)
                return
            try:
                match first:
                    case Push() | Append():
                        await self._store(writes)
                    case Register():
                        await self._register(first)
                    case Inspect():
                        first.reply.give(self._log_state)
                    case Reset():
                        await self._reset(first)
                    case Alter():
                        await self._alter(first)
                    case Look():
                        await self._look(first)
            except _DecideAnew:
                continue
            del self._taken[: len(writes) or 1]
            return

    async def _learn(self, command: Command, writes: list[Write]) -> Refusal | None:
        """Learn what must be known of the log to decide a command. Gives the reason if that cannot be learned."""
        trouble = None
        if isinstance(command, Look) and command.found is None:
            return None  # to learn its state would make it again
        if self._stale and not mends(command):
            trouble = await self._refresh()
        counts = self._quota is not None and self._quota.max_bytes > 0
        if trouble is None and counts and self._held_bytes is None and writes:
            trouble = await self._count_bytes()
        return await self._look_up(writes) if trouble is None else trouble

    def _answer_all(self, trouble: Refusal) -> None:
        """Give everybody who waits the same answer, up to what mends it; to ask anew for each would take too long."""
        while self._taken and not mends(self._taken[0]):
            self._taken[0].reply.give(trouble)
            del self._taken[0]

    @property
    def _log_state(self) -> LogState:
        """The durable state, which is known whenever a command is carried out."""
        assert self._state is not None
        return self._state

    # --- pushes and appends ----------------------------------------------------------------------------------------

    async def _store(self, writes: list[Write]) -> None:
        """Carry out a run of writes: those that fit go to the disk together."""
        decided = self._decide(writes)
        if any(admission.is_doubtful(one.refusal) for one in decided):
            await self._make_sure()
        before = self._log_state
        accepted = [one for one in decided if one.batch is not None]
        if accepted and not await self._persist(accepted):
            give_up(decided)
        self._acknowledge(decided, before)

    def _decide(self, writes: list[Write]) -> list[Decided]:
        if writes[0].marks is not None:
            mark(writes, "taken")
        held_bytes = self._held_bytes or 0
        decided = admit(writes, Basis(self._log_state, held_bytes, self._quota, self._known))
        if writes[0].marks is not None:
            mark(writes, "admitted")
        return decided

    async def _look_up(self, writes: list[Write]) -> Refusal | None:
        """Learn which of the ids of appends the log has. Gives the reason if that cannot be learned.

        It is asked after the head was learned. So if the head is still the same when the append is carried out, which
        the database compares, nothing has come in between, and no id is given twice.
        """
        self._known = {}
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
                self._known |= await self._readers.numbers_of(self._log_state, some)
        except StorageUnavailable:
            return UNAVAILABLE
        if max(self._known.values(), default=ROOT_SEQ_NUM) > self._log_state.head:
            return await self._refresh()  # another server has been told of them, and we have not heard of it yet
        return None

    async def _persist(self, accepted: list[Decided]) -> bool:
        """Make the admitted batches durable, advance the head and publish. Nothing in it can be cancelled.

        Returns:
            False when it is not known whether they became durable.

        Raises:
            _DecideAnew: another server was first; the head that it left is known now.
        """
        append = self._append_of(accepted)
        try:
            result = await self._writer.commit(append)
        except StorageUnavailable:
            self._stale = True
            return False
        if isinstance(result, base.HeadMoved):
            await self._adopt(result.state)
            raise _DecideAnew
        self._advance(accepted, append)
        return True

    def _append_of(self, accepted: list[Decided]) -> base.Append:
        batches = tuple([one.batch for one in accepted if one.batch is not None])
        return base.Append(self.store_id, self._log_state, batches, server_time())

    def _advance(self, accepted: list[Decided], append: base.Append) -> None:
        """The admitted batches are durable: advance the head and publish."""
        state = append.expected
        marked = accepted[0].write.marks is not None
        if marked:
            mark([one.write for one in accepted], "durable")
        for one, batch in zip(accepted, append.batches, strict=True):
            state = self._publish(state, one.write, batch, append.created_at)
        self._changed(self.store_id)
        if marked:
            mark([one.write for one in accepted], "published")

    def _publish(self, before: LogState, write: Write, batch: Batch, created_at: str) -> LogState:
        """Advance the head past one durable batch and hand it to the followers; gives the log behind it."""
        count = before.event_count + len(batch.events)
        if self._held_bytes is not None:
            self._held_bytes += batch.size_bytes
        after = self._state = LogState(before.log_id, before.backend_id, batch.last_seq_num, count)
        self._counters.pushes_accepted += 1
        self._counters.events_accepted += len(batch.events)
        if len(self.followers):
            events = tuple(
                StoredEvent(event.seq_num, ordinal, event.json, created_at, batch.user, event.append_id)
                for ordinal, event in enumerate(batch.events, before.event_count + 1)
            )
            self._offer(Publication(after, events, write.request_id, write.origin))
        return after

    def _offer(self, publication: Publication) -> None:
        self._counters.followers_sent_back += self.followers.publish(publication)

    def _acknowledge(self, decided: list[Decided], before: LogState) -> None:
        """Answer in the order of the mailbox. Everything said here is about durable events.

        `before`: the log before the first of them; each that was accepted is told the log right after its own batch.
        """
        state, last = before, self._log_state
        for one in decided:
            write, batch, refusal = one.write, one.batch, one.refusal
            if isinstance(refusal, ServerAhead) and refusal.provided > refusal.head:
                self._counters.pushes_ahead_of_head += 1
                _log.warning(
                    "push from above the head: a client that lost an event of its own (SPEC section 2)",
                    store=self.store_id,
                    head=refusal.head,
                    parent=refusal.provided,
                )
            if refusal is not None:
                write.reply.give(refusal)
                continue
            if batch is None:
                pass  # the log has had all of it
            elif batch.last_seq_num == last.head:  # the usual case: one push
                state = last
            else:
                count = state.event_count + len(batch.events)
                state = LogState(state.log_id, state.backend_id, batch.last_seq_num, count)
            if isinstance(write, Append):
                write.reply.give(self._told(write, batch, state))
            else:
                write.reply.give(Accepted(state))

    def _told(self, append: Append, batch: Batch | None, state: LogState) -> Numbered:
        """The numbers of an append's events, new and known."""
        repeated = len(append.drafts) - (0 if batch is None else len(batch.events))
        self._counters.appends_accepted += batch is not None
        self._counters.events_repeated += repeated
        return Numbered(state, tuple(self._known[draft.append_id] for draft in append.drafts), repeated)

    # --- pulls, resets, questions ----------------------------------------------------------------------------------

    async def _register(self, command: Register) -> None:
        """Register a pull: it follows from here on, or has history to read first."""
        state = self._log_state
        cursor = command.cursor
        foreign = cursor is not None and cursor.backend_id not in (None, state.backend_id)
        ahead = cursor is not None and cursor.seq_num > state.head
        if foreign or ahead:
            await self._make_sure()
        if cursor is not None and ahead and not foreign:
            self._counters.cursors_ahead_of_head += 1
            _log.warning(
                "pull from above the head: was a backup restored, or a replica promoted, that lacks events?",
                store=self.store_id,
                head=state.head,
                cursor=cursor.seq_num,
            )
        if cursor is not None and (foreign or (ahead and cursor.backend_id is not None)):
            # Above the head of the very log it knows: events are lost, and numbers it has will be given to others.
            command.reply.give(BackendIdMismatch.of(state.backend_id, str(cursor.backend_id)))
            return
        following = command.follower is not None and (cursor is None or cursor.seq_num >= state.head)
        if following and command.follower is not None:
            self.followers.add(command.follower)
        command.reply.give(Registered(state, following))

    async def _reset(self, command: Reset) -> None:
        try:
            state = await self._writer.commit(base.Reset(self.store_id))
        except StorageUnavailable:
            self._stale = True
            command.reply.give(UNAVAILABLE)
            return
        assert isinstance(state, LogState)
        self._held_bytes = None
        self._state, self._stale = state, False
        self.followers.replace_all(state)
        self._changed(self.store_id)
        command.reply.give(state)
        _log.info("store reset", store=self.store_id, backend_id=state.backend_id)

    async def _alter(self, command: Alter) -> None:
        """Change the store as a whole, and tell everybody who follows.

        Raises:
            _DecideAnew: another server was first.
        """
        decide = command.decide
        write = decide if isinstance(decide, base.Delete) else decide(self._log_state)
        if isinstance(write, Refusal):
            command.reply.give(write)
            return
        try:
            outcome = await self._writer.commit(write)
        except StorageUnavailable:
            self._stale = True
            command.reply.give(UNAVAILABLE)
            return
        before = self._state
        match outcome:
            case LogState():
                await self._adopt(outcome)
            case base.NoStore():
                self._vanish()
            case base.Appended() if write.store_id == self.store_id:
                await self._adopt(outcome.state)
            case base.Appended():  # it has another name now
                self._vanish()
            case base.HeadMoved():
                if await self._refresh() is not None or self._state != before:
                    raise _DecideAnew
        assert not isinstance(outcome, base.RecordStored | base.RecordMoved)
        command.reply.give(outcome)

    def _vanish(self) -> None:
        """There is no such store any more. Whoever asks for anything makes a new one."""
        self._state, self._stale, self._held_bytes = None, True, None
        self.followers.end_all()
        self._changed(self.store_id)
        _log.info("store gone", store=self.store_id)

    async def _look_for(self, command: Look) -> None:
        """Another server has deleted or renamed the store, unless it was made again since."""
        try:
            found = await self._readers.summary(self.store_id)
        except (StorageUnavailable, StoreDamaged):
            command.reply.give(UNAVAILABLE)
            return
        if found is None and self._state is not None:
            self._vanish()
        elif found is not None and found.state != self._state:
            await self._refresh()
        command.reply.give(UNAVAILABLE if self._state is None else self._state)

    async def _look(self, command: Look) -> None:
        """Take over what another server did. A state read before our own last append is old news.

        One that is still there when it is looked at again is none: the database has lost events, as a replica has that
        was promoted too early.
        """
        if command.found is None:
            await self._look_for(command)
            return
        known, found = self._log_state, command.found
        if found.log_id != known.log_id or found.frozen != known.frozen or found == self._seen_below:
            await self._refresh()  # a reset, there or here: the database knows which came last
        elif found.event_count > known.event_count:
            await self._adopt(found)
        self._seen_below = found if found.event_count < self._log_state.event_count else None
        command.reply.give(self._log_state)

    # --- the cached state ------------------------------------------------------------------------------------------

    async def _refresh(self) -> Refusal | None:
        """Learn the state from the database: at first, and after an unclear outcome. Gives the reason if it cannot."""
        try:
            state = await self._writer.commit(base.OpenStore(self.store_id))
        except StorageUnavailable:
            self._stale = True
            return UNAVAILABLE
        except StoreDamaged as damage:
            self._stale = True
            if self._damage != str(damage):  # once, not for every batch that clients push again
                self._damage = str(damage)
                _log.error("store damaged", store=self.store_id, reason=self._damage)
            return DAMAGED
        assert isinstance(state, LogState)
        self._damage = ""
        await self._adopt(state)
        return None

    async def _count_bytes(self) -> Refusal | None:
        """Learn how many bytes the log holds, which the database knows without counting. Gives the reason if it cannot.

        What another server appends meanwhile is found out by the append, and then everything is decided anew.
        """
        try:
            summary = await self._readers.summary(self.store_id)
        except StorageUnavailable:
            return UNAVAILABLE
        except StoreDamaged:
            return DAMAGED
        self._held_bytes = 0 if summary is None else summary.text_bytes
        return None

    async def _make_sure(self) -> None:
        """Look into the database before a client is told that it is ahead or knows another log.

        With several servers on one database the cached state may be the one that is behind.

        Raises:
            _DecideAnew: it was, or it is not known now.
        """
        before = self._log_state
        if await self._refresh() is not None or self._log_state != before:
            raise _DecideAnew

    async def _adopt(self, durable: LogState) -> None:
        """Take over a state that another server, or a commit whose outcome was unclear, left in the database.

        What this actor missed is published to its followers before anybody is told of the new head; when it is much,
        they are sent back to the log to read it themselves. Cannot be cancelled.
        """
        known, self._state, self._stale = self._state, durable, False
        if known != durable:
            self._held_bytes = None
            self._changed(self.store_id)
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
            self._offer(Publication(durable, tuple(events), MISSED_REQUEST_ID))
        else:
            self.followers.drop_all()
