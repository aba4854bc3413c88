"""The client's half of generation 0.4: requests written, answers read (SPEC section 3).

`client_rpc.read_answer` is to a client what `rpc.decode` is to the server. Over HTTP the same objects travel in a
request's body and in a JSON array.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from livesync_trio.errors import BackendIdMismatch, Kind, Refusal, ServerAhead
from livesync_trio.wire.answers import (
    ALIVE,
    Answer,
    Done,
    HardPageItem,
    PageItem,
    Pages,
    PulledPage,
    Unusable,
    text_of,
)
from livesync_trio.wire.reading import Restore, Unreadable, plain, read

# --- requests --------------------------------------------------------------------------------------------------------

WS: Final = b"SyncWsRpc"
HTTP: Final = b"SyncHttpRpc"
"""Beginnings of the procedures' names, by transport."""

PING: Final = b'{"_tag":"Ping"}'

_NONE: Final = b'{"_tag":"None"}'


def pull(
    request_id: int, store_id: str, payload: bytes | None, after: int, backend_id: str | None, *, live: bool | None
) -> bytes:
    """Ask for history (SPEC 3.3).

    Args:
        request_id: not in use on this connection.
        store_id: the store.
        payload: the application's payload as JSON text, None for nothing.
        after: the last event the client has, 0 for none.
        backend_id: identity under which it has that; without one the whole history comes.
        live: whether to go on with what is pushed later; None over HTTP, where that is not offered.
    """
    cursor = _NONE
    if backend_id is not None:
        value = b'{"backendId":%b,"eventSequenceNumber":%d}' % (text_of(backend_id), after)
        cursor = b'{"_tag":"Some","value":%b}' % value
    procedure = HTTP if live is None else WS
    follow = b"" if live is None else b'"live":%b,' % (b"true" if live else b"false")
    return _request(request_id, procedure + b".Pull", store_id, payload, b'%b"cursor":%b' % (follow, cursor))


def push(
    request_id: int,
    store_id: str,
    payload: bytes | None,
    events: Sequence[bytes],
    backend_id: str | None,
    *,
    transport: bytes = WS,
) -> bytes:
    """Ask for a batch to be appended (SPEC 3.4); `events` are the texts of its events."""
    known = _NONE if backend_id is None else b'{"_tag":"Some","value":%b}' % text_of(backend_id)
    members = b'"batch":[%b],"backendId":%b' % (b",".join(events), known)
    return _request(request_id, transport + b".Push", store_id, payload, members)


def http_ping(request_id: int, store_id: str, payload: bytes | None) -> bytes:
    """Ask over HTTP whether the server is there (SPEC 3.7)."""
    return _request(request_id, HTTP + b".Ping", store_id, payload, b"")


def ack(request_id: str) -> bytes:
    """A chunk arrived: the reference sends the next page of a history only then (SPEC 3.3)."""
    return b'{"_tag":"Ack","requestId":"%b"}' % request_id.encode()


def interrupt(request_id: str) -> bytes:
    """A request is given up."""
    return b'{"_tag":"Interrupt","requestId":"%b"}' % request_id.encode()


def _request(request_id: int, procedure: bytes, store_id: str, payload: bytes | None, members: bytes) -> bytes:
    parts = [b'"storeId":%b' % text_of(store_id)]
    if payload is not None:
        parts.append(b'"payload":%b' % payload)
    if members:
        parts.append(members)
    return b'{"_tag":"Request","id":"%d","tag":"%b","payload":{%b},"headers":[]}' % (
        request_id,
        procedure,
        b",".join(parts),
    )


# --- answers ---------------------------------------------------------------------------------------------------------


class _Envelope(msgspec.Struct, rename={"kind": "_tag"}):
    kind: str
    requestId: str | int | UnsetType = UNSET  # noqa: N815 -- the wire's names
    values: Raw | UnsetType = UNSET
    exit: Raw | UnsetType = UNSET
    defect: Raw | UnsetType = UNSET


class _PageInfo(msgspec.Struct, rename={"kind": "_tag"}):
    kind: str
    remaining: int = 1

    @property
    def left(self) -> int:
        """Events that follow; 1 where nobody knows how many."""
        return 0 if self.kind == "NoMore" else self.remaining


class _Page(msgspec.Struct):
    batch: list[PageItem]
    backendId: str  # noqa: N815
    pageInfo: _PageInfo  # noqa: N815


class _HardPage(msgspec.Struct):
    batch: list[HardPageItem]
    backendId: Raw  # noqa: N815
    pageInfo: _PageInfo  # noqa: N815


_envelope: Final = msgspec.json.Decoder(_Envelope)
_pages: Final = msgspec.json.Decoder(list[_Page])
_hard_pages: Final = msgspec.json.Decoder(list[_HardPage])
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[\[\]{}]', re.DOTALL)


def read_answer(text: bytes) -> Answer:
    """Read one message of a server. Whatever is unknown is only a sign of life, as every client takes it."""
    try:
        envelope, restore = read(_envelope, text)
        match envelope.kind:
            case "Chunk" if isinstance(envelope.values, Raw):
                values = envelope.values
                return Pages(_id(envelope), len(values), lambda: _read_pages(values, restore))
            case "Exit":
                return Done(_id(envelope), _refusal(_values(envelope.exit, restore)))
            case "Defect" | "ClientProtocolError":
                told = text_of(_values(envelope.defect, restore)).decode(errors="replace")[:500]
                return Unusable(f"it reports a defect: {told}")
            case _:
                return ALIVE
    except Unreadable as error:
        return Unusable(f"it sent what this client does not understand: {error}")


def _id(envelope: _Envelope) -> str:
    return "" if envelope.requestId is UNSET else str(envelope.requestId)


def _values(raw: Raw | UnsetType, restore: Restore) -> Any:
    return plain(restore(raw)) if isinstance(raw, Raw) else None


def _read_pages(values: Raw, restore: Restore) -> list[PulledPage]:
    if restore is bytes:  # nothing is masked
        try:
            pages = _pages.decode(values)
            return [
                PulledPage([item.event() for item in page.batch], page.pageInfo.left, page.backendId) for page in pages
            ]
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # strings or numbers that only the careful way reads
    hard_pages, restore = read(_hard_pages, bytes(values), restore)
    return [
        PulledPage(
            [item.event(restore) for item in page.batch], page.pageInfo.left, str(plain(restore(page.backendId)))
        )
        for page in hard_pages
    ]


def _refusal(exit_: Any) -> Refusal | None:
    """Why a request failed; None when it did not."""
    if isinstance(exit_, dict) and exit_.get("_tag") == "Success":
        return None
    cause = exit_.get("cause") if isinstance(exit_, dict) else None
    error = _first_error(cause)
    match error:
        case {"_tag": "ServerAheadError", "minimumExpectedNum": int(head), "providedNum": int(provided)}:
            return ServerAhead.of(head, provided)
        case {"_tag": "BackendIdMismatchError", "expected": str(expected), "received": str(received)}:
            return BackendIdMismatch.of(expected, received)
        case {"_tag": "UnknownError", "cause": {"message": str(message)}, **others}:
            return Refusal(_kind(others.get("note")), message[:500])
        case {"_tag": "UnknownError", "cause": told, **others}:
            return Refusal(_kind(others.get("note")), str(told)[:500])
    return Refusal(_THEIR_OWN, f"it failed with {text_of(exit_).decode(errors='replace')[:500]}")


def _kind(note: Any) -> Kind:
    """Our server names its rule; others refuse for reasons of their own."""
    return _KINDS.get(note, _THEIR_OWN) if isinstance(note, str) else _THEIR_OWN


_KINDS: Final = {str(kind): kind for kind in Kind}
_THEIR_OWN: Final = Kind.HOOK_REFUSED
"""A reason that nobody knows, and that does not pass by itself."""


def _first_error(cause: Any) -> Any:
    """The first error of a cause, which is a tree (0.4) or a list (next); None when it has none."""
    waiting = [cause]
    while waiting:
        match waiting.pop():
            case {"_tag": "Fail", "error": error}:
                return error
            case {"left": left, "right": right}:
                waiting += [right, left]
            case list(several):
                waiting += reversed(several)
    return None


class Splitter:
    """Takes the members out of a JSON array that arrives in pieces: the body of an HTTP answer (SPEC 3.7).

    The whole array may be a store's whole history, so it is never held as one.
    """

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: how large one member may be."""
        self._most_bytes = most_bytes
        self._text = bytearray()
        self._begin = self._looked = self._depth = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; gives the members that are whole now.

        Raises:
            Unreadable: it is no array of objects, or a member is too large.
        """
        self._text += data
        members = []
        for found in _STRUCTURE.finditer(self._text, self._looked):
            token = bytes(found[0][:1])
            if token == b'"' and not found[1]:
                break  # the rest of the string comes later
            self._looked = found.end()
            if self._depth == 0 and token != b"[":
                raise Unreadable("the answer is no JSON array")
            if token in b"[{":
                self._depth += 1
                if self._depth == _MEMBER:
                    self._begin = found.start()
            elif token in b"]}":
                self._depth -= 1
                if self._depth == _MEMBER - 1:
                    members.append(bytes(self._text[self._begin : found.end()]))
        self._forget()
        if len(self._text) > self._most_bytes:
            raise Unreadable(f"one message is larger than {self._most_bytes} bytes")
        return members

    def _forget(self) -> None:
        """Keep what is not done: an open member, or the string that is not closed yet."""
        quote = self._text.find(b'"', self._looked)
        self._looked = len(self._text) if quote < 0 else quote
        done = self._begin if self._depth >= _MEMBER else self._looked
        del self._text[:done]
        self._begin, self._looked = 0, self._looked - done


_MEMBER: Final = 2
"""Depth inside a member of the array."""
