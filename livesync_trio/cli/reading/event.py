"""One event as a command prints it: its JSON text as it is kept, and what of it a person wants to see."""

from typing import Final

import attrs
import msgspec

from livesync_trio.model import StoredEvent
from livesync_trio.wire.reading import plain, read


class _Members(msgspec.Struct):
    seqNum: int  # noqa: N815 -- the wire's names
    parentSeqNum: int  # noqa: N815
    name: msgspec.Raw
    args: msgspec.Raw
    clientId: msgspec.Raw  # noqa: N815
    sessionId: msgspec.Raw  # noqa: N815
    createdAt: str = ""  # noqa: N815
    user: str | None = None


_members: Final = msgspec.json.Decoder(_Members)


@attrs.frozen
class Event:
    """One event.

    Attributes:
        text: JSON with the members of the wire, `createdAt`, and `user` where it is known; `args` byte for byte.
        seq_num: its number.
        name: its name.
        args: its arguments, as JSON text.
        client_id: the client that pushed it.
        session_id: that client's session.
        created_at: when it was pushed.
    """

    text: bytes
    seq_num: int
    name: str
    args: str
    client_id: str
    session_id: str
    created_at: str


def read_event(text: bytes) -> Event:
    """Read the text of an event, with `createdAt`."""
    members, restore = read(_members, text)
    name, client_id, session_id = (
        str(plain(restore(raw))) for raw in (members.name, members.clientId, members.sessionId)
    )
    args = restore(members.args).decode()
    return Event(text, members.seqNum, name, args, client_id, session_id, members.createdAt)


def event_of(event: StoredEvent) -> Event:
    """An event as storage gives it."""
    user = b"" if event.user is None else b',"user":%b' % msgspec.json.encode(event.user)
    return read_event(b'%b,"createdAt":"%b"%b}' % (event.json[:-1], event.created_at.encode(), user))
