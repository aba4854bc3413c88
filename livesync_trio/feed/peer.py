"""One client of the feed on its connection: understands what arrives; its subscription decides what it is sent."""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import attrs

from livesync_trio.access.client import Client
from livesync_trio.connection.channel import Channel
from livesync_trio.connection.channel import Incoming as Arrived
from livesync_trio.connection.context import ServerContext
from livesync_trio.connection.peer import Peer
from livesync_trio.errors import Kind, Refusal, StoreDamaged
from livesync_trio.feed import messages
from livesync_trio.feed.access import FeedAccess, View
from livesync_trio.feed.actor import Feed
from livesync_trio.feed.clients import Clients, ClientState, Full, Taken
from livesync_trio.feed.conversation import Conversation, NotAcknowledged
from livesync_trio.feed.echoes import OwnWrites
from livesync_trio.feed.filters import BadFilter
from livesync_trio.feed.messages import Incoming
from livesync_trio.feed.position import BadPosition, parse_token
from livesync_trio.feed.subscription import FeedRequest, Subscription
from livesync_trio.telemetry import get_logger

_log = get_logger("feed")

_READ_ONLY = "This feed takes no changes from clients: write to the database that it follows."
_UNCLEAR = "What you may see cannot be determined. Tell the operator."


class WriteSession(Protocol):
    """Where a client hands in what it writes: a `writes.session.WriteSession`."""

    def take(self, incoming: Incoming) -> None:
        """Take a message; never waits."""

    def close(self) -> None:
        """The connection has ended."""


MakeWriteSession = Callable[[Peer, Conversation, Subscription, OwnWrites], WriteSession]


@attrs.frozen
class Served:
    """What serves all clients of a feed.

    Attributes:
        feed: what is followed.
        clients: the registry.
        rules: who sees what, as of now.
        write_session: makes a write session for a client; gives None while nobody may write.
    """

    feed: Feed
    clients: Clients
    rules: Callable[[], FeedAccess]
    write_session: Callable[[], MakeWriteSession | None]


class FeedPeer(Peer):
    """A client that follows the feed over a WebSocket."""

    generation = "feed"

    def __init__(  # noqa: PLR0917 - as `Peer`, and what is served
        self,
        channel: Channel,
        client: Client,
        shared: ServerContext,
        served: Served,
        asked: FeedRequest,
        view: View,
        judged_by: FeedAccess,
    ) -> None:
        """As `Peer`; `view` is what the client may see, as the rules `judged_by` said."""
        super().__init__(channel, client, shared)
        self._served = served
        self._judged_by = judged_by
        user = client.context.user
        self._conversation = Conversation(self.outbox, asked.client_id, asked.dialect)
        self._client_state = ClientState(
            served.clients, asked.client_id, None if user is None else user.id, self.worth_a_line
        )
        own = OwnWrites()
        self._subscription = Subscription(served.feed, self._conversation, self._client_state, asked, view, own)
        self._own = own
        self._write_session: WriteSession | None = None  # until it first writes

    # --- what arrives ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """See `Peer`."""
        self.start_task(self._serve)

    def on_expired(self) -> None:
        """See `Peer`. A filter is about the claims of a token, so it ends with it."""
        self._fail(Kind.TOKEN_EXPIRED, "The token has expired. Come back with a fresh one.")

    def on_end(self) -> None:
        """See `Peer`."""
        if self._write_session is not None:
            self._write_session.close()

    def on_message(self, incoming: Arrived) -> None:
        """See `Peer`."""
        try:
            message = messages.read(incoming.data)
        except ValueError as error:
            self._fail(Kind.BAD_FRAME, str(error))
            return
        match message.type:
            case "clt_init_received":
                self._conversation.acknowledge("init", message.table, message.chunk)
            case "clt_init_processed":
                self._conversation.acknowledge("processed")
            case "clt_catchup_received":
                self._conversation.acknowledge("catchup", message.chunk)
            case "clt_changes_received":
                self._received(message.lastLSN)
            case "clt_heartbeat":
                self._conversation.say("srv_heartbeat", lsn=str(self._client_state.sent))
            case "clt_send_changes":
                self._hand_in(message)
            case _:
                pass  # the original's clients send more than its server ever read

    def _received(self, lsn: str | None) -> None:
        """Live changes have arrived: the position is stored, though not for each of them."""
        try:
            position = parse_token(lsn or "").position
        except BadPosition:
            return
        if self._client_state.acknowledged(position):
            self.start_task(self._note)

    def _hand_in(self, message: Incoming) -> None:
        make = self._served.write_session() if self._write_session is None else None
        if make is not None:
            self._write_session = make(self, self._conversation, self._subscription, self._own)
        if self._write_session is None:
            told = {"code": str(Kind.NOT_ALLOWED), "error": _READ_ONLY, "inReplyTo": message.messageId}
            self._conversation.say("srv_changes_applied", appliedChanges=[], success=False, **told)
        else:
            self._write_session.take(message)

    def _fail(self, kind: Kind, message: str) -> None:
        """Tell the client what is wrong, and close."""
        self._conversation.say("srv_error", code=str(kind), message=message, error=message)
        self.close(kind, message)

    # --- its subscription ------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        followers = self._served.feed.followers
        followers.add(self)
        self.look_at_rights()  # the rules may have changed while it was let in
        try:
            await self._subscription.go(self.worth_a_line)
        except NotAcknowledged as error:
            self._fail(Kind.NOT_ACKNOWLEDGED, str(error))
        except Taken:
            self._fail(Kind.FEED_REFUSED, "This clientId belongs to somebody else.")
        except Full:
            self._fail(Kind.FEED_REFUSED, "The server remembers as many clients as it can. Try again tomorrow.")
        except BadFilter as error:
            _log.warning("a filter cannot be applied", connection=self.number, reason=str(error))
            self._fail(Kind.FEED_REFUSED, _UNCLEAR)
        except StoreDamaged as error:
            _log.error("the history is damaged", reason=str(error))
            self._fail(Kind.INTERNAL, "The history of the feed is damaged. Tell the operator.")
        finally:
            followers.discard(self)
            self.start_outliving(self._leave)

    def look_at_rights(self) -> None:
        """If the rules have changed, ask them anew what this client may see."""
        rules = self._served.rules()
        if rules is self._judged_by:
            return
        self._judged_by = rules

        async def look() -> None:
            try:
                view = await rules.view(self.client.context.user)
            except BadFilter as error:
                _log.error("the hook feed_access gave a filter that cannot be used", reason=str(error))
                self._fail(Kind.FEED_REFUSED, _UNCLEAR)
                return
            if self._judged_by is not rules:
                return  # they have changed again
            if isinstance(view, Refusal):
                self._fail(Kind.FEED_REFUSED, view.message)
            else:
                self._subscription.look_with(view)

        self.start_task(look)

    async def _leave(self) -> None:
        with suppress(Taken):
            await self._client_state.leave()

    async def _note(self) -> None:
        with suppress(Taken):  # its subscription is told so too
            await self._client_state.note()
