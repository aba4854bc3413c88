"""A log is written anew while the server runs: up to an event, or with other `args` in some events.

Owns the way there: the new log is written beside the old one by a thread of its own, and takes its place in the order
of the store's mailbox. What is pushed meanwhile to a store of which events are erased is written as well; if pushes
come faster than that, the operator freezes the store first.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

import msgspec
import trio
from msgspec import Meta

from livesync_trio.admin.altering import begun
from livesync_trio.admin.declaring import Answer, Caller, Request, refused
from livesync_trio.admin.server_view import ServerView
from livesync_trio.archive.rewriting import Erase, Rewind, Rewriting, adoption, staged_anew
from livesync_trio.archive.staging import STAGED, Target
from livesync_trio.errors import CommandError, Kind, LogReplaced, Refusal
from livesync_trio.limits import SEQ_NUM_MAX
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage import base
from livesync_trio.storage.base import Appended
from livesync_trio.store.persistence import BulkWriter
from livesync_trio.wire.choice import Choice

REWRITING_ROUNDS: Final = 5
"""How often what was pushed meanwhile is written as well, before the operator is asked to freeze the store."""

CLEARED_LOOK_S: Final = 0.25
CLEARED_LOOKS: Final = 80
"""How often it is looked whether the last byte has gone; then the answer says that this goes on."""

_BUSY: Final = Refusal(Kind.TOO_MANY_REQUESTS, "Another log is being written anew. Wait until that is done.")
_MOVED: Final = Refusal(
    Kind.ALREADY_THERE, "The store is pushed to faster than it is written anew. Freeze it first. Nothing was changed."
)
_REPLACED: Final = Refusal(Kind.ALREADY_THERE, "The store was reset or replaced meanwhile. Nothing was changed.")


class RewindStore(Request, frozen=True):
    """Which store goes back to which event; its name twice."""

    store_id: str
    to: Annotated[int, Meta(ge=0, le=SEQ_NUM_MAX, description="The last event that stays; 0: none does.")]
    confirm: str


class EraseEvents(Request, frozen=True):
    """Which events lose their `args`, and what stands for them; the store's name twice."""

    store_id: str
    confirm: str
    args: Annotated[Any, Meta(description="JSON that stands for the `args` from now on.")]
    events: Annotated[list[int], Meta(max_length=10_000, description="Numbers; none: all that fit.")] = msgspec.field(
        default_factory=list
    )
    name: Annotated[str | None, Meta(description="Events of this name only.")] = None
    client_id: Annotated[str | None, Meta(description="Events of this client only.")] = None
    session_id: Annotated[str | None, Meta(description="Events of this session only.")] = None


class StoreRewritten(Answer, frozen=True):
    """The new log; `overwritten` says whether nothing of the old one is left in the database's files."""

    store_id: str
    backend_id: str
    head: int
    events: int
    overwritten: bool


async def rewind_store(server: ServerView, asked: RewindStore, caller: Caller) -> StoreRewritten | Refusal:
    """Go back to an event: the log ends there, under a new identity, and clients start over.

    Of what came after it nothing is left.
    """
    return await _rewritten(server, asked, caller, "rewind", Rewind(asked.to), to=f"e{asked.to}")


async def erase_events(server: ServerView, asked: EraseEvents, caller: Caller) -> StoreRewritten | Refusal:
    """Replace the `args` of chosen events for good: the log gets a new identity, and clients start over.

    Of what they were nothing is left. Their users and the ids under which they were appended go as well.
    """
    choice = Choice(asked.name, asked.client_id, asked.session_id)
    if not asked.events and choice == Choice():
        return refused("Name events by `events`, `name`, `clientId` or `sessionId`. Nothing was changed.")
    how = Erase(frozenset(asked.events), choice, msgspec.json.encode(asked.args))
    return await _rewritten(server, asked, caller, "erase", how)


async def _rewritten(
    server: ServerView, asked: RewindStore | EraseEvents, caller: Caller, act: str, how: Rewriting, **more: str
) -> StoreRewritten | Refusal:
    if server.rewriting:
        return _BUSY
    store_id = await begun(server, asked, caller, act, **more)
    if isinstance(store_id, Refusal):
        return store_id
    if server.rewriting:  # begun while the database was asked
        return _BUSY
    server.rewriting = True
    try:
        done = await _rewrite(server, store_id, how)
    except (ValueError, CommandError) as error:
        return refused(str(error))
    except LogReplaced:
        return _REPLACED
    finally:
        server.rewriting = False
    if isinstance(done, Refusal):
        return done
    old, state = done
    return StoreRewritten(
        store_id=store_id,
        backend_id=state.backend_id,
        head=state.head,
        events=state.event_count,
        overwritten=await _cleared(server, old),
    )


async def _rewrite(server: ServerView, store_id: StoreId, how: Rewriting) -> tuple[LogState, LogState] | Refusal:
    """The log that went, and the one that is there now.

    Raises:
        NotInLog, Broken, CommandError, LogReplaced, StorageUnavailable, StoreDamaged: nothing was changed.
    """
    handle = server.open_store(store_id)
    staged_id = StoreId(STAGED + store_id)
    answer: base.StoreOutcome | Refusal = _MOVED
    for _ in range(REWRITING_ROUNDS):
        log = await handle.inspect()
        if isinstance(log, Refusal):
            return log
        staged = await server.readers.ask(partial(_staged, server.writer, store_id, log, how))
        answer = await handle.alter(partial(_takes_place, store_id, log, staged, how))
        if isinstance(answer, Appended):
            return log, answer.state
        if answer is not _MOVED:
            break
    await server.writer.commit(base.Delete(staged_id))
    return answer if isinstance(answer, Refusal) else _MOVED


def _takes_place(
    store_id: StoreId, log: LogState, staged: LogState, how: Rewriting, now: LogState
) -> base.Adopt | Refusal:
    """Called in the actor's order: what became of the log meanwhile goes with it only if it was to go anyway."""
    if now.log_id != log.log_id:
        return _REPLACED
    if (now.head, now.event_count) != (log.head, log.event_count) and not isinstance(how, Rewind):
        return _MOVED
    return adoption(store_id, staged, now)


def _staged(writer: BulkWriter, store_id: StoreId, log: LogState, how: Rewriting, reader: base.Reader) -> LogState:
    """In a thread, as long as the log is. Writes go through the server's own writer, between those of its clients."""
    return staged_anew(Target(_Bridge(writer), reader), store_id, log, how)


class _Bridge:
    """The server's writer for a thread beside Trio. Implements `base.Writer` as far as a log coming in needs it."""

    def __init__(self, writer: BulkWriter) -> None:
        self._writer = writer

    def commit(self, writes: Sequence[base.Write]) -> list[base.Outcome | Exception]:
        """Appends to one store, or a single write."""
        appends = [write for write in writes if isinstance(write, base.Append)]
        if len(appends) == len(writes):
            return trio.from_thread.run(self._writer.commit_all, appends)
        return [trio.from_thread.run(self._writer.commit, write) for write in writes]

    def prove_writable(self) -> None:
        """The server does."""

    def clear_replaced(self, limit_events: int) -> int:
        """The server does."""
        return 0

    def close(self) -> None:
        """It goes on."""


async def _cleared(server: ServerView, log: LogState) -> bool:
    """Whether nothing is left of a log; waits a while."""
    for _ in range(CLEARED_LOOKS):
        if await server.readers.ask(lambda reader: reader.is_cleared(log)):
            return True
        await trio.sleep(CLEARED_LOOK_S)
    return False
