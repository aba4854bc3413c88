"""Which events somebody wants to see, by who pushed them and when; read from the text of an event as it is kept.

Owns the choice and the reading of an event's origin, for the control plane and the command line alike.
"""

import attrs
import msgspec

from livesync_trio.model import StoredEvent
from livesync_trio.wire.reading import plain, read


class _Origin(msgspec.Struct):
    """The members by which events are chosen; the others are not looked at."""

    name: str
    clientId: str  # noqa: N815 -- the wire's names
    sessionId: str  # noqa: N815


class _RawOrigin(msgspec.Struct):
    """The same as JSON texts, for strings that no UTF-8 has (lone surrogates)."""

    name: msgspec.Raw
    clientId: msgspec.Raw  # noqa: N815
    sessionId: msgspec.Raw  # noqa: N815


_origins = msgspec.json.Decoder(_Origin)
_raw_origins = msgspec.json.Decoder(_RawOrigin)


def origin_of(event: StoredEvent) -> tuple[str, str, str]:
    """Name, client and session of an event."""
    try:
        origin = _origins.decode(event.json)
    except msgspec.DecodeError:
        raw, restore = read(_raw_origins, event.json)
        name, client_id, session_id = (
            str(plain(restore(member))) for member in (raw.name, raw.clientId, raw.sessionId)
        )
        return name, client_id, session_id
    return origin.name, origin.clientId, origin.sessionId


@attrs.frozen
class Choice:
    """Which events are wanted; None where it does not matter.

    Attributes:
        name: of the event.
        client_id: of the client that pushed it.
        session_id: of its session.
        since: pushed at this moment or later, as `StoredEvent.created_at`.
        until: pushed before this moment.
        user: who pushed it, where that is stored.
    """

    name: str | None = None
    client_id: str | None = None
    session_id: str | None = None
    since: str | None = None
    until: str | None = None
    user: str | None = None

    def takes(self, event: StoredEvent) -> bool:
        """Whether an event is wanted. It is only decoded when its time and user are right and anything else matters."""
        if self.since is not None and event.created_at < self.since:
            return False
        if self.until is not None and event.created_at >= self.until:
            return False
        if self.user is not None and event.user != self.user:
            return False
        wanted = (self.name, self.client_id, self.session_id)
        if wanted == (None, None, None):
            return True
        return all(want is None or want == has for want, has in zip(wanted, origin_of(event), strict=True))
