"""One store's actor: the only one who appends to its log.

Owns the cached state of the log and the followers. Takes commands from its mailbox strictly in order and carries out
the one transition of a store (invariant 1): admit → persist (durable) → advance the head → publish →
acknowledge. Never reads long history, never talks to a socket, never opens the database itself.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from livesync_trio.errors import BackendIdMismatch, Refusal, ServerAhead, StorageUnavailable
from livesync_trio.limits import STORAGE_BACKOFF_FIRST_S, STORAGE_BACKOFF_MAX_S
from livesync_trio.model import Batch, LogState, Publication, StoredEvent, StoreId
from livesync_trio.rules import admission
from livesync_trio.storage import base
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
from livesync_trio.store.known_log import Basis, DecideAnew, Decided, KnownLog, admit, give_up
from livesync_trio.store.mailbox import Closed, Mailbox
from livesync_trio.store.persistence import Readers, Writer
from livesync_trio.telemetry import Counters, get_logger
from livesync_trio.turns import Turns

_log = get_logger("store")


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
        turns: Turns | None = None,
    ) -> None:
        """Nothing is done before `run`.

        Args:
            store_id: its store.
            writer: makes its writes durable.
            readers: read what it must know.
            counters: totals of the server.
            quota: how much a log may hold; None for any amount.
            changed: told whenever the log has changed, or may have, durably.
            turns: those of whoever hears for all sockets.
        """
        self.store_id = store_id
        self._writer = writer
        self._counters = counters
        self._turns = turns or Turns()
        self.mailbox = Mailbox()
        self._taken: list[Command] = []  # short, and a deque holds 760 bytes when it is empty
        self._busy = False  # the state and the followers may be on their way to another log
        self._under_way: list[Decided] | None = None  # a run of pushes that was handed over, on its way to the disk
        self._crash: Exception | None = None  # met while a run was handed over; the actor dies of it
        self._quota = quota
        self._durable = KnownLog(store_id, writer, readers, counters, changed=changed)
        self.followers = self._durable.followers
        self.last_active_s = trio.current_time()

    # --- the mailbox, for the handle and the registry --------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Commands posted and not yet carried out."""
        return len(self.mailbox) + len(self._taken)

    @property
    def head(self) -> int | None:
        """The durable head as last known; None until the store was opened."""
        return None if self._durable.state is None else self._durable.state.head

    @property
    def idle(self) -> bool:
        """Nothing to do, nobody following, nobody waiting to post: the store may go dormant.

        The actor must really wait for a command: woken for one, it carries that out in its next step.
        """
        return not len(self.followers) and self.mailbox.waited_for

    def tell(self, found: LogState | None) -> bool:
        """Tell what the database holds by now, which may be news. None: no such store. False: full, tell it again.

        When nobody follows, nobody waits for it: it is looked up when somebody asks.
        """
        if found == self._durable.state:
            return True
        if self.idle:
            self._durable.stale = True
        else:
            with suppress(Closed):  # it is ending; the next generation reads the database first
                return self.mailbox.post_nowait(Look(found))
        return True

    def doubt(self, log: LogState) -> None:
        """A reader has found that another server replaced this log: look before anything else is carried out."""
        if self._durable.state is not None and self._durable.state.log_id == log.log_id:
            self._durable.stale = True

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
        return self._durable.stale and self._durable.state is not None and len(self.followers) > 0

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
            trouble = await self._durable.refresh()
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
        mailbox = self.mailbox
        if type(command) is Push and mailbox.waited_for and not mailbox.closed and self._may_be_handed_over:
            mailbox.hold()
            self._carry_out([command])
            return True
        return self.mailbox.post_nowait(command)

    @property
    def _may_be_handed_over(self) -> bool:
        """Whether pushes can be decided with what is known."""
        counted = self._quota is None or not self._quota.max_bytes or self._durable.held_bytes is not None
        return not self._durable.stale and self._durable.state is not None and counted and self._crash is None

    def _carry_out(self, pushes: list[Write]) -> None:
        """Decide a run of pushes while the actor is held, and give them to the writer; `_written` goes on.

        What only the actor can decide is left to it: what must be looked up first.
        """
        self._taken += pushes  # theirs, should anything crash
        try:
            decided = self._decide(pushes)
            accepted: list[Decided] = []
            for one in decided:
                if one.batch is not None:
                    accepted.append(one)
                elif admission.is_doubtful(one.refusal):
                    self.mailbox.release(call=True)
                    return
            if not accepted:
                self._conclude(decided, self._durable.known)
                self._hand_on()
                return
            self._under_way = decided
            append = self._durable.append_of(accepted)
            try:
                self._writer.submit(append, partial(self._written, append, accepted))
            except StorageUnavailable as error:
                self._written(append, accepted, error)
        except Exception as error:
            self._fail(error)

    def _written(self, append: base.Append, accepted: list[Decided], outcome: base.Outcome | Exception) -> None:
        """The writer's answer to a run that was handed over. From here to the last answer nobody else gets a turn."""
        decided, self._under_way = self._under_way, None
        assert decided is not None
        try:
            if isinstance(outcome, base.HeadMoved):
                self._durable.stale = True  # nobody was answered: the actor looks, and decides anew
            elif isinstance(outcome, StorageUnavailable):
                self._durable.stale = True
                give_up(decided)
                self._conclude(decided, append.expected)
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                self._advance(accepted, append)
                self._conclude(decided, append.expected)
            self._hand_on()
        except Exception as error:
            self._fail(error)

    def _conclude(self, decided: list[Decided], before: LogState) -> None:
        """Answer a run that was handed over."""
        self._acknowledge(decided, before)
        self._taken = []
        self.last_active_s = self._turns.now_s or trio.current_time()

    def _hand_on(self) -> None:
        """Go on with what came meanwhile, if that is nothing but pushes; else it is the actor's turn."""
        if self.mailbox.only(Push) and not self._taken and self._may_be_handed_over:
            self._carry_out(leading_writes(self.mailbox.take()))
        else:
            self.mailbox.release(call=self._durable.stale)

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
        has changed the log, `DecideAnew` comes from whoever noticed, after the new state was taken over and before
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
                        first.reply.give(self._durable.known)
                    case Reset():
                        await self._reset(first)
                    case Alter():
                        await self._alter(first)
                    case Look():
                        first.reply.give(await self._durable.look(first.found))
            except DecideAnew:
                continue
            del self._taken[: len(writes) or 1]
            return

    async def _learn(self, command: Command, writes: list[Write]) -> Refusal | None:
        """Learn what must be known of the log to decide a command. Gives the reason if that cannot be learned."""
        trouble = None
        if isinstance(command, Look) and command.found is None:
            return None  # to learn its state would make it again
        if self._durable.stale and not mends(command):
            trouble = await self._durable.refresh()
        counts = self._quota is not None and self._quota.max_bytes > 0
        if trouble is None and counts and self._durable.held_bytes is None and writes:
            trouble = await self._durable.count_bytes()
        return await self._durable.look_up(writes) if trouble is None else trouble

    def _answer_all(self, trouble: Refusal) -> None:
        """Give everybody who waits the same answer, up to what mends it; to ask anew for each would take too long."""
        while self._taken and not mends(self._taken[0]):
            self._taken[0].reply.give(trouble)
            del self._taken[0]

    # --- pushes and appends ----------------------------------------------------------------------------------------

    async def _store(self, writes: list[Write]) -> None:
        """Carry out a run of writes: those that fit go to the disk together."""
        decided = self._decide(writes)
        if any(admission.is_doubtful(one.refusal) for one in decided):
            await self._durable.make_sure()
        before = self._durable.known
        accepted = [one for one in decided if one.batch is not None]
        if accepted and not await self._persist(accepted):
            give_up(decided)
        self._acknowledge(decided, before)

    def _decide(self, writes: list[Write]) -> list[Decided]:
        if writes[0].marks is not None:
            mark(writes, "taken")
        log = self._durable
        decided = admit(writes, Basis(log.known, log.held_bytes or 0, self._quota, log.ids))
        if writes[0].marks is not None:
            mark(writes, "admitted")
        return decided

    async def _persist(self, accepted: list[Decided]) -> bool:
        """Make the admitted batches durable, advance the head and publish. Nothing in it can be cancelled.

        Returns:
            False when it is not known whether they became durable.

        Raises:
            DecideAnew: another server was first; the head that it left is known now.
        """
        append = self._durable.append_of(accepted)
        try:
            result = await self._writer.commit(append)
        except StorageUnavailable:
            self._durable.stale = True
            return False
        if isinstance(result, base.HeadMoved):
            await self._durable.adopt(result.state)
            raise DecideAnew
        self._advance(accepted, append)
        return True

    def _advance(self, accepted: list[Decided], append: base.Append) -> None:
        """The admitted batches are durable: advance the head and publish."""
        state = append.expected
        marked = accepted[0].write.marks is not None
        if marked:
            mark([one.write for one in accepted], "durable")
        for one, batch in zip(accepted, append.batches, strict=True):
            state = self._publish(state, one.write, batch, append.created_at)
        self._durable.changed()
        if marked:
            mark([one.write for one in accepted], "published")

    def _publish(self, before: LogState, write: Write, batch: Batch, created_at: str) -> LogState:
        """Advance the head past one durable batch and hand it to the followers; gives the log behind it."""
        count = before.event_count + len(batch.events)
        if self._durable.held_bytes is not None:
            self._durable.held_bytes += batch.size_bytes
        after = self._durable.state = LogState(before.log_id, before.backend_id, batch.last_seq_num, count)
        self._counters.pushes_accepted += 1
        self._counters.events_accepted += len(batch.events)
        if self.followers.members:
            events = tuple(
                StoredEvent(event.seq_num, ordinal, event.json, created_at, batch.user, event.append_id)
                for ordinal, event in enumerate(batch.events, before.event_count + 1)
            )
            self._durable.offer(Publication(after, events, write.request_id, write.origin))
        return after

    def _acknowledge(self, decided: list[Decided], before: LogState) -> None:
        """Answer in the order of the mailbox. Everything said here is about durable events.

        `before`: the log before the first of them; each that was accepted is told the log right after its own batch.
        """
        state, last = before, self._durable.known
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
            if batch is not None and batch.last_seq_num == last.head:  # the usual case: one push
                state = last
            elif batch is not None:  # else the log has had all of it
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
        return Numbered(state, tuple(self._durable.ids[draft.append_id] for draft in append.drafts), repeated)

    # --- pulls, resets, questions ----------------------------------------------------------------------------------

    async def _register(self, command: Register) -> None:
        """Register a pull: it follows from here on, or has history to read first."""
        state = self._durable.known
        cursor = command.cursor
        foreign = cursor is not None and cursor.backend_id not in (None, state.backend_id)
        ahead = cursor is not None and cursor.seq_num > state.head
        if foreign or ahead:
            await self._durable.make_sure()
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
            self._durable.stale = True
            command.reply.give(UNAVAILABLE)
            return
        assert isinstance(state, LogState)
        self._durable.begin_anew(state)
        command.reply.give(state)
        _log.info("store reset", store=self.store_id, backend_id=state.backend_id)

    async def _alter(self, command: Alter) -> None:
        """Change the store as a whole, and tell everybody who follows.

        Raises:
            DecideAnew: another server was first.
        """
        decide = command.decide
        write = decide if isinstance(decide, base.Delete) else decide(self._durable.known)
        if isinstance(write, Refusal):
            command.reply.give(write)
            return
        try:
            outcome = await self._writer.commit(write)
        except StorageUnavailable:
            self._durable.stale = True
            command.reply.give(UNAVAILABLE)
            return
        before = self._durable.state
        match outcome:
            case LogState():
                await self._durable.adopt(outcome)
            case base.NoStore():
                self._durable.vanish()
            case base.Appended() if write.store_id == self.store_id:
                await self._durable.adopt(outcome.state)
            case base.Appended():  # it has another name now
                self._durable.vanish()
            case base.HeadMoved():
                if await self._durable.refresh() is not None or self._durable.state != before:
                    raise DecideAnew
        assert not isinstance(outcome, base.RecordStored | base.RecordMoved)
        command.reply.give(outcome)
