"""Where a reader stands, as one text: `17.identity`. ETags and the ids of server-sent events are made of it.

The identity is percent-encoded, so that the text fits into a header; without it, it is that of whichever log is there.
"""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, unquote

from livesync_trio.limits import LAST_EVENT_ID_MAX_DIGITS, SEQ_NUM_MAX
from livesync_trio.model import BackendId, Cursor

_POSITION: Final = re.compile(rf"([0-9]{{1,{LAST_EVENT_ID_MAX_DIGITS}}})(?:\.([A-Za-z0-9._~%-]+))?", re.ASCII)
_TAG: Final = re.compile(r'(?:W/)?"([^"]*)"')


def position(cursor: Cursor) -> str:
    """A position as text."""
    identity = quote(cursor.backend_id or "", safe="")
    return f"{cursor.seq_num}.{identity}" if identity else str(cursor.seq_num)


def cursor_of(text: str) -> Cursor | None:
    """The position that a text names; None when it names none."""
    found = _POSITION.fullmatch(text)
    if found is None or int(found[1]) > SEQ_NUM_MAX:
        return None
    return Cursor(int(found[1]), BackendId(unquote(found[2])) if found[2] else None)


def etag(cursor: Cursor) -> str:
    """The entity tag of a store at a position."""
    return f'"{position(cursor)}"'


def tags_in(header: str) -> Iterator[str]:
    """What stands between the quotes of a list of entity tags (RFC 9110, 8.8.3)."""
    return (found[1] for found in _TAG.finditer(header))
