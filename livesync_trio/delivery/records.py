"""What deliveries keep in the database: webhooks made at run time, and how far each store was delivered to each.

Owns the records' form. A cursor moves after a receiver has taken what lies behind it, never before; who moves it must
know its version, so that a server that has lost its lease, or a replay meanwhile, moves nothing.
"""

import enum
from typing import Any, Final

import attrs
import msgspec

from livesync_trio.config.declaring import Secret
from livesync_trio.config.webhooks import Webhook
from livesync_trio.model import ROOT_SEQ_NUM, BackendId, LogState
from livesync_trio.storage.base import NO_RECORD, Record

DEFINITIONS: Final = "webhook"
"""Kind of the records that define webhooks made at run time; the key is the webhook's id."""

STANDINGS: Final = "webhook-standing"
"""Kind of the records that say how webhooks are; the key is the webhook's id."""


def cursors_of(webhook_id: str) -> str:
    """Kind of the records with a webhook's cursors; the key is the store."""
    return f"webhook-cursor/{webhook_id}"


class Mode(enum.StrEnum):
    """How a webhook is.

    Attributes:
        STARTING: a webhook "from now" that has not noted the heads of all stores yet; nothing is delivered.
        DELIVERING: events are delivered as they come.
        PAUSED: an operator has stopped it; it goes on where it was.
        GONE: its receiver said 410: stopped until an operator starts it again.
    """

    STARTING = "starting"
    DELIVERING = "delivering"
    PAUSED = "paused"
    GONE = "gone"


class Place(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """How far one store was delivered.

    Attributes:
        backend_id: identity of the log; None: nothing was, not even that there is one.
        seq_num: number of the last event the receiver has, or that it does not want.
        attempts: failed ones in a row, for what comes next.
        up_to: number of the last event of the message that failed, so that the next attempt sends the same; 0: any.
        next_at: when it is tried again, in seconds of the Unix epoch.
        parked: it is not tried again before an operator says so.
        reason: why the last attempt failed.
        gone_at: when it was found that there is no such store any more, likewise; 0: there is.
    """

    backend_id: str | None = None
    seq_num: int = ROOT_SEQ_NUM
    attempts: int = 0
    up_to: int = 0
    next_at: float = 0.0
    parked: bool = False
    reason: str = ""
    gone_at: float = 0.0

    @classmethod
    def at_head(cls, state: LogState) -> "Place":
        """Everything there is was delivered, or is not wanted."""
        return cls(state.backend_id, state.head)

    def covers(self, state: LogState) -> bool:
        """Whether nothing of a log is left to deliver."""
        if self.backend_id is None:
            return not state.event_count
        return (self.backend_id, self.seq_num) == (state.backend_id, state.head)

    def lost(self, state: LogState) -> bool:
        """Whether the log is another one than that of which something was delivered, or has lost its end."""
        return self.backend_id is not None and (self.backend_id != state.backend_id or self.seq_num > state.head)

    def moved(self, seq_num: int) -> "Place":
        """The same log, delivered up to a number."""
        return Place(self.backend_id, seq_num)

    def of_log(self, backend_id: BackendId) -> "Place":
        """Another log, of which nothing was delivered yet."""
        return Place(backend_id)


class Standing(msgspec.Struct, frozen=True):
    """How a webhook is, durably."""

    mode: Mode


@attrs.frozen
class Cursor:
    """A place as it is kept. `version` is that of its record; `NO_RECORD`: there is none."""

    place: Place
    version: int = NO_RECORD

    @classmethod
    def of(cls, record: Record | None) -> "Cursor":
        """Read a record. Raises msgspec.ValidationError for one that is not ours."""
        return cls(Place()) if record is None else cls(_places.decode(record.value), record.version)


_places = msgspec.json.Decoder(Place)
_standings = msgspec.json.Decoder(Standing)


def standing_of(record: Record | None) -> Standing | None:
    """How a webhook is; None for one that never was. Raises msgspec.ValidationError."""
    return None if record is None else _standings.decode(record.value)


def as_value(value: Place | Standing) -> bytes:
    """What is kept in a record."""
    return msgspec.json.encode(value)


def read_definition(value: bytes) -> Webhook:
    """What `written` wrote. Raises ValueError (msgspec's errors are some)."""
    return from_plain(msgspec.json.decode(value, type=dict[str, Any]))


def written(webhook: Webhook) -> bytes:
    """A webhook with its secrets, for the database and nothing else."""
    plain = {
        "id": webhook.id,
        "url": webhook.url,
        "secret": webhook.secret.reveal(),
        "old_secret": None if webhook.old_secret is None else webhook.old_secret.reveal(),
        "stores": webhook.stores,
        "events": webhook.events,
        "headers": {name: value.reveal() for name, value in webhook.headers.items()},
        "batch": webhook.batch,
        "start": webhook.start,
    }
    return msgspec.json.encode(plain)


def from_plain(plain: dict[str, Any]) -> Webhook:
    """A webhook of texts and numbers. Raises ValueError when something of it is not usable."""
    given = dict(plain)
    for name in ("secret", "old_secret"):
        if given.get(name) is not None:
            given[name] = Secret(given[name])
    try:
        return Webhook(**given)
    except TypeError as error:
        raise ValueError(f"it is no webhook: {error}") from None
