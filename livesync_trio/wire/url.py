"""The URL of a sync request (SPEC 3.1, 5.1): which store, which payload, which protocol."""

import enum
import re
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote_to_bytes

import attrs

from livesync_trio.limits import STORE_ID_MAX_BYTES
from livesync_trio.model import StoreId
from livesync_trio.wire.reading import Unreadable, plain


@attrs.frozen
class SyncUrl:
    """What a sync URL says.

    Attributes:
        store_id: the store, exactly as given.
        payload: the application's payload as Python values, None when absent.
        protocol: `ws` and `http` for 0.4 and next, `v3` for 0.3.
    """

    store_id: StoreId
    payload: Any
    protocol: Literal["ws", "http", "v3"]


PRESENCE_HEADER: Final = "livesync-store"
"""In the answer to a plain GET of a WebSocket URL: whether the store is there. To pull would make it."""


class Presence(enum.Enum):
    """Whether a server has a store; `UNTOLD` where it does not say, as servers that are not livesync."""

    PRESENT = "present"
    ABSENT = "absent"
    UNTOLD = "untold"


class BadSyncUrl(ValueError):
    """The URL means to be a sync request but cannot be one. The message says what is wrong with it."""


_FIELDS_MAX: Final = 64
"""Parameters looked at in a query; the clients send three."""

_BAD_PERCENT: Final = re.compile(r"%(?![0-9a-fA-F]{2})")


def parse(target: str) -> SyncUrl | None:
    """Read the target of a request.

    Args:
        target: path and query as in the request line.

    Returns:
        What it says; None when it is not a sync request at all (no `transport`, and not the path of 0.3).

    Raises:
        BadSyncUrl: what is percent-encoded is not UTF-8; `storeId` missing, empty, repeated, too long or with U+0000;
            `payload` unreadable or repeated; `transport` unknown or repeated.
    """
    path, _, query = target.partition("?")
    try:
        # Strictly: two names that become one by replacing what cannot be read would be one store.
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX)
    except UnicodeDecodeError:
        raise BadSyncUrl("the query is not UTF-8") from None
    except ValueError:
        raise BadSyncUrl(f"more than {_FIELDS_MAX} query parameters") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    protocol = _protocol(path, fields)
    if protocol is None:
        return None
    return SyncUrl(_store_id(fields), _payload(fields), protocol)


def _protocol(path: str, fields: dict[str, list[str]]) -> Literal["ws", "http", "v3"] | None:
    if "transport" in fields:
        match fields["transport"]:
            case ["ws"]:
                return "ws"
            case ["http"]:
                return "http"
            case _:
                raise BadSyncUrl("`transport` must be given once and be `ws` or `http`")
    return "v3" if path.endswith("/websocket") else None


def _store_id(fields: dict[str, list[str]]) -> StoreId:
    match fields.get("storeId", []):
        case [""] | []:
            raise BadSyncUrl("`storeId` is missing or empty")
        case [one]:
            if "\0" in one:
                raise BadSyncUrl("`storeId` must not contain U+0000")
            if len(one.encode()) > STORE_ID_MAX_BYTES:
                raise BadSyncUrl(f"`storeId` is longer than {STORE_ID_MAX_BYTES} bytes")
            return StoreId(one)
        case _:
            raise BadSyncUrl("`storeId` must be given once")


def _payload(fields: dict[str, list[str]]) -> Any:
    match fields.get("payload", []):
        case []:
            return None
        case [one]:
            if _BAD_PERCENT.search(one):
                raise BadSyncUrl("`payload` is not percent-encoded JSON")
            try:
                return plain(unquote_to_bytes(one))
            except (Unreadable, UnicodeDecodeError):
                raise BadSyncUrl("`payload` is not percent-encoded JSON") from None
        case _:
            raise BadSyncUrl("`payload` must be given at most once")
