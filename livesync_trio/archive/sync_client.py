"""A small client of generation 0.4: pulls a history, pushes a batch, over a WebSocket, blocking (SPEC section 3).

Owns the frames a command sends. For moving in from another server, and for the probe of `livesync doctor`; an
application uses LiveStore's own client.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

import msgspec
from msgspec import UNSET, Raw, UnsetType
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from livesync_trio.archive.entries import Broken, Entry, checked_text, entry_of_text, moment_of
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ARCHIVE_LINE_MAX_BYTES, PULL_ANSWER_LIMIT_S, PULL_CLOSE_LIMIT_S
from livesync_trio.model import BackendId, StoreId
from livesync_trio.wire.reading import Unreadable, plain, read
from livesync_trio.wire.surrogates import Restore

_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

RESET: Final = "it was reset or replaced while it was read: begin again"


class _Metadata(msgspec.Struct, frozen=True):
    createdAt: str  # noqa: N815 -- the wire's names


class _Option(msgspec.Struct, frozen=True):
    value: _Metadata | None = None


class _Item(msgspec.Struct):
    eventEncoded: Raw  # noqa: N815
    metadata: _Option = _Option()


class _Page(msgspec.Struct):
    batch: list[_Item]
    backendId: Raw  # noqa: N815


class _Message(msgspec.Struct, rename={"kind": "_tag"}):
    kind: str
    requestId: str | int | UnsetType = UNSET  # noqa: N815
    values: list[_Page] = []
    exit: Raw | UnsetType = UNSET
    defect: Raw | UnsetType = UNSET


_message: Final = msgspec.json.Decoder(_Message)


class SyncClient:
    """One connection to one store of a server; a context manager."""

    def __init__(self, url: str, store_id: StoreId, payload: Any = None) -> None:
        """Connect.

        Args:
            url: of the server, as an application has it: http, https, ws or wss.
            store_id: the store.
            payload: what the application sends as `syncPayload`, None for nothing.

        Raises:
            CommandError: the server is not there, or does not let us in.
        """
        self._store_id = store_id
        self._payload = payload
        self._ids = itertools.count()
        self._place = place_of(url)
        self._open = ExitStack()
        self._socket = self._connected(sync_url(url, store_id, payload))

    def _connected(self, url: str) -> ClientConnection:
        try:
            opening = connect(
                url,
                max_size=ARCHIVE_LINE_MAX_BYTES,
                open_timeout=PULL_ANSWER_LIMIT_S,
                close_timeout=PULL_CLOSE_LIMIT_S,
            )
            return self._open.enter_context(opening)
        except InvalidStatus as error:
            text = (error.response.body or b"").decode(errors="replace").strip()[:300]
            raise self._failed(f"it refuses the connection with status {error.response.status_code} {text}") from error
        except (OSError, WebSocketException, TimeoutError) as error:
            shown = str(error) if isinstance(error, OSError) else type(error).__name__  # those hold the whole URL
            raise self._failed(shown or type(error).__name__) from error

    def __enter__(self) -> "SyncClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._open.close()

    def pull(self) -> Iterator[tuple[BackendId, Sequence[Entry]]]:
        """The whole history, page by page: the store's identity, and events.

        Raises:
            Broken: an event is none, or the store was reset meanwhile.
            CommandError: the server refuses, or does not answer.
        """
        request_id = self._request("Pull", {"live": False, "cursor": {"_tag": "None"}})
        while True:
            message, restore = self._answer(request_id)
            if message.kind == "Exit":
                if isinstance(message.exit, Raw) and b"BackendIdMismatchError" in bytes(message.exit):
                    raise Broken(RESET)
                self._check_success(message, restore)
                return
            for page in message.values:
                yield self._identity(restore(page.backendId)), [_entry(item, restore) for item in page.batch]
            self._send({"_tag": "Ack", "requestId": request_id})

    def push(self, events: Sequence[dict[str, Any]], backend_id: str | None = None) -> None:
        """Push a batch and wait until the server says that it is durable.

        Raises:
            CommandError: the server refuses, or does not answer.
        """
        known = {"_tag": "None"} if backend_id is None else {"_tag": "Some", "value": backend_id}
        request_id = self._request("Push", {"batch": list(events), "backendId": known})
        while True:
            message, restore = self._answer(request_id)
            if message.kind == "Exit":
                self._check_success(message, restore)
                return

    # --- frames -----------------------------------------------------------------------------------------------------

    def _request(self, procedure: str, payload: dict[str, Any]) -> str:
        request_id = str(next(self._ids))
        members: dict[str, Any] = {"storeId": self._store_id, **payload}
        if self._payload is not None:
            members["payload"] = self._payload
        request = {"_tag": "Request", "id": request_id, "tag": f"SyncWsRpc.{procedure}", "payload": members}
        self._send({**request, "headers": []})
        return request_id

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.send(json.dumps(message))
        except (OSError, WebSocketException) as error:
            raise self._failed(f"the connection was closed: {error}") from error

    def _answer(self, request_id: str) -> tuple[_Message, Restore]:
        """The next message for a request."""
        while True:
            try:
                text = self._socket.recv(PULL_ANSWER_LIMIT_S)
            except TimeoutError as error:
                raise self._failed(f"it did not answer within {PULL_ANSWER_LIMIT_S:g} s") from error
            except (OSError, WebSocketException) as error:
                raise self._failed(f"the connection was closed: {error}") from error
            try:
                message, restore = read(_message, text.encode() if isinstance(text, str) else text)
            except Unreadable as error:
                raise self._failed(f"it sent what this client does not understand: {error}") from error
            if message.kind == "Defect":
                raise self._failed(f"it reports a defect: {_shown(message.defect, restore)}")
            if message.kind in {"Chunk", "Exit"} and str(message.requestId) == request_id:
                return message, restore

    def _check_success(self, message: _Message, restore: Restore) -> None:
        try:
            exit_ = plain(restore(message.exit)) if isinstance(message.exit, Raw) else {}
        except Unreadable as error:
            raise self._failed(f"it sent what this client does not understand: {error}") from error
        if not isinstance(exit_, dict) or exit_.get("_tag") != "Success":
            raise self._failed(f"it refuses: {json.dumps(exit_)[:500]}")

    def _identity(self, text: bytes) -> BackendId:
        identity = plain(text)
        if not isinstance(identity, str) or not identity:
            raise self._failed("it gives a store no identity that is a text")
        return BackendId(checked_text(identity, "the identity of the store"))

    def _failed(self, why: str) -> CommandError:
        return CommandError(Kind.SERVER_UNREACHABLE, f"{self._place}: {why}.")


def place_of(url: str) -> str:
    """A URL as it may be shown: without user, password, query and fragment."""
    base = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, separator, rest = base.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else base.rpartition("@")[2]


def sync_url(url: str, store_id: StoreId, payload: Any) -> str:
    """The URL that a client asks for (SPEC 3.1). Raises CommandError when it is none."""
    unusable = CommandError(
        Kind.BAD_CONFIG, f"{place_of(url)!r} is not the URL of a sync server: http, https, ws or wss."
    )
    try:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname or parts.port == 0:
            raise unusable
    except ValueError:
        raise unusable from None
    query = f"storeId={quote_plus(store_id)}"
    if payload is not None:
        query += f"&payload={quote_plus(quote(json.dumps(payload), safe=''))}"
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path or "/", f"{query}&transport=ws", ""))


def _entry(item: _Item, restore: Restore) -> Entry:
    if item.metadata.value is None:
        raise Broken("the server does not say when an event was pushed")
    return entry_of_text(restore(item.eventEncoded), moment_of(item.metadata.value.createdAt))


def _shown(raw: Raw | UnsetType, restore: Restore) -> str:
    return restore(raw).decode(errors="replace")[:500] if isinstance(raw, Raw) else "nothing"
