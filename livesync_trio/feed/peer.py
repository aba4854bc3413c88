"""One client of the feed: initial state at one position, what came behind it, and then what comes.

```text
(comes) ──► INITIAL at P ──► CATCHING UP behind P ──► LIVE ──► … (its position is kept no more) ──► INITIAL
    ╰──────────────────────────────► CATCHING UP
```

Every step reads the history at its own pace, so that nobody waits for a slow client. Chunks of the first two wait for
their acknowledgement, and only the one for exactly this chunk counts.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs
import msgspec
import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.channel import Channel, Incoming
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.surroundings import Surroundings
from livesync_trio.errors import Kind, StorageUnavailable, StoreDamaged
from livesync_trio.feed import messages
from livesync_trio.feed.access import View
from livesync_trio.feed.actor import Feed
from livesync_trio.feed.clients import Clients, Entry, Full, Progress, Taken
from livesync_trio.feed.filters import BadFilter
from livesync_trio.feed.history.reading import ChangePage, Stored, TooOld
from livesync_trio.feed.limits import FEED_PAGE_BYTES, FEED_PAGE_CHANGES
from livesync_trio.feed.messages import Dialect, Speaker
from livesync_trio.feed.position import START, WHOLE, BadPosition, Position, Token, lsn_text, parse_token
from livesync_trio.telemetry import get_logger

FEED_ADVANCE_S: Final = 60.0
"""How often a client that follows is told a newer position although nothing it may see has changed."""

FEED_NOTE_S: Final = 1.0
"""How often the position that a client has acknowledged while it follows is stored."""

FEED_INIT_ACK_S: Final = 300.0
FEED_CATCHUP_ACK_S: Final = 30.0
"""How long a client may take to acknowledge a chunk, as in the original."""

_log = get_logger("feed")

_AGAIN_S: Final = 5.0
"""Pause before the history is read again that could not be read."""

_READ_ONLY = "This feed takes no changes from clients: write to the database that it follows."


class _Over(Exception):
    """The connection is to be closed; the client was told why."""


@attrs.frozen
class Asked:
    """What a client has asked for.

    Attributes:
        client_id: its name for itself.
        token: where it stands.
        dialect: which messages it knows.
    """

    client_id: str
    token: Token
    dialect: Dialect


class FeedPeer(Peer):
    """A client that follows the feed over a WebSocket."""

    generation = "feed"

    def __init__(
        self,
        channel: Channel,
        client: Client,
        surroundings: Surroundings,
        *,
        feed: Feed,
        view: View,
        clients: Clients,
        asked: Asked,
    ) -> None:
        """As `Peer`; `view` is what the client may see, `clients` where its position is kept."""
        super().__init__(channel, client, surroundings)
        self._feed = feed
        self._view = view
        self._clients = clients
        self._asked = asked
        self._speaker = Speaker(asked.client_id, asked.dialect)
        self._awaited: tuple[object, ...] | None = None  # the acknowledgement that counts now
        self._acknowledged = trio.Event()
        self._position: Position | None = None  # behind what was sent; None: it needs an initial state
        self._sent = START  # behind the last whole commit that was sent
        self._told = START  # of that, what the client was told
        self._entry = Entry(None, 0.0)
        self._noted_s = 0.0

    # --- what arrives ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """See `Peer`."""
        self.start_task(self._serve)

    def on_expired(self) -> None:
        """See `Peer`. A filter is about the claims of a token, so it ends with it."""
        self._fail(Kind.TOKEN_EXPIRED, "The token has expired. Come back with a fresh one.")

    def on_message(self, incoming: Incoming) -> None:
        """See `Peer`."""
        try:
            message = messages.read(incoming.data)
        except ValueError as error:
            self._fail(Kind.BAD_FRAME, str(error))
            return
        match message.type:
            case "clt_init_received":
                self._acknowledge("init", message.table, message.chunk)
            case "clt_init_processed":
                self._acknowledge("processed")
            case "clt_catchup_received":
                self._acknowledge("catchup", message.chunk)
            case "clt_changes_received":
                self._received(message.lastLSN)
            case "clt_heartbeat":
                self._say("srv_heartbeat", lsn=str(self._sent))
            case "clt_send_changes":
                self._say("srv_changes_applied", appliedChanges=[], success=False, error=_READ_ONLY)
            case _:
                pass  # the original's clients send more than its server ever read

    def _acknowledge(self, *what: object) -> None:
        if what == self._awaited:
            self._awaited = None
            self._acknowledged.set()

    def _received(self, lsn: str | None) -> None:
        """Live changes have arrived: the position is stored, though not for each of them."""
        try:
            position = parse_token(lsn or "").position
        except BadPosition:
            return
        if Position(self._entry.lsn, self._entry.seq) < position <= self._sent:
            self._moved_to(position)
            if trio.current_time() - self._noted_s > FEED_NOTE_S:
                self._noted_s = trio.current_time()
                self.start_task(self._note)

    # --- what is sent ----------------------------------------------------------------------------------------------

    def _say(self, kind: str, **fields: Any) -> None:
        self.outbox.put(self._speaker.say(kind, time.time_ns() // 1_000_000, **fields))

    def _fail(self, kind: Kind, message: str) -> None:
        """Tell the client what is wrong, and close."""
        self._say("srv_error", code=str(kind), message=message, error=message)
        self.close(kind, message)

    async def _say_and_wait(self, limit_s: float, awaited: tuple[object, ...], kind: str, **fields: Any) -> None:
        """Send what must be acknowledged, and wait for that. Raises _Over."""
        self._awaited, self._acknowledged = awaited, trio.Event()
        self._say(kind, **fields)
        with trio.move_on_after(limit_s):
            await self._acknowledged.wait()
            return
        self._fail(Kind.NOT_ACKNOWLEDGED, f"A message ({kind}) was not acknowledged within {limit_s:g} s.")
        raise _Over

    # --- its way ---------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._feed.followers += 1
        try:
            await self._follow()
        except _Over:
            pass
        except Taken:
            self._fail(Kind.FEED_REFUSED, "This clientId belongs to somebody else.")
        except Full:
            self._fail(Kind.FEED_REFUSED, "The server remembers as many clients as it can. Try again tomorrow.")
        except BadFilter as error:
            _log.warning("a filter cannot be applied", connection=self.number, reason=str(error))
            self._fail(Kind.FEED_REFUSED, "What you may see cannot be determined. Tell the operator.")
        except StoreDamaged as error:
            _log.error("the history is damaged", reason=str(error))
            self._fail(Kind.INTERNAL, "The history of the feed is damaged. Tell the operator.")
        finally:
            self._feed.followers -= 1
            self.start_outliving(self._leave)

    async def _leave(self) -> None:
        if self._entry.seen_s:
            self._entry = msgspec.structs.replace(self._entry, active=False)
            await self._note()

    async def _follow(self) -> None:
        await self._feed.until(lambda state: state.filled)
        step: Step = self._begin
        while True:
            try:
                step = await step()
            except TooOld:
                self._tell_to_fetch_anew()
                step = self._initial
            except StorageUnavailable as error:
                if self.worth_a_line("history cannot be read"):
                    _log.warning("the history of the feed cannot be read", reason=str(error))
                await trio.sleep(_AGAIN_S)

    async def _begin(self) -> "Step":
        """Find out where it goes on."""
        await self._feed.look()
        user = self.client.context.user
        owner = None if user is None else user.id
        state, rights = self._feed.state, self._view.fingerprint
        known = await self._clients.register(self._asked.client_id, owner)
        token, wants_all = self._asked.token, self._asked.token.position.commit_lsn == 0
        same = known is not None and (known.epoch, known.rights) == (state.epoch, rights)
        self._entry = Entry(owner, time.time(), state.epoch, rights, active=True)
        if known is not None and same and wants_all and known.progress is not None:
            self._entry = msgspec.structs.replace(self._entry, progress=known.progress)
        if wants_all:
            return self._initial
        if same and token.epoch in (None, state.epoch) and await self._is_known(token.position):
            self._moved_to(token.position)
            return self._catch_up
        self._tell_to_fetch_anew()
        return self._initial

    async def _is_known(self, position: Position) -> bool:
        """Whether a position is one that this history has given, and can go on from."""
        state = self._feed.state
        if position in (Position(state.floor_lsn), state.head):
            return True
        if not Position(state.floor_lsn) < position < state.head:
            return False
        commit = await self._feed.ask(lambda reader: reader.commit(position.commit_lsn))
        return commit is not None and (position.seq == WHOLE or position.seq < commit.changes)

    def _tell_to_fetch_anew(self) -> None:
        message = "Your position is not one of this history, or what came behind it is kept no more. Fetch anew."
        self._say("srv_error", code=str(Kind.REFETCH), message=message, error=message)
        self._entry = msgspec.structs.replace(self._entry, progress=None)
        self._position = None

    # --- initial state ---------------------------------------------------------------------------------------------

    async def _initial(self) -> "Step":
        """Send all rows as they were at one position. Raises TooOld when that is kept no more."""
        state = self._feed.state
        progress = self._entry.progress
        resumes = progress is not None and self._entry.epoch == state.epoch and progress.lsn >= state.floor_lsn
        if progress is None or not resumes:
            progress = Progress(state.head_lsn)
        self._entry = msgspec.structs.replace(
            self._entry, epoch=state.epoch, rights=self._view.fingerprint, lsn=0, progress=progress
        )
        at = Position(progress.lsn)
        if self._speaker.first:
            self._say("srv_state_change", state="initial", lsn=str(at))
        self._say("srv_init_start", serverLSN=f"{at} (resuming)" if resumes else str(at), epoch=state.epoch)
        for table in state.tables:
            if table in self._view.sights and table not in progress.done:
                progress = await self._send_table(state.epoch, progress, table)
        await self._say_and_wait(FEED_INIT_ACK_S, ("processed",), "srv_init_complete", serverLSN=str(at))
        self._sent = at
        self._moved_to(at)
        await self._note()
        return self._catch_up

    async def _send_table(self, epoch: str, progress: Progress, table: str) -> Progress:
        name = self._speaker.table_in_sequence(table)
        after_key = progress.after_key if progress.table == table else ""
        chunk, total, now_us = 0, 0, time.time_ns() // 1000
        while True:
            await self.outbox.low()
            page = await self._page(epoch, table, progress.lsn, after_key)
            changes = await self._as_inserts(epoch, page, now_us)
            if changes or (not page and not chunk):
                chunk += 1
                total += len(changes)
                await self._say_and_wait(
                    FEED_INIT_ACK_S,
                    ("init", name, chunk),
                    "srv_init_changes",
                    changes=changes,
                    sequence={"table": name, "chunk": chunk, "total": total},
                )
            if not page:
                break
            after_key = page[-1].key
            progress = msgspec.structs.replace(progress, table=table, after_key=after_key)
            await self._note_progress(progress)
        progress = msgspec.structs.replace(progress, done=(*progress.done, table), table="", after_key="")
        await self._note_progress(progress)
        return progress

    async def _page(self, epoch: str, table: str, lsn: int, after_key: str) -> list[Stored]:
        return await self._feed.ask(
            lambda reader: reader.page(epoch, table, lsn, after_key, FEED_PAGE_CHANGES, FEED_PAGE_BYTES)
        )

    async def _as_inserts(self, epoch: str, page: list[Stored], now_us: int) -> list[Mapping[str, Any]]:
        changes = []
        for stored in page:
            relation = await self._feed.relation(epoch, stored.relation)
            if self._view.sees(relation, stored.row):
                data = messages.data_of(relation, stored.row, self._view.columns(relation.table))
                updated = messages.updated_at(relation, stored.row, now_us)
                changes.append(messages.change(relation.table, "i", data, updated, None))
        return changes

    async def _note_progress(self, progress: Progress) -> None:
        self._entry = msgspec.structs.replace(self._entry, progress=progress)
        await self._note()

    # --- what came behind ------------------------------------------------------------------------------------------

    async def _catch_up(self) -> "Step":
        """Send what was committed until now, each chunk when the one before was acknowledged."""
        position, head, epoch = self._position_now(), self._feed.state.head, self._epoch_now()
        if position.seq == WHOLE:
            self._sent = position
        else:
            self._sent = Position(await self._feed.ask(lambda reader: reader.commit_before(position.commit_lsn)))
        beginning, chunk, count = self._sent, 0, 0
        if self._speaker.first:
            self._say("srv_state_change", state="catchup" if position < head else "live", lsn=str(beginning))
        while position < head:
            await self.outbox.low()
            page = await self._feed.changes(epoch, position, head.commit_lsn)
            position = _behind(page) if page.changes else head
            changes = await self._seen_changes(epoch, page)
            self._sent = self._whole_before(page)
            if changes:
                chunk += 1
                count += len(changes)
                await self._say_and_wait(
                    FEED_CATCHUP_ACK_S,
                    ("catchup", chunk),
                    self._speaker.catchup_kind,
                    **self._described(page, changes, position),
                    sequence={"chunk": chunk, "total": count},
                )
            self._moved_to(position)
            if changes:
                await self._note()
        self._told = self._sent
        told = {"startLSN": str(beginning), "finalLSN": str(self._sent), "changeCount": count, "success": True}
        kind = self._speaker.completed_kind if count or self._speaker.first else "srv_live_start"
        self._say(kind, **told, lastLSN=str(self._sent))
        await self._note()
        return self._live

    async def _live(self) -> "Step":
        """Send what is committed next, without waiting for an acknowledgement."""
        position, epoch = self._position_now(), self._epoch_now()
        if self._feed.state.head <= position:
            await self._wait_for_more(position)
            return self._live
        await self.outbox.low()
        page = await self._feed.changes(epoch, position, self._feed.state.head_lsn)
        changes = await self._seen_changes(epoch, page)
        self._sent = max(self._sent, self._whole_before(page))
        self._position = _behind(page) if page.changes else self._feed.state.head
        if changes:
            self._told = self._sent
            sequence = {"chunk": 1, "total": len(changes)}
            self._say(self._speaker.live_kind, **self._described(page, changes, self._position), sequence=sequence)
        return self._live

    def _described(self, page: ChangePage, changes: list[Mapping[str, Any]], position: Position) -> dict[str, Any]:
        """`lastLSN` is behind a whole commit always; `position` may be inside of one, then `whole` is false."""
        return {"changes": changes, "lastLSN": str(self._sent), "position": str(position), "whole": page.whole}

    async def _wait_for_more(self, position: Position) -> None:
        """Wait for the next commit; a client that may see nothing of many is told how far it has come."""
        epoch = self._feed.state.epoch
        with trio.move_on_after(FEED_ADVANCE_S):
            await self._feed.until(lambda state: state.head > position or state.epoch != epoch)
            return
        if self._sent > self._told:
            self._told = self._sent
            if self._speaker.first:
                self._say("srv_lsn_update", lsn=str(self._sent))
            else:
                self._say("srv_live_changes", changes=[], lastLSN=str(self._sent), sequence={"chunk": 1, "total": 0})

    async def _seen_changes(self, epoch: str, page: ChangePage) -> list[Mapping[str, Any]]:
        """What the changes are for this client."""
        seen = []
        for number, change in enumerate(page.changes):
            relation = await self._feed.relation(epoch, change.relation)
            if relation.table not in self._view.sights:
                continue
            old_relation = relation
            if change.old_relation is not None and change.old_relation != change.relation:
                old_relation = await self._feed.relation(epoch, change.old_relation)
            was = self._view.sees(old_relation, change.old)
            now = self._view.sees(relation, change.row)
            if not (was or now):
                continue
            operation = "u" if was and now else "i" if now else "d"
            row, shape = (change.row, relation) if now else (change.old, old_relation)
            assert row is not None
            columns = self._view.columns(relation.table)
            data = page.data.get((number, now, columns))
            if data is None:
                data = page.data[number, now, columns] = messages.data_of(shape, row, columns, key_only=not now)
            lsn = change.position.commit_lsn
            updated = messages.updated_at(shape, row, page.times[lsn])
            seen.append(messages.change(relation.table, operation, data, updated, lsn_text(lsn)))
        return seen

    def _epoch_now(self) -> str:
        """The epoch of its position. Raises TooOld when there is another one by now."""
        if self._feed.state.epoch != self._entry.epoch:
            raise TooOld
        return self._entry.epoch

    def _position_now(self) -> Position:
        if self._position is None:
            raise TooOld
        return self._position

    def _whole_before(self, page: ChangePage) -> Position:
        """Behind the last commit of which the client will have everything with this page."""
        if not page.changes:
            return self._sent
        last = page.changes[-1].position.commit_lsn
        if page.whole:
            return Position(last)
        earlier = [change.position.commit_lsn for change in page.changes if change.position.commit_lsn != last]
        return Position(earlier[-1]) if earlier else self._sent

    # --- its position ----------------------------------------------------------------------------------------------

    def _moved_to(self, position: Position) -> None:
        """It has everything up to here, and said so."""
        self._entry = msgspec.structs.replace(self._entry, lsn=position.commit_lsn, seq=position.seq, progress=None)
        self._position = max(position, self._position or position)

    async def _note(self) -> None:
        """Remember it. When that cannot be done now, the client may have to fetch anew later, and nothing is lost."""
        try:
            await self._clients.note(self._asked.client_id, self._entry)
        except StorageUnavailable as error:
            if self.worth_a_line("position not noted"):
                _log.warning("the position of a client was not noted", reason=str(error))


Step = Callable[[], Awaitable["Step"]]
"""What a client needs next, each told by the one before."""


def _behind(page: ChangePage) -> Position:
    """The position behind a page."""
    last = page.changes[-1].position
    return Position(last.commit_lsn) if page.whole else last
