"""What is sent to a receiver, with an id that stays the same however often it is sent, and what becomes of an attempt.

Owns the bodies. Events are spliced in as they are stored, so `args` are sent byte for byte as they came; a body is made
of what is stored alone, so that each attempt sends the same.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Literal

import attrs
import msgspec

from livesync_trio.model import LogState, StoredEvent, StoreId

Kind = Literal["store.events", "store.reset", "store.deleted", "webhook.test"]

_ID_CHARACTERS: Final = 32


@attrs.frozen
class Message:
    """One message. `events` is how many it holds."""

    id: str
    body: bytes
    events: int = 0


def of_events(
    webhook_id: str, store_id: StoreId, state: LogState, span: tuple[int, int], events: Sequence[StoredEvent]
) -> Message:
    """All wanted events of a store with numbers above the first of `span`, up to the second."""
    after, up_to = span
    items = b",".join([b'%b,"createdAt":"%b"}' % (event.json[:-1], event.created_at.encode()) for event in events])
    about = {"storeId": store_id, "backendId": state.backend_id, "after": after, "upTo": up_to}
    data = b'%b,"events":[%b]}' % (msgspec.json.encode(about)[:-1], items)
    message_id = _id(webhook_id, store_id, state.backend_id, str(after), str(up_to))
    return Message(message_id, _body("store.events", events[-1].created_at, data), len(events))


def of_reset(webhook_id: str, store_id: StoreId, state: LogState, before: str, created_at: str) -> Message:
    """The log of a store is another one now, made at `created_at`; `before` is the identity that is gone."""
    about = {"storeId": store_id, "backendId": state.backend_id, "previousBackendId": before}
    message_id = _id(webhook_id, store_id, state.backend_id, before, str(state.log_id))
    return Message(message_id, _body("store.reset", created_at, msgspec.json.encode(about)))


def of_deletion(webhook_id: str, store_id: StoreId, before: str, at: str) -> Message:
    """There is no such store any more; `before` is the identity that is gone, `at` when that was found."""
    about = {"storeId": store_id, "previousBackendId": before}
    return Message(
        _id(webhook_id, store_id, "deleted", before, at), _body("store.deleted", at, msgspec.json.encode(about))
    )


def of_test(webhook_id: str, at: str) -> Message:
    """A message that an operator asked for."""
    return Message(_id(webhook_id, at), _body("webhook.test", at, msgspec.json.encode({"webhook": webhook_id})))


def _body(kind: Kind, timestamp: str, data: bytes) -> bytes:
    return b'{"type":"%b","timestamp":"%b","data":%b}' % (kind.encode(), timestamp.encode(), data)


def _id(*parts: str) -> str:
    """The same for the same message, whoever sends it."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"msg_{digest[:_ID_CHARACTERS]}"


@attrs.frozen
class Taken:
    """The receiver has it."""

    status: int


@attrs.frozen
class Failed:
    """The receiver has it not, as far as anybody knows.

    Attributes:
        reason: why, for an operator.
        retry_after_s: how long the receiver asks to be left alone, if it does.
        too_large: it says that the message is too large.
    """

    reason: str
    retry_after_s: float | None = None
    too_large: bool = False


@attrs.frozen
class Gone:
    """The receiver wants nothing any more (410)."""


Answer = Taken | Failed | Gone


class Wrong(Exception):
    """What an operator asked for cannot be done; the message says why."""
