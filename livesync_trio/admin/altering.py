"""What an operator does to a store as a whole: reset, delete, rename, freeze it.

Each is asked of the store's actor, takes its turn among pushes, and is recorded before it is begun.
"""

from typing import Annotated, Protocol

from msgspec import Meta

from livesync_trio.access.store_ids import StoreIdPolicy
from livesync_trio.admin.declaring import Answer, Caller, Request, refused
from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.stores import state_of, unknown
from livesync_trio.errors import Refusal
from livesync_trio.model import StoreId


class ResetStore(Request, frozen=True):
    """Which store to reset; its name twice."""

    store_id: str
    confirm: str


class StoreReset(Answer, frozen=True):
    """The new log of a store."""

    store_id: str
    backend_id: str
    head: int


class DeleteStore(Request, frozen=True):
    """Which store to delete; its name twice."""

    store_id: str
    confirm: str


class StoreDeleted(Answer, frozen=True):
    """The store that is gone."""

    store_id: str


class RenameStore(Request, frozen=True):
    """Which store gets which name; the old name twice."""

    store_id: str
    to: Annotated[str, Meta(min_length=1, description="The new name, exactly as clients will name it.")]
    confirm: str


class StoreRenamed(Answer, frozen=True):
    """The log under its new name; `previous` is the old one."""

    store_id: str
    previous: str
    backend_id: str
    head: int


class FreezeStore(Request, frozen=True):
    """Which store is frozen, or thawed with `frozen` false; its name twice."""

    store_id: str
    frozen: bool
    confirm: str


class StoreFrozen(Answer, frozen=True):
    """The store, and whether it takes events."""

    store_id: str
    frozen: bool
    head: int


async def reset_store(server: ServerView, asked: ResetStore, caller: Caller) -> StoreReset | Refusal:
    """Give a store a new identity and an empty log.

    Through its mailbox; works on a damaged store, too.
    """
    store_id = await begun(server, asked, caller, "reset")
    if isinstance(store_id, Refusal):
        return store_id
    answer = await server.open_store(store_id).reset()
    if isinstance(answer, Refusal):
        return answer
    return StoreReset(store_id=store_id, backend_id=answer.backend_id, head=answer.head)


async def delete_store(server: ServerView, asked: DeleteStore, caller: Caller) -> StoreDeleted | Refusal:
    """Delete a store with all of its events.

    Its clients start over; whoever opens it again makes a new, empty one. Works on a damaged store, too.
    """
    store_id = await begun(server, asked, caller, "delete")
    if isinstance(store_id, Refusal):
        return store_id
    answer = await server.open_store(store_id).delete()
    return answer if isinstance(answer, Refusal) else StoreDeleted(store_id=store_id)


async def rename_store(server: ServerView, asked: RenameStore, caller: Caller) -> StoreRenamed | Refusal:
    """Give a store another name, under which there are no events yet.

    It keeps its events and its identity. Clients of the old name start over, as of a store that was deleted.
    """
    to = StoreId(asked.to)
    if (unfit := StoreIdPolicy().refusal(to)) is not None:
        return refused(unfit.message)
    if to == asked.store_id:
        return refused("That is the name it has. Nothing was changed.")
    store_id = await begun(server, asked, caller, "rename", to=to)
    if isinstance(store_id, Refusal):
        return store_id
    answer = await server.open_store(store_id).rename(to)
    if isinstance(answer, Refusal):
        return answer
    return StoreRenamed(store_id=to, previous=store_id, backend_id=answer.backend_id, head=answer.head)


async def freeze_store(server: ServerView, asked: FreezeStore, caller: Caller) -> StoreFrozen | Refusal:
    """Let a store take no more events, or take them again.

    Clients keep what they could not push, and try again until it is thawed.
    """
    store_id = await begun(server, asked, caller, "freeze" if asked.frozen else "thaw")
    if isinstance(store_id, Refusal):
        return store_id
    answer = await server.open_store(store_id).freeze(frozen=asked.frozen)
    if isinstance(answer, Refusal):
        return answer
    return StoreFrozen(store_id=store_id, frozen=answer.frozen, head=answer.head)


class Confirmed(Protocol):
    """A request that names a store twice."""

    @property
    def store_id(self) -> str:
        """The store."""

    @property
    def confirm(self) -> str:
        """Its name again."""


async def begun(server: ServerView, asked: Confirmed, caller: Caller, act: str, **more: str) -> StoreId | Refusal:
    """The store, which is there and was meant, once it is recorded what is done to it."""
    store_id = StoreId(asked.store_id)
    if asked.confirm != store_id:
        return refused("`confirm` must repeat `storeId`. Nothing was changed.")
    if await state_of(server, store_id) is None:
        return unknown(store_id)
    server.audit.record(act, store=store_id, address=caller.address, user=caller.user, via="control plane", **more)
    return store_id
