"""What is known of a store beside its events, and who is connected to it."""

import datetime

import msgspec
import trio

from livesync_trio.access.client import Client
from livesync_trio.api.declaring import EVENT_STREAM, Call, Whole
from livesync_trio.api.events import squeezed
from livesync_trio.api.positions import etag
from livesync_trio.api.server import ApiServer
from livesync_trio.api.structs import Nothing, Session, Sessions, Store
from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import PERSISTENCE_FORMAT_VERSION
from livesync_trio.model import StoreId
from livesync_trio.openapi.queries import wire_time


async def show_store(_server: ApiServer, asked: Nothing, call: Call) -> Whole | Refusal:  # noqa: ARG001
    """A store: its head, its identity, how much is in it, since when."""
    summary = await call.handle.summary()
    if summary is None:
        return unknown(call.store_id)
    state = summary.state
    told = Store(
        store_id=call.store_id,
        backend_id=state.backend_id,
        head=state.head,
        events=state.event_count,
        text_bytes=summary.text_bytes,
        created_at=summary.created_at,
        last_sync_at=summary.last_push_at,
        format_version=PERSISTENCE_FORMAT_VERSION,
    )
    return Whole(msgspec.json.encode(told), etag=etag(state.cursor))


async def list_sessions(server: ApiServer, asked: Nothing, call: Call) -> Whole:  # noqa: ARG001
    """Who is connected to a store at this server: since when, and how."""
    found = [
        (peer.since_s, _session(peer.client, peer.since_s, str(peer.generation or "unknown"), peer.number))
        for peer in server.peers
        if peer.client.context.store_id == call.store_id
    ]
    found += [
        (since_s, _session(client, since_s, EVENT_STREAM, None))
        for client, since_s in server.following.values()
        if client.context.store_id == call.store_id
    ]
    told = Sessions(sessions=[session for _, session in sorted(found, key=lambda one: one[0])])
    return squeezed(Whole(msgspec.json.encode(told)), wanted=call.gzip)


def unknown(store_id: StoreId) -> Refusal:
    """Nobody has used a store of this name."""
    return Refusal(Kind.NO_SUCH_STORE, f"There is no store {store_id!r}: it is made when somebody writes to it.")


def _session(client: Client, since_s: float, protocol: str, number: int | None) -> Session:
    user = client.context.user
    ago = datetime.timedelta(seconds=trio.current_time() - since_s)
    return Session(
        connection=number,
        protocol=protocol,
        user=None if user is None else user.id.encode(errors="replace").decode(),
        since=wire_time(datetime.datetime.now(datetime.UTC) - ago),
    )
