"""The client's half of generation 0.3: requests written, answers read (SPEC section 5)."""

import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from livesync_trio.errors import Kind, Refusal, ServerAhead
from livesync_trio.wire.answers import ALIVE, Answer, Done, Event, HardPageItem, PageItem, Pages, PulledPage
from livesync_trio.wire.reading import Restore, Unreadable, read

# --- requests --------------------------------------------------------------------------------------------------------

PING: Final = b'{"_tag":"WSMessage.Ping","requestId":"ping"}'


def pull(request_id: int, after: int) -> bytes:
    """Ask for history, and for every broadcast after it (SPEC 5.3)."""
    cursor = b',"cursor":%d' % after if after else b""
    return b'{"_tag":"WSMessage.PullReq","requestId":"%d"%b}' % (request_id, cursor)


def push(request_id: int, events: Sequence[bytes]) -> bytes:
    """Ask for a batch to be appended; `events` are the texts of its events."""
    return b'{"_tag":"WSMessage.PushReq","requestId":"%d","batch":[%b]}' % (request_id, b",".join(events))


# --- answers ---------------------------------------------------------------------------------------------------------


class _Context(msgspec.Struct):
    context: Literal["pull", "push"]
    requestId: str  # noqa: N815 -- the wire's names


class _Envelope(msgspec.Struct, rename={"kind": "_tag"}):
    kind: str
    requestId: str | _Context | UnsetType = UNSET  # noqa: N815
    batch: Raw | UnsetType = UNSET
    remaining: int = 0
    message: str = ""


_envelope: Final = msgspec.json.Decoder(_Envelope)
_items: Final = msgspec.json.Decoder(list[PageItem])
_hard_items: Final = msgspec.json.Decoder(list[HardPageItem])
_BEHIND: Final = re.compile(r"Invalid parent event number\. Received e(-?\d{1,16}) but expected e(-?\d{1,16})")


def read_answer(text: bytes) -> Answer:
    """Read one message of a server. As the real client does, what cannot be read is dropped."""
    try:
        envelope, restore = read(_envelope, text)
    except Unreadable:
        return ALIVE
    match envelope.kind, envelope.requestId:
        case "WSMessage.PullRes", _Context(context="pull", requestId=request_id):
            return _pages(envelope, restore, request_id)
        case "WSMessage.PullRes", _Context():
            return _pages(envelope, restore, None)
        case "WSMessage.PushAck", str(request_id):
            return Done(request_id)
        case "WSMessage.Error", str(request_id):
            return Done(request_id, _refusal(envelope.message))
    return ALIVE


def _pages(envelope: _Envelope, restore: Restore, request_id: str | None) -> Answer:
    batch = envelope.batch
    if batch is UNSET:
        return ALIVE
    remaining = envelope.remaining

    def read_pages() -> list[PulledPage]:
        return [PulledPage(_events(batch, restore), remaining, asked_for=request_id is not None)]

    return Pages(request_id, len(batch), read_pages)


def _events(batch: Raw, restore: Restore) -> list[Event]:
    if restore is bytes:  # nothing is masked
        try:
            return [item.event() for item in _items.decode(batch)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # strings or numbers that only the careful way reads
    items, restore = read(_hard_items, bytes(batch), restore)
    return [item.event(restore) for item in items]


def _refusal(message: str) -> Refusal:
    """This generation has one error and tells the cases apart by its text (SPEC 5.3)."""
    behind = _BEHIND.search(message)
    if behind is not None:
        return ServerAhead.of(int(behind[2]), int(behind[1]))
    return Refusal(Kind.HOOK_REFUSED, message[:500] or "it gives no reason")
